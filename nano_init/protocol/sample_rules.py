"""The number of steps of a training to skip, and the number to measure. Pure."""

from __future__ import annotations

__all__ = ["LEAST_SLICE_STEPS", "LEAST_STEPS", "SETTLING", "WARM_UP"]

# Fewer steps say nothing about later ones.
LEAST_STEPS = 5

# Steps after the first (which traces the graph) that are not typical either.
WARM_UP = 4

# Steps of a slice that are not counted: the wait interrupts the first, and the second finds the
# caches full of another process's data.
SETTLING = 2

# The minimum number of measured steps in a slice.
LEAST_SLICE_STEPS = 3
