"""No wait for tf.data's autotuning thread when an iterator ends.

The thread that tunes a pipeline sleeps between two rounds, 10 ms at first and twice as long each
time, up to a minute (tensorflow/core/framework/model.cc, `OptimizeLoop`). An iterator that is
destroyed wakes it and waits for it. But it is woken before the cancellation is visible
(tensorflow/tsl/framework/cancellation.cc, `StartCancelWithStatus`: the callbacks run first), so it
often sleeps again for the rest of its time. In TensorFlow 2.19 to 2.21 `fit` therefore returns
late. Two changes avoid the wait in the script:

- The pipeline that Keras creates for arrays is not tuned. Its only parallel stage gathers rows by
  index, and starts with as many threads as tuning could give it on up to 16 cores.
- Any other pipeline is tuned as before; a separate thread destroys its iterator.

After an iterator is dropped, everything that it held must be closed and written, as without this
path. So for a pipeline that starts from a generator, the script waits until the generator is
closed, which happens before the stall. An iterator whose end is visible in another way, by files
that it writes or Python code that it calls, is destroyed in place. So is one that feeds a
strategy's devices.
"""

from __future__ import annotations

import _thread
import atexit
import functools
import sys

from nano_init.keras_patch.faster.pipeline_end import (
    OpenPasses,
    can_be_seen,
    generator_passes,
    marking_passes,
    noting_ends,
    noting_passes,
)
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset

__all__ = ["fit_stall_replacements", "iterator_replacements", "untuned"]

_dropping = _thread.allocate_lock()
_is_watching = False
_has_ended = False


def fit_stall_replacements() -> Iterator[Replacement]:
    """Yield the replacements that avoid the wait at the end of an iterator."""
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    yield from iterator_replacements()
    name = "get_tf_dataset"
    yield Replacement(ArrayDataAdapter, name, untuned(vars(ArrayDataAdapter)[name]))


def iterator_replacements() -> Iterator[Replacement]:
    """Yield the replacements that let a separate thread destroy an iterator."""
    from tensorflow.python.data.ops import from_generator_op
    from tensorflow.python.data.ops.dataset_ops import DatasetV2
    from tensorflow.python.data.ops.iterator_ops import OwnedIterator

    state = DatasetV2._GeneratorState
    for target, name, changed in (
        (from_generator_op, "_from_generator", marking_passes),
        (state, "__init__", noting_passes),
        (state, "iterator_completed", noting_ends),
    ):
        yield Replacement(target, name, changed(vars(target)[name]))
    yield Replacement(OwnedIterator, "__del__", _destroy_apart, inherited=True)


def untuned(get_dataset: Callable[..., Any]) -> Callable[..., Any]:
    """Return a data adapter's method whose pipeline is not tuned.

    Args:
        get_dataset: Takes the adapter and returns its pipeline.
    """

    @functools.wraps(get_dataset)
    def get_untuned(self: Any) -> Dataset:
        return get_dataset(self).with_options(_untuned())

    return get_untuned


@functools.cache
def _untuned() -> Any:
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def _destroy_apart(iterator: Any) -> None:
    """Let a thread drop the last reference to an iterator's resource: `OwnedIterator.__del__`."""
    state = vars(iterator)
    # At interpreter shutdown nothing has to be fast, and threads cannot be started.
    if sys.is_finalizing() or not _is_tuned(state):
        return
    passes, may_repeat = generator_passes(state["_dataset"])
    if not passes:
        # Between two passes, the next one may be about to start.
        is_between = passes is not None and may_repeat
        if is_between or can_be_seen(state["_dataset"], has_ended=passes is not None):
            return
    _watch_for_the_end()
    awaited = OpenPasses(passes) if passes else None
    # Removed from the iterator first: the thread's reference must be the last one.
    held = [state["_dataset"], state.pop("_iterator_resource")]
    try:
        # Without `threading`, whose locks the garbage-collecting thread may hold. As with a
        # daemon, the process does not wait for such a thread at its end.
        _thread.start_new_thread(_drop, (held, awaited))
    except RuntimeError:
        # No thread can be started: destroy it here, as without this path.
        _drop(held, awaited)
    if awaited is not None:
        awaited.wait()


def _drop(held: list[Any], awaited: OpenPasses | None = None) -> None:
    """Drop an iterator's resource, and then its pipeline.

    The interpreter may end in the meantime. Dropping the last reference to a function of the
    pipeline would then abort the process, because a destructor acquires the GIL
    (tensorflow/python/util/tf_stack.cc, `~StackTraceWrapper`). So the pipeline, which holds its
    functions, is kept until the resource is gone, and forever after the end of the program.
    """
    held.pop()
    if awaited is not None:
        awaited.end()
    with _dropping:
        if not _has_ended:
            held.clear()


def _watch_for_the_end() -> None:
    global _is_watching
    if not _is_watching:
        _is_watching = True
        atexit.register(_note_the_end)


def _note_the_end() -> None:
    global _has_ended
    # A process forked while a pipeline is dropped inherits the lock, but not the thread.
    is_held = _dropping.acquire(timeout=1)
    _has_ended = True
    if is_held:
        _dropping.release()


def _is_tuned(state: Mapping[str, Any]) -> bool:
    # An iterator created inside a tf.function is symbolic; one created from components is no owner.
    is_eager = hasattr(state.get("_iterator_resource"), "_numpy_internal")
    dataset = state.get("_dataset")
    # Not through `options()`, which runs an op, and warns while a function is being traced.
    options = getattr(dataset, "_options_attr", None)
    is_off = options is not None and options.autotune.enabled is False
    return is_eager and dataset is not None and not is_off and not _is_of_several(dataset)


def _is_of_several(dataset: Dataset) -> bool:
    """Say whether a pipeline forwards another iterator's elements to the devices of a strategy.

    Its end is also the end of the other iterator, at an unknown time.
    """
    from tensorflow.python.data.ops import multi_device_iterator_ops

    names = ("_PerDeviceGenerator", "_ReincarnatedPerDeviceGenerator")
    kinds = tuple(vars(multi_device_iterator_ops)[name] for name in names)
    nodes = [dataset]
    while nodes:
        node = nodes.pop()
        if isinstance(node, kinds):
            return True
        nodes.extend(node._inputs())
    return False
