"""Deferred compilation: XLA compiles a kernel for a size once that pays, and for few sizes.

XLA compiles a kernel for each size of its tensors, which takes 50 to 100 ms and a megabyte that
stays until the process ends (tensorflow/compiler/jit/device_compiler.h evicts nothing). So a
call runs TensorFlow's own ops first, and a table in the graph counts the elements that they
computed. A size gets its kernel when they took a few times as long as its compilation, as in the
ski rental problem (Karlin et al., "Competitive snoopy caching", 1988). A majority vote finds this
size without a list of sizes (Boyer and Moore, "MJRTY", 1981): one that hardly comes again is
never compiled. Layers of the same shape share their kernels and what they counted.

What is traced here is traced once in a process: all sizes in it are open.
"""

from __future__ import annotations

import functools
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import DType, Tensor

__all__ = ["Deferred", "compile_soon", "pays"]

# Elements that TensorFlow's ops compute before a kernel is compiled.
ELEMENTS_BEFORE = 2**26
# Sizes that one kernel is compiled for: a batch and a smaller last one, twice.
_MOST_SIZES = 4
# Compiled kernels in a process.
_MOST_KERNELS = 256

_TABLE = "nano_init_compiled_sizes"
# The key of the row that counts the kernels of the process.
_ALL = 0
# A row's columns: the sizes that have a kernel, or -1, and three counts. These are stored as
# -2 - n, so that no size equals one of them.
_CANDIDATE, _CREDIT, _COMPILED = range(_MOST_SIZES, _MOST_SIZES + 3)
_COLUMNS = _MOST_SIZES + 3
_NOTHING = (-1,) * _MOST_SIZES + (-2,) * 3


def compile_soon() -> None:
    """Let the first sizes in this process have their kernels after one call.

    A sample or a benchmark of a few steps then sees what most steps of a long training run.
    """
    global ELEMENTS_BEFORE
    ELEMENTS_BEFORE = 1


def pays(name: str, like: Tensor) -> Tensor:
    """Return a boolean tensor: whether kernels run for a tensor's size, and count it if not.

    Args:
        name: What the kernels are for, the same in every process.
        like: The tensor whose size decides. Where its sizes but the first are others, so are
            the kernels.
    """
    import tensorflow as tf

    row = _key(repr((name, like.dtype, tuple(like.shape[1:]))))
    numbers = (row, tf.size(like, tf.int64), ELEMENTS_BEFORE)
    return _deciding()(*(tf.convert_to_tensor(number, tf.int64) for number in numbers))


class Deferred:
    """A function of tensors that XLA compiles, or that runs in TensorFlow's own ops.

    Args:
        kernel: Takes tensors, and values that are known while tracing by their names.
        plain: The same in TensorFlow's own ops; gives results of the same dtypes and shapes.
    """

    def __init__(self, kernel: Callable[..., Any], plain: Callable[..., Any]) -> None:
        self._kernel = kernel
        self._plain = plain
        self._traced: dict[Any, Any] = {}

    def __call__(self, when: Tensor, *tensors: Tensor, **known: Any) -> Any:
        """Run the kernel, or the ops.

        Args:
            when: A boolean tensor, as `pays` gives it.
            tensors: The arguments; their ranks are known.
            known: Values for the function.
        """
        specs = tuple((tensor.dtype, tensor.shape.rank) for tensor in tensors)
        key = (specs, tuple(sorted(known.items())))
        if key not in self._traced:
            self._traced[key] = self._trace(specs, known)
        return self._traced[key](when, *tensors)

    def _trace(self, specs: Sequence[tuple[DType, int]], known: Mapping[str, Any]) -> Any:
        import tensorflow as tf

        kernel = functools.partial(self._kernel, **known)
        compiled = tf.function(kernel, jit_compile=True, autograph=False)

        def choose(when: Tensor, *tensors: Tensor) -> Any:
            return tf.cond(when, lambda: compiled(*tensors), lambda: self._plain(*tensors, **known))

        opened = (tf.TensorSpec([None] * rank, dtype) for dtype, rank in specs)
        return _traced_apart(tf.function(choose, autograph=False), tf.bool, *opened)


@functools.cache
def _deciding() -> Any:
    import tensorflow as tf

    return _traced_apart(tf.function(_decide, autograph=False), *[tf.int64] * 3)


