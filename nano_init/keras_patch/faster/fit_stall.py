"""No wait for tf.data's autotuning thread when an iterator ends.

The thread that tunes a pipeline sleeps between two rounds, 10 ms at first and doubled each time
up to a minute (tensorflow/core/framework/model.cc, `OptimizeLoop`). An iterator that goes away
wakes it and waits for it; but it is woken before the cancellation can be seen
(tensorflow/tsl/framework/cancellation.cc, `StartCancelWithStatus`: the callbacks run first), so
that it often goes back to sleep for the rest of its time. Seen in TensorFlow 2.19 to 2.21, as a
`fit` that returns late. Two things keep the wait out of the script:

- The pipeline that Keras makes of arrays is not tuned. Its one parallel step takes rows by
  their numbers, and starts with as many threads as tuning could give it on up to 16 cores.
- Any other pipeline is tuned as before; its iterator is destroyed by a thread of its own, and
  holds its buffers until that thread is through.
"""

from __future__ import annotations

import _thread
import functools
import sys

from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

__all__ = ["fit_stall_replacements"]


def fit_stall_replacements() -> Iterator[Replacement]:
    """Yield what makes the end of an iterator wait for nothing."""
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
    from tensorflow.python.data.ops.iterator_ops import OwnedIterator

    name = "get_tf_dataset"
    yield Replacement(ArrayDataAdapter, name, _untuned(vars(ArrayDataAdapter)[name]))
    yield Replacement(OwnedIterator, "__del__", _destroy_apart, inherited=True)


def _untuned(get_dataset: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get_dataset)
    def get_tf_dataset(self: Any) -> Any:
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False
        return get_dataset(self).with_options(options)

    return get_tf_dataset


def _destroy_apart(iterator: Any) -> None:
    """Let a thread drop the last reference to an iterator's resource: `OwnedIterator.__del__`."""
    state = vars(iterator)
    # At the interpreter's end there is nobody left to wait, and threads cannot be started.
    if sys.is_finalizing() or not _is_tuned(state):
        return
    # Taken out of the iterator first: the thread's reference must be the last one.
    held = [state.pop("_iterator_resource")]
    try:
        # Without `threading`, whose locks the thread that collects garbage may hold; the end of
        # the process waits for such a thread no more than for a daemon.
        _thread.start_new_thread(held.clear, ())
    except RuntimeError:
        return  # no thread can be started: it is destroyed here, as without this path


def _is_tuned(state: Mapping[str, Any]) -> bool:
    # One made inside a tf.function is symbolic; one made of components is not the owner.
    is_eager = hasattr(state.get("_iterator_resource"), "_numpy_internal")
    dataset = state.get("_dataset")
    # Read without `options()`, which runs an op, and warns while a function is being traced.
    options = getattr(dataset, "_options_attr", None)
    is_off = options is not None and options.autotune.enabled is False
    return is_eager and dataset is not None and not is_off
