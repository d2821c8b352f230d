"""The report of a worker whose program cannot run on several workers."""

from __future__ import annotations

__all__ = ["REFUSED", "REFUSED_STATUS"]

# The fault that the worker reports to its launcher, and the exit status of both.
REFUSED = "refused"
REFUSED_STATUS = 2
