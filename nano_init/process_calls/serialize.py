"""Calls as files: a function and its arguments, with everything that they refer to.

Functions and classes of the script itself are pickled by value (cloudpickle), those of modules by
name. Data sets stay in the script's process, and a server sends their batches.
"""

from __future__ import annotations

import copyreg
import io
import marshal
import mmap
import os
import pickle
import types

from nano_init.errors import UsageError
from nano_init.frozen import frozen
from nano_init.process_calls.keras_objects import (
    is_loss,
    is_valued,
    reduce_loss,
    reduce_valued,
)
from nano_init.process_calls.model_attributes import (
    is_made_of_attributes,
    own_attributes,
    reduce_tracked,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer

__all__ = ["Packed", "can_come_back", "pack", "pack_back", "read_packed", "write_packed"]

_ALIGNMENT = 64  # the alignment that TensorFlow requires of memory that it uses in place


@frozen
class Packed:
    """A serialized value.

    Args:
        content: its pickle.
        buffers: its large arrays, as `pickle.PickleBuffer`s.
    """

    content: bytes
    buffers: tuple[Any, ...]


# The objects that a returned value may refer to, while it is read.
_known: Sequence[Any] = ()


def pack(value: Any, reduce_dataset: Callable[[Any], Any]) -> tuple[Packed, list[Any]]:
    """Serialize a call, and return it with the Keras objects in it that have values.

    Args:
        value: any value that can be pickled.
        reduce_dataset: how to pickle a data set.

    Raises:
        UsageError: something in it cannot be pickled.
    """
    sent: list[Any] = []
    try:
        return _pack(value, reduce_dataset, sent), sent
    except UsageError as error:
        raise UsageError(f"{_name_attribute(sent, reduce_dataset)}{error}") from error


def _pack(value: Any, reduce_dataset: Callable[[Any], Any], sent: list[Any]) -> Packed:
    buffers: list[Any] = []
    file = io.BytesIO()
    pickler = _pickler(_CallPickling)(file, buffers.append, reduce_dataset, sent)
    _dump(pickler, lambda sent: (value, sent), sent)
    return Packed(file.getvalue(), tuple(buffers))


def _name_attribute(models: Sequence[Any], reduce_dataset: Callable[[Any], Any]) -> str:
    """Return which attribute of a model cannot travel, or nothing where it is none."""
    for model in filter(is_made_of_attributes, models):
        for name, value in own_attributes(model).items():
            if not _can_travel(value, reduce_dataset):
                return f"{type(model).__name__} {model.name!r}, attribute {name!r}: "
    return ""


def _can_travel(value: Any, reduce_dataset: Callable[[Any], Any]) -> bool:
    try:
        _pack(value, reduce_dataset, [])
    except UsageError:
        return False
    return True


def pack_back(value: Any, known: Sequence[Any]) -> Packed:
    """Serialize a returned value.

    Args:
        value: any value that can be pickled.
        known: Keras objects that the reader has; they are referred to by index.

    Raises:
        UsageError: something in it cannot be pickled.
    """
    buffers: list[Any] = []
    file = io.BytesIO()
    _dump(_pickler(_BackPickling)(file, buffers.append, known), lambda _: value, [])
    return Packed(file.getvalue(), tuple(buffers))


def can_come_back(value: Any) -> bool:
    """Say whether a value can be returned to the script."""
    try:
        pack_back(value, ())
    except Exception:  # noqa: BLE001 - a class's own pickling may raise anything
        return False
    return True


def _dump(pickler: Any, parts: Callable[[list[Any]], Any], sent: list[Any]) -> None:
    errors = (pickle.PicklingError, TypeError, AttributeError, NotImplementedError)
    try:
        pickler.dump(parts(sent))
    except (*errors, RecursionError) as error:
        raise UsageError(
            f"something that the call uses cannot be sent to another process ({error}); create "
            "it inside the function, or start the script with nano-run --nproc-per-node instead"
        ) from error


def write_packed(packed: Packed, path: str) -> None:
    """Write packed values to a file atomically."""
    with open(f"{path}.new", "wb") as file:
        places = []
        for buffer in packed.buffers:
            file.seek(-(-file.tell() // _ALIGNMENT) * _ALIGNMENT)
            places.append((file.tell(), buffer.raw().nbytes))
            file.write(buffer.raw())
        start = file.tell()
        pickle.dump((places, packed.content), file)
        file.write(start.to_bytes(8, "little"))
    os.replace(f"{path}.new", path)


def read_packed(path: str, known: Sequence[Any] = ()) -> Any:
    """Return the value in a file; its large arrays are mapped and read when they are used.

    Args:
        path: the file; it may be removed afterwards.
        known: Keras objects that the value may refer to.
    """
    global _known
    with open(path, "rb") as file:
        # Copy-on-write: all workers read the same pages.
        memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    start = int.from_bytes(memory[-8:], "little")
    places, content = pickle.loads(memory[start:-8])  # noqa: S301 - our own
    _known = known
    try:
        buffers = [memory[place : place + size] for place, size in places]
        return pickle.loads(content, buffers=buffers)  # noqa: S301 - our own
    finally:
        _known = ()


def _known_object(number: int) -> Any:
    return _known[number]


def _part(layer: Layer, place: int) -> Any:
    return list(layer._flatten_layers())[place]


def _pickler(kind: type) -> Any:
    """Return a class of picklers, which pickles by value if cloudpickle is installed."""
    try:
        import cloudpickle
    except ImportError:
        return type(kind.__name__, (kind, _ByNamePickler), {})
    return type(kind.__name__, (kind, cloudpickle.Pickler), {})


class _ByNamePickler(pickle.Pickler):
    """The substitute without cloudpickle: the script's own code cannot be pickled."""

    def reducer_override(self, thing: Any) -> Any:
        is_code = isinstance(thing, (type, types.FunctionType))
        if is_code and (thing.__module__ == "__main__" or "<" in thing.__qualname__):
            raise pickle.PicklingError(
                f"{thing.__qualname__} is defined in the script; pip install cloudpickle"
            )
        return NotImplemented


class _CallPickling:
    """Pickles what goes to the workers: Keras objects without values, data sets by index.

    Args:
        file: where the pickle is written to.
        keep: takes a buffer that is stored separately.
        reduce_dataset: how to pickle a data set.
        sent: takes the Keras objects with values.
    """

    def __init__(
        self, file: Any, keep: Any, reduce_dataset: Callable[[Any], Any], sent: list[Any]
    ) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL, buffer_callback=keep)  # type: ignore[call-arg]
        self._reduce_dataset = reduce_dataset
        self._sent = sent
        self._owners: dict[int, tuple[Any, int]] = {}

    def reducer_override(self, thing: Any) -> Any:
        """Return how to pickle a thing (`pickle.Pickler.reducer_override`)."""
        if is_valued(thing):
            return self._reduce_valued(thing)
        if is_loss(thing):
            return reduce_loss(thing)
        reduced = reduce_tracked(thing) or self._reduce_tensorflow(thing)
        return super().reducer_override(thing) if reduced is None else reduced  # type: ignore[misc]

    def _reduce_tensorflow(self, thing: Any) -> Any:
        import tensorflow as tf

        if isinstance(thing, tf.data.Dataset):
            return self._reduce_dataset(thing)
        if isinstance(thing, tf.data.Iterator):
            raise UsageError("an iterator cannot be sent to workers; pass its data set instead")
        if isinstance(thing, tf.types.experimental.PolymorphicFunction):
            fresh = thing._clone(thing.python_function)  # without its traces
            return copyreg.__newobj__, (type(thing),), fresh.__getstate__()  # type: ignore[attr-defined]
        if isinstance(thing, types.CodeType):
            # cloudpickle drops the file name, which AutoGraph and tracebacks need.
            return marshal.loads, (marshal.dumps(thing),)
        return None

    def _reduce_valued(self, thing: Any) -> Any:
        if id(thing) in self._owners:
            return _part, self._owners[id(thing)]
        parts = list(thing._flatten_layers()) if hasattr(thing, "_flatten_layers") else []
        if is_made_of_attributes(thing):
            parts = [thing]  # its parts travel as its attributes
        if any(id(part) in self._owners for part in parts):
            raise UsageError(
                f"{thing.name} shares layers with another model that the call uses, and cannot be "
                "sent to workers without it; start the script with nano-run --nproc-per-node "
                "instead"
            )
        self._owners.update({id(part): (thing, n) for n, part in enumerate(parts)})
        self._sent.append(thing)
        return reduce_valued(thing)


class _BackPickling:
    """Pickles what is returned: Keras objects that the script already has by index.

    Args:
        file: where the pickle is written to.
        keep: takes a buffer that is stored separately.
        known: the objects that the script has.
    """

    def __init__(self, file: Any, keep: Any, known: Sequence[Any]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL, buffer_callback=keep)  # type: ignore[call-arg]
        self._numbers = {id(thing): number for number, thing in enumerate(known)}

    def reducer_override(self, thing: Any) -> Any:
        """Return how to pickle a thing (`pickle.Pickler.reducer_override`)."""
        import tensorflow as tf

        if id(thing) in self._numbers:
            return _known_object, (self._numbers[id(thing)],)
        if isinstance(thing, tf.data.Dataset):
            raise UsageError("a data set cannot be returned to the script")
        return super().reducer_override(thing)  # type: ignore[misc]
