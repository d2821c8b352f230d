"""Make the traceback filters of Keras and TensorFlow remove nano-init's frames too.

Both have a list of paths. They drop frames in these from errors of their public functions, and
AutoGraph drops them from its messages (keras/src/utils/traceback_utils.py and
tensorflow/python/util/traceback_utils.py, `_EXCLUDED_PATHS`). If a running graph fails, TensorFlow
shows the stack that created the op, without filtered files (tensorflow/python/util/tf_stack.py,
version 2.21). Versions that lack one of these are not changed.
"""

from __future__ import annotations

import functools
import os

from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.own_frames import OWN_PATH, filter_modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["frame_filter_replacements"]


def frame_filter_replacements() -> Iterator[Replacement]:
    """Yield the replacements that remove nano-init's frames from tracebacks and op stacks."""
    name = "_EXCLUDED_PATHS"
    for module in filter_modules():
        if hasattr(module, name):
            yield Replacement(module, name, (*getattr(module, name), OWN_PATH))
    yield from _op_stack_replacements()


def _op_stack_replacements() -> Iterator[Replacement]:
    from tensorflow.python.util import tf_stack

    if not (hasattr(tf_stack, "SentinelFilter") and hasattr(tf_stack, "_source_filter_stacks")):
        return
    own_filter = _filter_of_own_files(tf_stack.SentinelFilter)
    yield Replacement(tf_stack, "SentinelFilter", own_filter)
    # The filters of threads that have already created ops.
    for first, *_ in tuple(tf_stack._source_filter_stacks.values()):
        yield Replacement(first, "internal_set", own_filter().internal_set)
        yield Replacement(first, "get_filtered_filenames", _own_files, inherited=True)


def _filter_of_own_files(base: Any) -> Any:
    class OwnFilesFilter(base):  # type: ignore[misc]
        """The filter that each thread starts with."""

        def __init__(self) -> None:
            super().__init__()
            self.update()

        def get_filtered_filenames(self) -> frozenset[str]:
            return _own_files()

    return OwnFilesFilter


@functools.cache
def _own_files() -> frozenset[str]:
    return frozenset(
        os.path.join(folder, name)
        for folder, _, names in os.walk(OWN_PATH)
        for name in names
        if name.endswith(".py")
    )
