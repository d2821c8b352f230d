"""Deferred compilation: XLA compiles kernels only for a few sizes, and only when that pays off.

XLA compiles a kernel for each size of its tensors. That takes 50 to 100 ms, and a megabyte that is
never freed (tensorflow/compiler/jit/device_compiler.h evicts nothing). So a call runs TensorFlow's
own ops first, and a table in the graph counts the elements that they compute. A size gets its
kernel when the ops have taken a few times as long as its compilation, as in the ski rental problem
(Karlin et al., "Competitive snoopy caching", 1988). A majority vote finds this size without a list
of sizes (Boyer and Moore, "MJRTY", 1981), so rare sizes are never compiled. Layers of the same
shape share kernels and counts.

Functions here are traced once per process, with all sizes left open.
"""

from __future__ import annotations

import functools
import zlib

from nano_init.keras_patch.faster.traced_branches import run_either, traced_apart
from nano_init.keras_patch.faster.xla_compiler import compiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import DType, Tensor

__all__ = ["Deferred", "compile_soon", "pays"]

# Elements that TensorFlow's ops compute before a kernel is compiled.
ELEMENTS_BEFORE = 2**26
# Maximum number of sizes per kernel: a batch and a smaller last one, twice.
_MOST_SIZES = 4
# Maximum number of compiled kernels in a process.
_MOST_KERNELS = 256

_TABLE = "nano_init_compiled_sizes"
# The key of the row that counts the kernels in the process.
_ALL, _UNREAD = 0, -1
# A row's columns: the sizes that have a kernel, or -1, and three counters. A counter n is stored as
# -2 - n, so that it never equals a size.
_CANDIDATE, _CREDIT, _COMPILED = range(_MOST_SIZES, _MOST_SIZES + 3)
_COLUMNS = _MOST_SIZES + 3
_NOTHING = (-1,) * _MOST_SIZES + (-2,) * 3


def compile_soon() -> None:
    """Compile kernels for the first sizes in this process after one call.

    Then a sample or a benchmark of a few steps runs the same code as a long training.
    """
    global ELEMENTS_BEFORE
    ELEMENTS_BEFORE = 1


def pays(name: str, like: Tensor) -> Tensor:
    """Return a boolean tensor: whether a tensor's size has kernels. If not, count the size.

    Args:
        name: The name of the kernels, the same in every process.
        like: The tensor whose size decides. Kernels differ for other sizes of the axes after the
            first.
    """
    import tensorflow as tf

    row = _key(repr((name, like.dtype, tuple(like.shape[1:]))))
    numbers = (row, tf.size(like, tf.int64), ELEMENTS_BEFORE)
    return _deciding()(*(tf.convert_to_tensor(number, tf.int64) for number in numbers))


