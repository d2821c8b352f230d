"""RMSprop of Keras 2 (`tf_keras`) with one fused kernel or one island per variable.

Tieleman, Hinton, "Lecture 6.5: RMSProp", 2012; centered: Graves, "Generating sequences with
recurrent neural networks", 2013; as in tf_keras 2.21 (tf_keras/src/optimizers/rmsprop.py,
`update_step`). Both kernels need a momentum variable. Without momentum Keras has none, and an
island updates large variables in a graph. XLA compiles it while the step is traced, which about a
hundred steps repay.

With momentum a sparse gradient updates every row too, and is converted to dense; without, Keras
updates the rows of the batch alone.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import scalar
from nano_init.keras_patch.faster.legacy_update import (
    LegacyUpdate,
    legacy_update_replacement,
    marking_replacement,
)
from nano_init.keras_patch.faster.step_scalars import once_a_step
from nano_init.keras_patch.faster.xla_fusion import flattened, is_large_in_graph, island
from nano_init.keras_patch.sparse.row_sums import is_distinct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nano_init.keras_patch.ledger import Replacement
    from nano_init.keras_patch.tensor_types import Optimizer, Tensor, Variable

__all__ = ["legacy_rmsprop_replacements"]

# An island of so many elements takes 60 ms to compile, and saves 0.4 ms in each step.
_FEWEST = 2**18


def legacy_rmsprop_replacements() -> Iterator[Replacement]:
    """Yield the replacements of the update, and of the sums that it needs."""
    from tf_keras.src.optimizers.rmsprop import RMSprop

    yield legacy_update_replacement("legacy_rmsprop", RMSprop, *_UPDATES)
    yield marking_replacement()


def _run(optimizer: Optimizer, gradient: Tensor, variable: Variable, *slots: Variable) -> None:
    import tensorflow as tf

    name = "ResourceApplyCenteredRMSProp" if optimizer.centered else "ResourceApplyRMSProp"
    handles = dict(zip(("ms", "mom", "mg"), (slot.handle for slot in slots), strict=False))
    getattr(tf.raw_ops, name)(
        var=variable.handle,
        grad=gradient,
        **handles,
        **once_a_step(optimizer, _arguments, optimizer),
    )


def _arguments(optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        "lr": scalar(optimizer.learning_rate),
        "rho": scalar(optimizer.rho),
        "momentum": scalar(optimizer.momentum),
        "epsilon": scalar(optimizer.epsilon),
    }


def _running(formula: Callable[..., tuple[Tensor, ...]]) -> Callable[..., None]:
    compute = island(formula)

    def run(optimizer: Optimizer, gradient: Tensor, variable: Variable, *slots: Variable) -> None:
        import tensorflow as tf

        handles = [each.handle for each in (variable, *slots)]
        before = [tf.raw_ops.ReadVariableOp(resource=h, dtype=tf.float32) for h in handles]
        numbers = once_a_step(optimizer, _scalars, optimizer)
        after = compute(*map(flattened, (*before, gradient)), *numbers, when=None)
        for handle, value in zip(handles, after, strict=True):
            value = tf.reshape(value, gradient.shape)
            tf.raw_ops.AssignVariableOp(resource=handle, value=value)

    return run


def _scalars(optimizer: Optimizer) -> tuple[Tensor, ...]:
    # One minus rho is subtracted before it is rounded to float32, as by Keras.
    numbers = optimizer.learning_rate, optimizer.rho, 1 - optimizer.rho, optimizer.epsilon
    return tuple(map(scalar, numbers))


def _plain(
    weight: Tensor,
    velocity: Tensor,
    gradient: Tensor,
    rate: Tensor,
    rho: Tensor,
    share: Tensor,
    epsilon: Tensor,
) -> tuple[Tensor, ...]:
    import tensorflow as tf

    velocity = rho * velocity + share * tf.square(gradient)
    return weight - rate * gradient * tf.math.rsqrt(velocity + epsilon), velocity


def _centered(
    weight: Tensor,
    velocity: Tensor,
    average: Tensor,
    gradient: Tensor,
    rate: Tensor,
    rho: Tensor,
    share: Tensor,
    epsilon: Tensor,
) -> tuple[Tensor, ...]:
    import tensorflow as tf

    velocity = rho * velocity + share * tf.square(gradient)
    average = rho * average + share * gradient
    variance = velocity - tf.square(average) + epsilon
    return weight - rate * gradient * tf.math.rsqrt(variance), velocity, average


def _by_kernel(*slots: str, centered: bool) -> LegacyUpdate:
    def when(optimizer: Optimizer) -> bool:
        # Without epsilon, a row of zeros in a dense gradient would give NaN.
        has_both = optimizer.momentum > 0 and optimizer.epsilon > 0
        return bool(has_both and optimizer.centered == centered)

    return LegacyUpdate(slots, _run, when, takes_sparse=is_distinct)


def _by_island(
    formula: Callable[..., tuple[Tensor, ...]], *slots: str, centered: bool
) -> LegacyUpdate:
    def when(optimizer: Optimizer) -> bool:
        return bool(optimizer.momentum <= 0 and optimizer.centered == centered)

    return LegacyUpdate(
        slots, _running(formula), when, takes_sparse=lambda _: False, takes_dense=_repays
    )


def _repays(gradient: Tensor) -> bool:
    return bool(gradient.shape.num_elements() >= _FEWEST) and is_large_in_graph(gradient)


_UPDATES = (
    _by_kernel("_velocities", "_momentums", "_average_gradients", centered=True),
    _by_kernel("_velocities", "_momentums", centered=False),
    _by_island(_centered, "_velocities", "_average_gradients", centered=True),
    _by_island(_plain, "_velocities", centered=False),
)
