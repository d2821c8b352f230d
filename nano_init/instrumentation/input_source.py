"""The source of a training's batches: a tf.data pipeline, arrays, or Python code."""

from __future__ import annotations

import sys

from nano_init.protocol.sample_record import ARRAYS, PIPELINE, PYTHON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset

__all__ = ["describe_input"]

# A pipeline may join others.
_MOST_STAGES = 50


def describe_input(source: Any) -> list[str]:
    """Return the kind of a data source and, for a pipeline, its stages, last one first.

    Args:
        source: the data passed to `fit`, or what an iterator iterates over.
    """
    # A program that created a dataset has imported it.
    data = getattr(sys.modules.get("tensorflow"), "data", None)
    if data is not None and isinstance(source, data.Dataset):
        return [PIPELINE, *_stages(source)]
    # Arrays, tensors and data frames have a shape; any other source is Python code.
    if hasattr(source, "shape") or isinstance(source, (list, tuple, dict)):
        return [ARRAYS]
    gives_batches = any(hasattr(source, name) for name in ("__iter__", "__next__", "num_batches"))
    return [PYTHON] if gives_batches else [ARRAYS]


def _stages(dataset: Dataset) -> list[str]:
    names: list[str] = []
    left = [dataset]
    while left and len(names) < _MOST_STAGES:
        each = left.pop(0)
        names.append(type(each).__name__)
        left += each._inputs() if hasattr(each, "_inputs") else []
    return names
