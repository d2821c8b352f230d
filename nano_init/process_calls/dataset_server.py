"""A server that sends a script's batches to the workers that the script started.

The script's own process reads each data set once for all workers. So its sources (arrays, files, a
Python generator, lookup tables) need not be serialized, only one process runs its input pipeline,
and a shuffle has the same result as in one process. Each worker receives every whole batch, and
takes its shard.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
from multiprocessing.connection import Listener

from nano_init.errors import UsageError
from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset

__all__ = [
    "DatasetServer",
    "DatasetServerAddress",
    "ServedDataset",
    "components_of",
    "has_components",
]

_LONGEST_PLACE = 108


@frozen
class DatasetServerAddress:
    """How workers reach the server.

    Args:
        place: the address of its socket.
        key: the authentication key.
    """

    place: str
    key: bytes


class ServedDataset:
    """A data set whose batches are served to workers.

    Args:
        dataset: a `tf.data.Dataset`.
        epochs: the Keras iterator over the data set, or None.
    """

    def __init__(self, dataset: Dataset, epochs: Any = None) -> None:
        self.dataset = dataset
        self._epochs = epochs
        self._passes: dict[int, _Pass] = {}
        self._lock = threading.Lock()

    @property
    def cardinality(self) -> int:
        """Return the number of batches, as `tf.data.Dataset.cardinality` does.

        For arrays, Keras knows the number even if its data set does not.
        """
        known = None if self._epochs is None else self._epochs.data_adapter.num_batches
        return int(self.dataset.cardinality()) if known is None else int(known)

    def open(self, number: int, readers: int) -> _Pass:
        """Return a pass over the data; the first reader that asks for it starts it.

        Args:
            number: its index, from 0.
            readers: the number of readers.
        """
        with self._lock:
            if number not in self._passes:
                self._passes[number] = _Pass(self._iterate(), readers)
                self._passes.pop(number - 2, None)
            return self._passes[number]

    def _iterate(self) -> Iterator[Any]:
        """Iterate as Keras does (keras/src/trainers/epoch_iterator.py, `_enumerate_iterator`)."""
        epochs = self._epochs
        if epochs is None:
            yield from self.dataset
            return
        epochs.data_adapter.on_epoch_begin()
        yield from self.dataset
        if epochs.steps_per_epoch is None and epochs.data_adapter.num_batches:
            iter(self.dataset)  # Keras starts one more iterator, which shuffles once more
        epochs.data_adapter.on_epoch_end()


class _Pass:
    """One pass over a data set; each batch is kept until all readers have had it."""

    def __init__(self, batches: Iterator[Any], readers: int) -> None:
        self._batches = batches
        self._readers = readers
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[bytes, int]] = {}
        self._next = 0

    def take(self, number: int) -> bytes:
        """Return a batch, or b"" after the last one.

        Args:
            number: its index, from 0; each reader asks for the batches in order.
        """
        with self._lock:
            if number == self._next:
                self._next += 1
                self._kept[number] = (self._read(), self._readers)
            message, left = self._kept.pop(number)
            if left > 1:
                self._kept[number] = (message, left - 1)
            return message

    def _read(self) -> bytes:
        for batch in self._batches:
            values = [component.numpy() for component in components_of(batch)]
            return pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
        return b""


class DatasetServer:
    """A context that serves the batches of data sets to workers.

    Args:
        readers: the number of workers.
        folder: a folder for its socket.
    """

    def __init__(self, readers: int, folder: str) -> None:
        import secrets

        self._readers = readers
        self._sources: list[ServedDataset] = []
        key = secrets.token_bytes(32)
        place = os.path.join(folder, "server")
        # A longer path does not fit into a socket address (unix(7)); Listener then chooses one.
        fitting = place if len(os.fsencode(place)) < _LONGEST_PLACE else None
        self._listener = Listener(fitting, "AF_UNIX", backlog=4 * readers, authkey=key)
        self.address = DatasetServerAddress(str(self._listener.address), key)
        self.fault: BaseException | None = None

    def add(self, source: ServedDataset) -> int:
        """Add a data set, and return its index.

        Raises:
            UsageError: its elements are of a type that cannot be sent.
        """
        if not has_components(source.dataset.element_spec):
            raise UsageError(
                "a data set whose elements are data sets or TensorArrays cannot be sent to "
                "workers; flatten it, or start the script with nano-run --nproc-per-node"
            )
        self._sources.append(source)
        return len(self._sources) - 1

    def __enter__(self) -> DatasetServer:
        threading.Thread(target=self._accept, daemon=True, name="nano-init dataset server").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        from multiprocessing import AuthenticationError

        while True:
            try:
                connection = self._listener.accept()
            except (AuthenticationError, EOFError, ConnectionError):
                continue  # an unknown client, or a worker that died
            except OSError:
                return  # closed
            threading.Thread(
                target=self._serve, args=(connection,), daemon=True, name="nano-init batches"
            ).start()

    def _serve(self, connection: Connection) -> None:
        # The reader disconnected: it stopped early, or failed.
        with connection, contextlib.suppress(EOFError, OSError):
            source, number = connection.recv()
            batches = self._sources[source].open(number, self._readers)
            batch = 0
            while connection.recv_bytes():
                try:
                    message = batches.take(batch)
                except BaseException as error:  # noqa: BLE001 - raised in the script's thread
                    self.fault = self.fault or error
                    connection.send_bytes(pickle.dumps(f"{type(error).__name__}: {error}"))
                    return
                connection.send_bytes(message)
                batch += 1


def has_components(spec: Any) -> bool:
    """Say whether elements consist of tensors that can be sent.

    Args:
        spec: the data set's `element_spec`.
    """
    import tensorflow as tf
    from tensorflow.python.data.util.structure import NoneTensorSpec

    # Keras replaces None by these (keras/src/trainers/data_adapters/generator_data_adapter.py).
    kinds = (tf.TensorSpec, tf.SparseTensorSpec, tf.RaggedTensorSpec, NoneTensorSpec)
    empty = tf.OptionalSpec(None)
    return all(isinstance(leaf, kinds) or leaf == empty for leaf in tf.nest.flatten(spec))


def components_of(value: Any) -> list[Any]:
    """Return the dense tensors of an element, or their specs; empty optionals have none.

    Args:
        value: an element of a data set, or its `element_spec`.
    """
    import tensorflow as tf

    dense, sparse = (tf.Tensor, tf.TensorSpec), (tf.SparseTensor, tf.SparseTensorSpec)
    kinds = (*dense, *sparse, tf.RaggedTensor, tf.RaggedTensorSpec)
    leaves = [leaf for leaf in tf.nest.flatten(value) if isinstance(leaf, kinds)]
    return list(tf.nest.flatten(leaves, expand_composites=True))
