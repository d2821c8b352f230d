"""What the faster paths need to know of the processor that this process runs on."""

from __future__ import annotations

import functools
import os

__all__ = [
    "has_amx_kernels",
    "has_avx2_kernels",
    "has_onednn_kernels",
    "is_slow_in_bfloat16",
    "uses_onednn",
]

# oneDNN's levels with AVX2 and without AVX-512.
_AVX2_LEVELS = ("AVX2", "AVX2_VNNI", "AVX2_VNNI_2")


@functools.cache
def has_avx2_kernels() -> bool:
    """Say whether TensorFlow computes with oneDNN's kernels for AVX2.

    That is so on a processor without AVX-512, or below a level that ONEDNN_MAX_CPU_ISA names, if
    oneDNN is switched on: by itself, TensorFlow leaves such a processor to Eigen.
    """
    return uses_onednn() and _level() in _AVX2_LEVELS


@functools.cache
def has_amx_kernels() -> bool:
    """Say whether TensorFlow computes with oneDNN's kernels for AMX."""
    level = _level()
    return level is not None and "AMX" in level and uses_onednn()


@functools.cache
def has_onednn_kernels(dtype: str) -> bool:
    """Say whether TensorFlow computes products and convolutions of a dtype by oneDNN's kernels.

    TensorFlow calls oneDNN for bfloat16 on processors with AVX-512 only, of those that oneDNN has
    levels for (tensorflow/core/graph/mkl_graph_util.h, `IsBF16SupportedByOneDNNOnThisCPU`).

    Args:
        dtype: `"float32"` or `"bfloat16"`.
    """
    level = _level()
    if level is None or not uses_onednn():
        return False
    return dtype == "float32" or level.startswith("AVX512")


@functools.cache
def is_slow_in_bfloat16() -> bool:
    """Say whether products of bfloat16 take longer than those of float32."""
    from nano_init.machine.probe import probe
    from nano_init.plan.precision import recommend_precision

    return recommend_precision(probe().isa, os.environ).recommended == "float32"


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
