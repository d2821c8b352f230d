"""Optimizers that square or accumulate see each embedding row once.

The gradient of a lookup is a `tf.IndexedSlices` with one slice per id, including repeated ids.
Keras 2 sums the slices of a row first. Keras 3 squares each slice and sums afterwards
(keras/src/backend/tensorflow/sparse.py, keras/src/optimizers/adam.py). So the second moment becomes
g1² + g2² instead of (g1 + g2)², and clipping uses a wrong norm.
"""

from __future__ import annotations

import functools
import inspect

from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.sparse.row_sums import sum_into_dense, sum_repeated_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import IndexedSlices, Optimizer, Tensor, Variable

__all__ = ["repeated_ids_replacements"]


def repeated_ids_replacements(*, lazy_adam: bool = False) -> Iterator[Replacement]:
    """Yield the replacements that sum repeated ids before clipping and after a reduction.

    Args:
        lazy_adam: Whether lazy Adam was requested; one line reports where it does not apply.
    """
    from keras.src.backend.tensorflow.optimizer import TFOptimizer
    from keras.src.optimizers.base_optimizer import BaseOptimizer

    name = "_backend_apply_gradients"
    yield Replacement(
        BaseOptimizer, name, _wrap_backend_apply(vars(BaseOptimizer)[name], lazy_adam)
    )
    if "_clip_gradients" not in inspect.unwrap(vars(BaseOptimizer)[name]).__code__.co_names:
        # Keras 3.3 clips before `apply`.
        name = "_clip_gradients"
        yield Replacement(BaseOptimizer, name, _wrap_clip(vars(BaseOptimizer)[name]))
    name = "_all_reduce_sum_gradients"
    yield Replacement(TFOptimizer, name, _wrap_all_reduce_sum(vars(TFOptimizer)[name]))


def _wrap_backend_apply(apply: Callable[..., Any], lazy_adam: bool) -> Callable[..., Any]:
    from nano_init.keras_patch.sparse.lazy_adam import tell_if_idle

    @functools.wraps(apply)
    def apply_to_distinct_rows(
        self: Optimizer,
        grads: list[Tensor | IndexedSlices | None],
        trainable_variables: list[Variable],
    ) -> Any:
        if lazy_adam:
            tell_if_idle(self, grads)
        if _updates_every_row(self):
            grads = [
                _densified(gradient, variable)
                for gradient, variable in zip(grads, trainable_variables, strict=False)
            ]
        elif not _is_linear(self) and not _sums_by_itself(self):
            grads = [sum_repeated_ids(gradient) for gradient in grads]
        return apply(self, grads, trainable_variables)

    return apply_to_distinct_rows


def _wrap_clip(clip: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(clip)
    def clip_distinct_rows(self: Optimizer, grads: list[Tensor | IndexedSlices | None]) -> Any:
        if _clips(self):
            grads = [sum_repeated_ids(gradient) for gradient in grads]
        return clip(self, grads)

    return clip_distinct_rows


def _wrap_all_reduce_sum(reduce: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(reduce)
    def reduce_to_distinct_rows(self: Optimizer, grads_and_vars: Any) -> Any:
        reduced = reduce(self, grads_and_vars)
        if self._distribution_strategy.num_replicas_in_sync == 1:
            return reduced
        return [(sum_repeated_ids(gradient), variable) for gradient, variable in reduced]

    return reduce_to_distinct_rows


def _densified(gradient: Tensor | IndexedSlices | None, variable: Variable) -> Tensor | None:
    import tensorflow as tf

    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return sum_into_dense(gradient, variable.shape)


def _updates_every_row(optimizer: Optimizer) -> bool:
    """Say whether the optimizer would itself convert the gradient to dense more than once.

    Adam's moments decay in every row. A gradient that is clipped or sent to other replicas first
    is smaller in sparse form.
    """
    from keras.optimizers import Adam

    from nano_init.keras_patch.sparse.lazy_adam import is_lazy

    return (
        isinstance(optimizer, Adam)
        and type(optimizer).update_step is Adam.update_step
        and not is_lazy(optimizer)
        and not _clips(optimizer)
        and optimizer._distribution_strategy.num_replicas_in_sync == 1
    )


def _sums_by_itself(optimizer: Optimizer) -> bool:
    """Say whether the update sums repeated ids itself, and nothing before needs the sums."""
    from nano_init.keras_patch.sparse.lazy_adam import is_lazy

    return is_lazy(optimizer) and not _clips(optimizer)


def _clips(optimizer: Optimizer) -> bool:
    return bool(optimizer.clipnorm or optimizer.global_clipnorm or optimizer.clipvalue)


def _is_linear(optimizer: Optimizer) -> bool:
    from keras.optimizers import SGD

    return type(optimizer) is SGD and not optimizer.momentum and not _clips(optimizer)
