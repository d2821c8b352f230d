"""Islands: chains of elementwise ops that XLA compiles into one kernel inside a training graph.

TensorFlow runs such a chain op by op. Each op reads and writes whole tensors, and converts
bfloat16. An island reads its inputs once, computes in float32 and writes its result once. Matrix
products stay outside, in oneDNN.

XLA compiles an island for each size of its tensors. In a step of Keras's own `fit` that is deferred
until it pays off, see `deferred`. Other graphs may be exported, or run inside a function that XLA
compiles. There an island is compiled immediately, only for tensors with known sizes, and only for a
few sizes. Launching an island takes as long as TensorFlow takes for a few thousand elements.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.faster.deferred import Deferred, pays
from nano_init.keras_patch.faster.recording import may_be_differentiated
from nano_init.keras_patch.faster.xla_compiler import compiles, has_compiler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nano_init.keras_patch.tensor_types import DType, Tensor, TensorShape

__all__ = [
    "as_shape_of",
    "compiled",
    "flattened",
    "is_compiled_by_xla",
    "is_in_fit",
    "is_inference",
    "is_large_in_graph",
    "is_shape_worth_an_island",
    "is_worth_an_island",
    "island",
    "pays_in_fit",
    "supposed_elements",
    "with_compiled_gradient",
]

# The size at which an island and TensorFlow's own ops take the same time, measured for GELU.
_FEWEST_ELEMENTS = 2**13
_SUPPOSED_BATCH = 32

# Limits of immediate compilation: sizes per island (a batch and a smaller last one), and in total.
_MOST_SIZES_AT_ONCE = 2
_MOST_SHAPES_AT_ONCE = 128
_sizes_at_once: dict[tuple[DType, tuple[int | None, ...]], set[int | None]] = {}

_STEP_NAMES = ("one_step_on_", "multi_step_on_")


def is_worth_an_island(tensor: Any) -> bool:
    """Say whether a tensor is trained on in a graph, and large enough for an island.

    Args:
        tensor: Any object. Only a float32 or bfloat16 tensor with known sizes, except the first,
            can be worth it.
    """
    return _is_training() and is_large_in_graph(tensor)


def is_shape_worth_an_island(tensor: Any, sizes: Any) -> bool:
    """Say the same for a tensor to be computed from another one.

    Args:
        tensor: As for `is_worth_an_island`; its own shape does not matter.
        sizes: The shape of the computed tensor, None where a size is unknown.
    """
    import tensorflow as tf

    return _is_training() and _is_large(tensor, tf.TensorShape(sizes))


def is_large_in_graph(tensor: Any) -> bool:
    """Say the same for a tensor outside of layers, as in a loss, where `training` is unknown.

    Args:
        tensor: As for `is_worth_an_island`.
    """
    return _is_large(tensor, getattr(tensor, "shape", None))


def _is_large(tensor: Any, shape: TensorShape | None) -> bool:
    import tensorflow as tf

    return (
        isinstance(tensor, tf.Tensor)
        and not isinstance(tensor, tf.__internal__.EagerTensor)
        and tensor.dtype in (tf.float32, tf.bfloat16)
        and supposed_elements(shape) >= _FEWEST_ELEMENTS
        # There everything is compiled already.
        and not is_compiled_by_xla()
        and has_compiler()
        and (is_in_fit() or _may_be_compiled_at_once(tensor.dtype, shape))
    )


def _may_be_compiled_at_once(dtype: DType, shape: TensorShape) -> bool:
    """Say whether a size outside of `fit` is among the first ones, and count it if so."""
    if not compiles():
        return False
    known = _sizes_at_once.setdefault((dtype, tuple(shape[1:])), set())
    if shape[0] in known:
        return True
    if len(known) >= _MOST_SIZES_AT_ONCE or _total_at_once() >= _MOST_SHAPES_AT_ONCE:
        return False
    known.add(shape[0])
    return True


def _total_at_once() -> int:
    return sum(len(sizes) for sizes in _sizes_at_once.values())


def is_compiled_by_xla() -> bool:
    """Say whether XLA compiles the graph that is being traced as a whole."""
    from tensorflow.python.framework.ops import get_default_graph
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return bool(GraphOrParentsInXlaContext(get_default_graph()))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of tensors that XLA compiles, created on first use.

    Args:
        function: Takes and returns tensors; it must not create variables.
    """

    @functools.cache
    def make() -> Any:
        import tensorflow as tf

        return tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def call(*tensors: Tensor, **known: Any) -> Any:
        return make()(*tensors, **known)

    return call


