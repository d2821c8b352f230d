"""Lazy Adam: a sparse gradient updates only the rows that it names.

Adam updates every row of an embedding in every step, because the moments of rows without a gradient
decay too. Lazy Adam does not change those rows or their moments:
https://www.tensorflow.org/addons/api_docs/python/tfa/optimizers/LazyAdam. It is faster, but a
different algorithm, so the user must request it.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.notice import say_once
from nano_init.keras_patch.own_frames import OWN_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import DType, IndexedSlices, Optimizer, Tensor, Variable

__all__ = ["is_lazy", "lazy_adam_replacements", "tell_if_idle", "update_named_rows"]


def lazy_adam_replacements() -> Iterator[Replacement]:
    """Yield the replacements that make Adam lazy, installed before the faster path if any."""
    from keras.optimizers import Adam

    dense = vars(Adam)["update_step"]
    is_fused = dense.__code__.co_filename.startswith(OWN_PATH)
    yield Replacement(Adam, "update_step", _wrap_update_step(dense, fused=is_fused))


def is_lazy(optimizer: Optimizer) -> bool:
    """Say whether an optimizer updates named rows only, given a sparse gradient.

    A subclass with its own `update_step` is not changed. `amsgrad` must update the maximum of
    every row, and accumulation the sum.
    """
    step = getattr(type(optimizer), "update_step", None)
    return (
        getattr(step, "is_lazy", False)
        and not optimizer.amsgrad
        and not optimizer.gradient_accumulation_steps
    )


def tell_if_idle(optimizer: Optimizer, gradients: Iterable[Tensor | IndexedSlices | None]) -> None:
    """Print one line if lazy Adam was requested but does not apply.

    Args:
        optimizer: The optimizer that applies the gradients.
        gradients: One per variable: a tensor, None, or `tf.IndexedSlices`.
    """
    import tensorflow as tf

    name = type(optimizer).__name__
    if not is_lazy(optimizer):
        why = "with amsgrad or gradient accumulation all rows change"
        if not getattr(type(optimizer).update_step, "is_lazy", False):
            why = "it applies to keras.optimizers.Adam and AdamW"
    elif not any(isinstance(gradient, tf.IndexedSlices) for gradient in gradients):
        why = "no gradient is sparse, as an Embedding's would be"
    else:
        return
    say_once(f"lazy Adam has nothing to do for this {name}: {why}")


def update_named_rows(
    optimizer: Optimizer,
    gradient: IndexedSlices,
    variable: Variable,
    learning_rate: Any,
    *,
    fused: bool = True,
) -> None:
    """Update the rows of a variable that a gradient names, and leave the other rows unchanged.

    The formula is that of keras/src/optimizers/adam.py, `update_step`, applied to those rows.

    Args:
        optimizer: A `keras.optimizers.Adam`, built.
        gradient: `tf.IndexedSlices` with values of shape [ids, ...]; repeated ids count as
            their sum.
        variable: The variable, of shape [rows, ...].
        learning_rate: A scalar.
        fused: Compute in one pass, compiled by XLA, if that is faster.
    """
    import tensorflow as tf

    from nano_init.keras_patch.faster.fused_optimizer import resource
    from nano_init.keras_patch.faster.padded_rows import is_worth_padding, sum_into_padded_rows
    from nano_init.keras_patch.sparse.row_sums import sum_repeated_ids

    index, dtype = optimizer._get_variable_index(variable), variable.dtype
    moved = (optimizer._momentums[index], optimizer._velocities[index], variable)
    if fused and is_worth_padding(gradient, variable):
        move = _compiled_move()
        rows, named, values = sum_into_padded_rows(gradient)
    else:
        slices = tf.IndexedSlices(tf.cast(gradient.values, dtype), gradient.indices)
        move, summed = _moved_rows, sum_repeated_ids(slices)
        rows, named, values = summed.indices, summed.indices, summed.values
    # Gathered from the variables: reading a whole variable would copy it.
    old = (tf.gather(resource(each), rows) for each in moved)
    betas = (tf.cast(1 - beta, dtype) for beta in (optimizer.beta_1, optimizer.beta_2))
    rate = _corrected_rate(optimizer, learning_rate, dtype)
    new = move(values, *old, rate, *betas, tf.cast(optimizer.epsilon, dtype))
    for each, value in zip(moved, new, strict=True):
        optimizer.assign(each, tf.IndexedSlices(value[: tf.size(named)], named))


def _corrected_rate(optimizer: Optimizer, learning_rate: Any, dtype: DType) -> Tensor:
    """Return the learning rate with the bias correction of both moments."""
    import tensorflow as tf

    beta_1, beta_2 = tf.cast(optimizer.beta_1, dtype), tf.cast(optimizer.beta_2, dtype)
    step = tf.cast(optimizer.iterations + 1, dtype)
    correction = tf.sqrt(1 - tf.pow(beta_2, step)) / (1 - tf.pow(beta_1, step))
    return tf.cast(learning_rate, dtype) * correction


def _moved_rows(
    values: Tensor,
    m: Tensor,
    v: Tensor,
    table: Tensor,
    rate: Tensor,
    rest_1: Tensor,
    rest_2: Tensor,
    epsilon: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows of both moments and of the variable after the step."""
    import tensorflow as tf

    m += (values - m) * rest_1
    v += (tf.square(values) - v) * rest_2
    return m, v, table - m * rate / (tf.sqrt(v) + epsilon)


@functools.cache
def _compiled_move() -> Callable[..., Any]:
    from nano_init.keras_patch.faster.xla_fusion import compiled

    return compiled(_moved_rows)


def _wrap_update_step(dense: Any, *, fused: bool) -> Callable[..., None]:
    @functools.wraps(dense)
    def update_step(
        self: Optimizer, gradient: Tensor | IndexedSlices, variable: Variable, learning_rate: Any
    ) -> None:
        import tensorflow as tf

        if isinstance(gradient, tf.IndexedSlices) and is_lazy(self):
            update_named_rows(self, gradient, variable, learning_rate, fused=fused)
        else:
            dense(self, gradient, variable, learning_rate)

    update_step.is_lazy = True  # type: ignore[attr-defined]
    return update_step
