"""How many steps of a training are left out, and how many are enough to measure. Pure."""

from __future__ import annotations

__all__ = ["LEAST_SLICE_STEPS", "LEAST_STEPS", "SETTLING", "WARM_UP"]

# Fewer steps than these say nothing about the next ones.
LEAST_STEPS = 5

# Steps that are not typical even after the first, which traces the graph.
WARM_UP = 4

# Steps of a slice that are not counted: the first was interrupted by the wait, the second
# finds the processor's caches full of another process's data.
SETTLING = 2

# Steps of a slice that are measured, at least.
LEAST_SLICE_STEPS = 3
