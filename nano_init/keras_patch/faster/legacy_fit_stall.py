"""No wait for tf.data's autotuning thread when a `fit` of Keras 2 (`tf_keras`) ends.

See `fit_stall`. The pipeline that Keras 2 creates for arrays is like that of Keras 3
(tf_keras/src/engine/data_adapter.py, `TensorLikeDataAdapter`), and is not tuned. The pipeline of
array-like objects calls Python, and is not changed.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.faster.fit_stall import iterator_replacements, untuned
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset

__all__ = ["legacy_fit_stall_replacements"]


def legacy_fit_stall_replacements() -> Iterator[Replacement]:
    """Yield the replacements that avoid the wait at the end of an iterator."""
    from tf_keras.src.engine.data_adapter import TensorLikeDataAdapter

    yield from iterator_replacements()
    name = "get_dataset"
    original = vars(TensorLikeDataAdapter)[name]
    yield Replacement(TensorLikeDataAdapter, name, _wrap_get_dataset(original))


def _wrap_get_dataset(get_dataset: Callable[..., Any]) -> Callable[..., Any]:
    get_untuned = untuned(get_dataset)

    @functools.wraps(get_dataset)
    def get_untuned_if_arrays(self: Any) -> Dataset:
        from tf_keras.src.engine.data_adapter import TensorLikeDataAdapter

        is_of_arrays = type(self) is TensorLikeDataAdapter
        return get_untuned(self) if is_of_arrays else get_dataset(self)

    return get_untuned_if_arrays
