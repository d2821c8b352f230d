"""Data sets in a worker; the script's process reads and serves their batches."""

from __future__ import annotations

import itertools
import pickle
from multiprocessing.connection import Client

from nano_init.errors import NanoError
from nano_init.process_calls.dataset_server import components_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset
    from nano_init.process_calls.dataset_server import DatasetServerAddress

__all__ = ["RemoteDatasetError", "connect_to_server", "remote_dataset"]

_AHEAD = 2

_address: DatasetServerAddress | None = None


class RemoteDatasetError(NanoError, RuntimeError):
    """The script could not read its data; the cause is raised there."""


def connect_to_server(address: DatasetServerAddress) -> None:
    """Let the data sets of this process fetch their batches from a server."""
    global _address
    _address = address


def remote_dataset(number: int, spec: Any, cardinality: int) -> Dataset:
    """Return a data set of the server.

    Args:
        number: its index on the server.
        spec: its `element_spec`.
        cardinality: its number of elements, as `tf.data.Dataset.cardinality` returns it.
    """
    import tensorflow as tf

    passes = itertools.count()
    components = components_of(spec)

    def read() -> Iterator[tuple[Any, ...]]:
        return _read(number, next(passes))

    signature = tuple(_alone(component) for component in components)
    dataset = tf.data.Dataset.from_generator(read, output_signature=signature)
    pack = tf.autograph.experimental.do_not_convert(lambda *values: _packed(spec, values))
    dataset = dataset.map(pack).prefetch(_AHEAD)
    if cardinality == tf.data.UNKNOWN_CARDINALITY:
        return dataset
    return dataset.apply(tf.data.experimental.assert_cardinality(cardinality))


def _read(source: int, number: int) -> Iterator[tuple[Any, ...]]:
    if _address is None:
        raise RemoteDatasetError("no script serves data to this process")
    with Client(_address.place, authkey=_address.key) as connection:
        connection.send((source, number))
        while True:
            connection.send_bytes(b"next")
            message = connection.recv_bytes()
            if not message:
                return
            values = pickle.loads(message)  # noqa: S301 - the script's own
            if isinstance(values, str):
                raise RemoteDatasetError(f"the script's data ended with {values}")
            yield tuple(values)


def _alone(spec: Any) -> Any:
    import tensorflow as tf

    return tf.TensorSpec(spec.shape, spec.dtype)


def _packed(spec: Any, values: tuple[Any, ...]) -> Any:
    """Reassemble an element from its dense tensors."""
    import tensorflow as tf

    left = list(values)

    def pack(leaf: Any) -> Any:
        count = len(components_of(leaf))
        own, left[:count] = left[:count], []
        if isinstance(leaf, tf.OptionalSpec):
            return tf.experimental.Optional.empty(None)
        if not count:
            return None
        return tf.nest.pack_sequence_as(leaf, own, expand_composites=True)

    return tf.nest.map_structure(pack, spec)
