"""Whether the ops of a gradient are recorded, so that they may be differentiated in turn.

A penalty on gradients, a Hessian or a Jacobian differentiates a gradient. There a path takes the
ops of its formula: TensorFlow rewrites the functions of an `If` to differentiate it, and gives the
new ones the same names for each `If` that shares the functions, which fails when they differ
(tensorflow/python/ops/cond_v2.py, `_IfGrad`).
"""

from __future__ import annotations

__all__ = ["is_recorded"]


def is_recorded() -> bool:
    """Say whether a tape or a forward accumulator records the ops that are created now."""
    from tensorflow.python.eager.record import could_possibly_record

    return bool(could_possibly_record())