class Deferred:
    """A function of tensors that XLA compiles, or that runs as TensorFlow's own ops.

    Args:
        kernel: Takes tensors, and as keyword arguments values that are known while tracing.
        plain: The same as TensorFlow's own ops; returns the same dtypes and shapes.
    """

    def __init__(self, kernel: Callable[..., Any], plain: Callable[..., Any]) -> None:
        self._kernel = kernel
        self._plain = plain
        self._traced: dict[Any, Any] = {}

    def __call__(self, when: Tensor, *tensors: Tensor, **known: Any) -> Any:
        """Run the kernel, or the ops.

        Args:
            when: A boolean tensor from `pays`.
            tensors: The arguments; their ranks are known.
            known: Values for the function.
        """
        specs = tuple((tensor.dtype, tensor.shape.rank) for tensor in tensors)
        key = (specs, tuple(sorted(known.items())))
        if key not in self._traced:
            self._traced[key] = self._trace(specs, known)
        kernel, plain = self._traced[key]
        return run_either(when, kernel, plain, tensors)

    def _trace(
        self, specs: Sequence[tuple[DType, int]], known: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """Return a function that calls the kernel, and one that runs the ops."""
        import tensorflow as tf

        def as_graph(function: Any) -> Any:
            opened = (tf.TensorSpec([None] * rank, dtype) for dtype, rank in specs)
            return traced_apart(tf.function(function, autograph=False), *opened)

        plain = as_graph(functools.partial(self._plain, **known))
        is_same = self._kernel is self._plain
        kernel = plain if is_same else as_graph(functools.partial(self._kernel, **known))
        return as_graph(functools.partial(_run_compiled, kernel)), plain


def _run_compiled(function: Any, *tensors: Tensor) -> Any:
    """Call a traced function, compiled by XLA for this call."""
    import tensorflow as tf
    from tensorflow.core.framework import attr_value_pb2

    types = [result.dtype for result in tf.nest.flatten(function.structured_outputs)]
    outputs = tf.raw_ops.PartitionedCall(args=tensors, Tout=types, f=function)
    # The same as for a tf.function with `jit_compile`
    # (tensorflow/python/eager/polymorphic_function/atomic_function.py).
    outputs[0].op._set_attr("_XlaMustCompile", attr_value_pb2.AttrValue(b=True))
    return outputs


@functools.cache
def _deciding() -> Any:
    import tensorflow as tf

    return traced_apart(tf.function(_decide, autograph=False), *[tf.int64] * 3)


@functools.cache
def _counting() -> Any:
    import tensorflow as tf

    return traced_apart(tf.function(_count, autograph=False), *[tf.int64] * 3)


@functools.cache
def _always(value: Any, *types: Any) -> Any:
    import tensorflow as tf

    # TensorFlow names the inputs of a graph after the arguments, and warns of `_`.
    def constant(*given: Tensor) -> Tensor:
        del given
        return tf.constant(value)

    return traced_apart(tf.function(constant, autograph=False), *types)


@functools.cache
def _asking() -> Any:
    """Return a function without arguments that asks Python whether XLA compiles; starts XLA."""
    import tensorflow as tf

    def ask() -> Tensor:
        return tf.ensure_shape(tf.numpy_function(_compiles_here, [], tf.bool), [])

    return traced_apart(tf.function(ask, autograph=False))


def _compiles_here() -> bool:
    # A module-level function: others that a graph calls are dropped by Keras's `clear_session`
    # (tensorflow/python/ops/script_ops.py, `_internal_py_func`).
    return compiles()


def _key(text: str) -> int:
    """Return the key of a row: two 31-bit checksums, because one alone may collide."""
    data = text.encode()
    return (zlib.crc32(data) >> 1) << 31 | zlib.adler32(data) >> 1


def _decide(row: Tensor, size: Tensor, before: Tensor) -> Tensor:
    import tensorflow as tf

    has_kernel = tf.reduce_any(tf.equal(_find(row), size)) | tf.equal(before, 0)
    run_either(has_kernel, _always(0, *[tf.int64] * 3), _counting(), (row, size, before))
    return has_kernel


def _count(row: Tensor, size: Tensor, before: Tensor) -> Tensor:
    """Count elements for a size, and grant it a kernel if there are enough."""
    import tensorflow as tf

    numbers, all_key = _find(row), tf.constant(_ALL, tf.int64)
    sizes = numbers[:_MOST_SIZES]
    candidate, credit, compiled = tf.unstack(_stored(numbers[_MOST_SIZES:]))
    everywhere = _stored(_find(all_key)[_COMPILED])
    credit += tf.where(tf.equal(candidate, size), size, -size)
    is_another = credit < 0
    candidate, credit = tf.where(is_another, size, candidate), tf.abs(credit)
    gets_kernel = (credit >= before) & (compiled < _MOST_SIZES) & (everywhere < _MOST_KERNELS)
    gets_kernel = run_either(gets_kernel, _asking(), _always(False), ())
    more = tf.cast(gets_kernel, tf.int64)
    is_place = gets_kernel & tf.equal(tf.range(_MOST_SIZES, dtype=tf.int64), compiled)
    counts = tf.stack([candidate * (1 - more), credit * (1 - more), compiled + more])
    found = tf.where(is_place, size, sizes)
    with tf.control_dependencies([_insert(row, tf.concat([found, _stored(counts)], 0))]):
        # If nothing is granted, the count goes to an unused row.
        key = tf.where(gets_kernel, all_key, _UNREAD)
        rest = tf.constant(_NOTHING[:_COMPILED], tf.int64)
        return _insert(key, tf.concat([rest, [_stored(everywhere + more)]], 0))


def _stored(count: Tensor) -> Tensor:
    """Convert a counter to its stored form, or back."""
    return -2 - count


def _find(row: Tensor) -> Tensor:
    import tensorflow as tf

    found = tf.raw_ops.LookupTableFindV2(
        table_handle=_table(), keys=row, default_value=tf.constant(_NOTHING, tf.int64)
    )
    return tf.ensure_shape(found, [_COLUMNS])


def _insert(row: Tensor, numbers: Tensor) -> Tensor:
    import tensorflow as tf

    insert = tf.raw_ops.LookupTableInsertV2(table_handle=_table(), keys=row, values=numbers)
    with tf.control_dependencies([insert]):
        return tf.constant(0)


def _table() -> Tensor:
    """Return the process's table by name, so that a graph captures nothing for it."""
    import tensorflow as tf

    return tf.raw_ops.MutableHashTableOfTensorsV2(
        key_dtype=tf.int64, value_dtype=tf.int64, value_shape=[_COLUMNS], shared_name=_TABLE
    )