@functools.cache
def _counting() -> Any:
    import tensorflow as tf

    # Inlined into each graph, it would make graphs far larger and slower to optimize.
    apart = {"_noinline": True}
    function = tf.function(_count, autograph=False, experimental_attributes=apart)
    return _traced_apart(function, *[tf.int64] * 3)


def _traced_apart(function: Any, *specs: Any) -> Any:
    """Trace a function outside of the graph that calls it, so that others can call it too."""
    import tensorflow as tf

    scalars = (tf.TensorSpec([], s) if isinstance(s, tf.DType) else s for s in specs)
    with tf.init_scope(), tf.device(None):
        return function.get_concrete_function(*scalars)


def _key(text: str) -> int:
    """Return the key of a row: two checksums of 31 bits, as one alone may meet its like."""
    data = text.encode()
    return (zlib.crc32(data) >> 1) << 31 | zlib.adler32(data) >> 1


def _decide(row: Tensor, size: Tensor, before: Tensor) -> Tensor:
    import tensorflow as tf

    has_kernel = tf.reduce_any(tf.equal(_find(row), size)) | tf.equal(before, 0)
    counting = _counting()
    tf.cond(has_kernel, lambda: tf.constant(0), lambda: counting(row, size, before))
    return has_kernel


def _count(row: Tensor, size: Tensor, before: Tensor) -> Tensor:
    """Count elements for a size, and let it have a kernel if they are enough."""
    import tensorflow as tf

    numbers = tf.unstack(_find(row))
    candidate, credit, compiled = (_stored(numbers[n]) for n in (_CANDIDATE, _CREDIT, _COMPILED))
    credit += tf.where(tf.equal(candidate, size), size, -size)
    is_another = credit < 0
    candidate, credit = tf.where(is_another, size, candidate), tf.abs(credit)
    gets_kernel = (credit >= before) & (compiled < _MOST_SIZES)

    def grant() -> Tensor:
        return _grant(row, size, numbers)

    def vote() -> Tensor:
        return _insert(row, [*numbers[:_MOST_SIZES], *map(_stored, (candidate, credit, compiled))])

    return tf.cond(gets_kernel, grant, vote)


def _grant(row: Tensor, size: Tensor, numbers: Sequence[Tensor]) -> Tensor:
    """Note a size as one that has a kernel, if the process may have more of them."""
    import tensorflow as tf

    compiled = _stored(numbers[_COMPILED])
    everywhere = _stored(_find(tf.constant(_ALL, tf.int64))[_COMPILED])
    may = everywhere < _MOST_KERNELS
    sizes = [
        tf.where(may & tf.equal(compiled, place), size, numbers[place])
        for place in range(_MOST_SIZES)
    ]
    more = tf.cast(may, tf.int64)
    none = tf.constant(_NOTHING, tf.int64)
    with tf.control_dependencies(
        [_insert(row, [*sizes, *tf.unstack(none[_CANDIDATE:_COMPILED]), _stored(compiled + more)])]
    ):
        rest = tf.unstack(none[:_COMPILED])
        return _insert(tf.constant(_ALL, tf.int64), [*rest, _stored(everywhere + more)])


def _stored(count: Tensor) -> Tensor:
    """Return a count as the table holds it, or the count of what it holds."""
    return -2 - count


def _find(row: Tensor) -> Tensor:
    import tensorflow as tf

    found = tf.raw_ops.LookupTableFindV2(
        table_handle=_table(), keys=row, default_value=tf.constant(_NOTHING, tf.int64)
    )
    return tf.ensure_shape(found, [_COLUMNS])


def _insert(row: Tensor, numbers: Sequence[Tensor]) -> Tensor:
    import tensorflow as tf

    values = tf.stack(numbers)
    insert = tf.raw_ops.LookupTableInsertV2(table_handle=_table(), keys=row, values=values)
    with tf.control_dependencies([insert]):
        return tf.constant(0)


def _table() -> Tensor:
    """Return the table of the process by its name, so that a graph captures nothing for it."""
    import tensorflow as tf

    return tf.raw_ops.MutableHashTableOfTensorsV2(
        key_dtype=tf.int64, value_dtype=tf.int64, value_shape=[_COLUMNS], shared_name=_TABLE
    )
