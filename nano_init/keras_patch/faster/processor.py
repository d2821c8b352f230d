"""What the faster paths need to know of the processor that this process runs on."""

from __future__ import annotations

import functools
import os

__all__ = ["has_avx2_kernels", "uses_onednn"]

# oneDNN's levels with AVX2 and without AVX-512.
_AVX2_LEVELS = ("AVX2", "AVX2_VNNI", "AVX2_VNNI_2")


@functools.cache
def has_avx2_kernels() -> bool:
    """Say whether TensorFlow computes with oneDNN's kernels for AVX2.

    That is so on a processor without AVX-512, or below a level that ONEDNN_MAX_CPU_ISA names, if
    oneDNN is switched on: by itself, TensorFlow leaves such a processor to Eigen.
    """
    return uses_onednn() and _level() in _AVX2_LEVELS


def _level() -> str | None:
    from nano_init.machine.probe import probe
    from nano_init.plan.onednn_level import onednn_level

    return onednn_level(probe().isa.level, os.environ)


def uses_onednn() -> bool:
    """Say whether oneDNN is switched on in TensorFlow."""
    try:
        from tensorflow.python.util._pywrap_util_port import IsMklEnabled
    except ImportError:
        return False
    return bool(IsMklEnabled())
