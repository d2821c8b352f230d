"""The `update_step` of an optimizer of Keras 2 (`tf_keras`) as a faster path.

An optimizer's own file has its update, which uses the variables' handles: a variable may be one of
several on the devices of a strategy. Clipping, sums of repeated ids, weight decay, moving averages
and loss scaling happen outside `update_step` in Keras's own code
(tf_keras/src/optimizers/optimizer.py, `apply_gradients`).
"""

from __future__ import annotations

import functools

from nano_init.frozen import frozen
from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.xla_fusion import is_compiled_by_xla
from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.sparse.row_sums import mark_distinct, sum_into_dense

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import (
        Gradient,
        IndexedSlices,
        Optimizer,
        Tensor,
        Variable,
    )

__all__ = ["LegacyUpdate", "legacy_update_replacement", "marking_replacement"]


@frozen
class LegacyUpdate:
    """A faster update, and where it computes what an optimizer of Keras 2 computes.

    Args:
        slots: The optimizer's attributes with the slot variables.
        run: Takes the optimizer, a dense gradient, the variable and its slots, and updates them.
        when: Takes the optimizer; whether its options call for this update.
        takes_sparse: Takes a sparse gradient; whether the update by the equal dense gradient is
            the optimizer's. It is if every row changes in each step.
        takes_dense: Takes a dense gradient; whether the update pays for it.
    """

    slots: tuple[str, ...]
    run: Callable[..., None]
    when: Callable[[Optimizer], bool]
    takes_sparse: Callable[[IndexedSlices], bool]
    takes_dense: Callable[[Tensor], bool] = lambda _: True


def legacy_update_replacement(path: str, owner: Any, *updates: LegacyUpdate) -> Replacement:
    """Return the replacement of the `update_step` of an optimizer of Keras 2.

    Args:
        path: The path's name.
        owner: The optimizer's class. Subclasses with their own update or slot variables keep
            Keras's own code.
        updates: The first one whose `when` holds is the optimizer's.
    """

    def chosen(optimizer: Optimizer) -> Iterator[LegacyUpdate]:
        return (update for update in updates if update.when(optimizer))

    def applies(optimizer: Optimizer, gradient: Gradient, variable: Variable) -> bool:
        update = next(chosen(optimizer), None) if _is_plain(optimizer, owner) else None
        return (
            update is not None
            and _fits(gradient, variable, update)
            and all(map(_is_float32, (variable, *_slots(optimizer, variable, update))))
        )

    def run(optimizer: Optimizer, gradient: Gradient, variable: Variable) -> None:
        import tensorflow as tf

        update = next(chosen(optimizer))
        if isinstance(gradient, tf.IndexedSlices):
            gradient = sum_into_dense(gradient, variable.shape)
        update.run(optimizer, gradient, variable, *_slots(optimizer, variable, update))

    faster = with_faster_path(path, vars(owner)["update_step"], applies, run)
    return Replacement(owner, "update_step", faster)


def marking_replacement() -> Replacement:
    """Return the replacement that marks the ids of gradients whose repeated ids Keras has summed.

    The squares of their slices are those of the sums.
    """
    from tf_keras.src.optimizers.optimizer import _BaseOptimizer

    name = "_deduplicate_sparse_grad"
    return Replacement(_BaseOptimizer, name, _wrap_deduplicate(vars(_BaseOptimizer)[name]))


def _wrap_deduplicate(deduplicate: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(deduplicate)
    def deduplicate_and_mark(self: Optimizer, grads: Iterable[Gradient]) -> Any:
        import tensorflow as tf

        distinct = deduplicate(self, grads)
        for gradient in distinct:
            if isinstance(gradient, tf.IndexedSlices):
                mark_distinct(gradient.indices)
        return distinct

    return deduplicate_and_mark


def _is_plain(optimizer: Optimizer, owner: Any) -> bool:
    """Say whether an optimizer updates by its class's own code, op by op.

    XLA fuses Keras's own ops. Variables of DTensor may be spread over several devices.
    """
    own = type(optimizer)
    return (
        own.update_step is owner.update_step
        and own.build is owner.build
        and not (optimizer._mesh or optimizer._run_with_dtensor)
        and not is_compiled_by_xla()
    )


def _slots(optimizer: Optimizer, variable: Variable, update: LegacyUpdate) -> list[Variable]:
    index = optimizer._index_dict[optimizer._var_key(variable)]
    return [getattr(optimizer, attribute)[index] for attribute in update.slots]


def _fits(gradient: Gradient, variable: Variable, update: LegacyUpdate) -> bool:
    """Say whether a float32 gradient has the shape of its variable, known while tracing."""
    import tensorflow as tf

    shape = variable.shape
    if gradient.dtype != tf.float32 or not shape.is_fully_defined():
        return False
    if isinstance(gradient, tf.IndexedSlices):
        return bool(
            update.takes_sparse(gradient)
            and gradient.values.shape[1:].is_fully_defined()
            and gradient.values.shape[1:] == shape[1:]
        )
    return bool(
        isinstance(gradient, tf.Tensor)
        and gradient.shape.is_fully_defined()
        and gradient.shape == shape
        and update.takes_dense(gradient)
    )


def _is_float32(variable: Variable) -> bool:
    """Say whether a variable is in float32 and on the device of this update."""
    import tensorflow as tf

    if variable.dtype != tf.float32:
        return False
    try:
        handle: Tensor = variable.handle
    except (AttributeError, ValueError):  # one of several devices, outside of an update
        return False
    return isinstance(handle, tf.Tensor)