def island(function: Callable[..., Any], plain: Callable[..., Any] | None = None) -> Any:
    """Return a function of tensors that XLA compiles where that pays off.

    The returned function takes the tensors, the result of `pays_in_fit` as `when`, and keyword
    arguments with values that are known while tracing. Its attribute `plain` is the argument.

    Args:
        function: Takes and returns tensors, of which only the ranks are known while tracing.
        plain: The same as TensorFlow's own ops, for sizes that are not compiled; by default the
            function itself.
    """
    ops = plain or function
    deferred = Deferred(function, ops)
    at_once = compiled(function)

    @functools.wraps(function)
    def call(*tensors: Tensor, when: Tensor, **known: Any) -> Any:
        if when is None:
            return at_once(*tensors, **known)
        return deferred(when, *tensors, **known)

    vars(call)["plain"] = ops
    return call


def pays_in_fit(name: str, like: Tensor) -> Tensor:
    """Return the condition for islands: a boolean tensor in a step of `fit`, otherwise None.

    Only Keras runs such a step. A function that a script traces itself may be exported, or run
    inside a function that XLA compiles. Neither can use a table, so islands are compiled
    immediately there.

    Args:
        name: The name of the islands.
        like: The tensor whose size decides.
    """
    return pays(name, like) if is_in_fit() else None


def with_compiled_gradient(
    forward: Callable[[Tensor], Tensor], backward: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """Return an elementwise function whose value and gradient are an island each.

    Only the input is kept for the gradient, which recomputes everything else.

    Args:
        forward: Maps a float32 tensor to the value.
        backward: Maps the same tensor and the gradient by the value, in float32, to the gradient
            by the tensor.
    """
    name = f"{forward.__module__}.{forward.__qualname__}"
    value, gradient = (
        island(functools.wraps(each)(functools.partial(_in_float32, each)))
        for each in (forward, backward)
    )

    def function(tensor: Tensor) -> Tensor:
        import tensorflow as tf

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def call(tensor: Tensor) -> Any:
            flat, when = flattened(tensor), pays_in_fit(name, tensor)

            def by_tensor(upstream: Tensor) -> Tensor:
                if may_be_differentiated():
                    return _in_float32(backward, tensor, upstream)
                return as_shape_of(tensor, gradient(flat, flattened(upstream), when=when))

            return as_shape_of(tensor, value(flat, when=when)), by_tensor

        return call(tensor)

    return function


def flattened(tensor: Tensor) -> Tensor:
    """Return a tensor with one axis, so that one elementwise kernel serves all ranks."""
    import tensorflow as tf

    return tf.reshape(tensor, [-1])


def as_shape_of(tensor: Tensor, elements: Tensor) -> Tensor:
    """Return elements in the shape of a tensor, including what is known of it while tracing."""
    import tensorflow as tf

    shape = tensor.shape if tensor.shape.is_fully_defined() else tf.shape(tensor)
    result = tf.reshape(elements, shape)
    result.set_shape(tensor.shape)
    return result


def _in_float32(function: Callable[..., Any], *tensors: Tensor) -> Tensor:
    import tensorflow as tf

    result = function(*(tf.cast(tensor, tf.float32) for tensor in tensors))
    return tf.cast(result, tensors[0].dtype)


def supposed_elements(shape: TensorShape) -> int:
    """Return the number of elements of a shape, with an assumed batch size; 0 if unknown.

    Args:
        shape: A `tf.TensorShape`; its first size may be unknown in a step of `fit`.
    """
    if not shape.rank or (shape[0] is None and not is_in_fit()):
        return 0
    count = _SUPPOSED_BATCH if shape[0] is None else shape[0]
    for size in shape[1:]:
        if size is None:
            return 0
        count *= size
    return int(count)


def is_in_fit() -> bool:
    """Say whether the graph being traced is a step of Keras's trainer, or inside one.

    Its functions have these names in keras/src/backend/tensorflow/trainer.py,
    `make_train_function` and `make_test_function`. In a custom loop, unknown sizes do vary.
    """
    # `tf.compat.v1` would import all of that API, which Keras does not use while it trains.
    from tensorflow.python.framework.ops import get_default_graph

    graph = get_default_graph()
    while graph is not None:
        if getattr(graph, "name", "").startswith(_STEP_NAMES):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def is_inference() -> bool:
    """Say whether layers are called with training switched off, as by `predict`."""
    return _training() is False


def _is_training() -> bool:
    return _training() is True


def _training() -> Any:
    from keras.src.backend.common import global_state

    tracker = global_state.GLOBAL_STATE_TRACKER
    return getattr(getattr(tracker, "current_call_ctx", None), "training", None)
