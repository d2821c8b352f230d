"""Import what the namespaces of TensorFlow's API contain, such as `tf.lite.Interpreter`, on use.

`import tensorflow` runs all namespaces of its API, and those of `tf.compat.v1` and `tf.compat.v2`.
With them it imports what hardly any training uses: TensorFlow Lite, strategies for TPUs and their
tests, the Keras inside TensorFlow that feature columns are made of. That is a quarter of the time
of the import. The modules of these namespaces (tensorflow/_api/v2) consist of imports. Here each
name is imported when it is first read, and all of them when something asks for all names.

What they import may also change other modules. What replaces functions that TensorFlow's API
contains is imported before that is. What enters itself in a registry that a program reads without
a namespace is imported with TensorFlow, and what a saved model is read with, before
`tf.saved_model` is used.
"""

from __future__ import annotations

import contextlib
import os
import threading

from nano_init.keras_patch.faster.lazy_module import defer, importing_module
from nano_init.keras_patch.faster.namespace import make_namespace
from nano_init.keras_patch.faster.shadowed_loader import find_shadowed
from nano_init.protocol.supported_versions import TENSORFLOW_RANGE, numbers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping
    from types import ModuleType
    from typing import Any

__all__ = ["LazyNamespaceFinder"]

_API = "tensorflow._api.v2."
# Its modules replace themselves in `sys.modules`, so they are run when they are imported: all at
# the first use of `tf.compat.v1`.
_COMPAT_V1 = "tensorflow._api.v2.compat.v1"

# The second one wraps functions, in TensorFlow 2.21 225, such as `math_ops.matmul`, to promote
# dtypes as NumPy does. The first one takes some of them before, as operators.
_WRAPPING = (
    "tensorflow.python.ops.ragged.ragged_operators",
    "tensorflow.python.ops.numpy_ops.np_config",
)

# Statistics of ops for profilers, collections of imported graphs, and the flags that a program with
# `absl.flags` has.
_REGISTERING = (
    "tensorflow.python.profiler.internal.flops_registry",
    "tensorflow.python.training.queue_runner_impl",
    "absl.testing.absltest",
    "tensorflow.python.tpu.client.client",
    "tensorflow.python.tpu.tensor_tracer_flags",
)

# Packages with the names of namespaces: importing one sets the name of `tensorflow` that the
# namespace has from then on.
_SHADOWED = ("tensorflow.distribute", "tensorflow.lite")

# Classes, ops and gradients that a saved model may name.
_SAVED = (
    "tensorflow.python.saved_model.load",
    "tensorflow.python.saved_model.save",
    "tensorflow.python.keras.optimizer_v2.optimizer_v2",
    "tensorflow.python.ops.linalg.linalg",
    "tensorflow.python.debug.lib.dumping_callback",
    "tensorflow.lite.experimental.microfrontend.python.ops.audio_microfrontend_op",
)


class LazyNamespaceFinder:
    """A meta path finder that defers the namespaces of TensorFlow's API.

    Args:
        finders: The meta path, which contains it.
    """

    def __init__(self, finders: list[Any]) -> None:
        self._finders = finders
        self._is_verified: bool | None = None
        self._is_first = True
        self._asking = threading.local()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of TensorFlow, or of a namespace that another part of its API imports."""
        if name == "tensorflow":
            return find_shadowed(self._finders, self, (name, path, target), _run_tensorflow)
        is_namespace = name.startswith(_API) and not name.startswith(_COMPAT_V1)
        if is_namespace and self._is_asked_by_api(name) and self._applies():
            return find_shadowed(self._finders, self, (name, path, target), self._defer)
        return None

    def _is_asked_by_api(self, name: str) -> bool:
        if name == getattr(self._asking, "name", None):
            return True
        importing = importing_module()
        return importing == "tensorflow" or importing.startswith("tensorflow._api.")

    def _applies(self) -> bool:
        if self._is_verified is None:
            from tensorflow.python.framework.versions import VERSION

            first, last = map(numbers_of, TENSORFLOW_RANGE)
            self._is_verified = first <= numbers_of(VERSION)[:2] <= last
        return self._is_verified

    def _defer(self, module: ModuleType, run: Callable[[Any], None]) -> None:
        if self._is_first:
            self._is_first = False
            _import_found((*_SHADOWED, *_WRAPPING))

        def run_namespace(module: ModuleType) -> None:
            if module.__name__.endswith(".saved_model"):
                _import_found(_SAVED)
            if not make_namespace(module, self._import_inner):
                run(module)

        defer(module, run_namespace)

    def _import_inner(self, name: str) -> ModuleType:
        """Import a namespace inside another one."""
        from importlib import import_module

        self._asking.name = name
        try:
            return import_module(name)
        finally:
            self._asking.name = None


def _run_tensorflow(module: ModuleType, run: Callable[[Any], None]) -> None:
    run(module)
    _import_found(_REGISTERING)
    _disable_hdf5_plugins(os.path.dirname(module.__file__ or ""), os.environ)


def _disable_hdf5_plugins(folder: str, environ: MutableMapping[str, str]) -> None:
    """Keep HDF5 from loading plugins if this TensorFlow does, before anything imports h5py.

    As tensorflow/python/keras/saving/hdf5_format.py does when it is imported (TensorFlow 2.21).
    """
    source = os.path.join(folder, "python", "keras", "saving", "hdf5_format.py")
    with contextlib.suppress(OSError), open(source, encoding="utf-8") as file:
        if "os.environ['HDF5_PLUGIN_PATH'] = 'disable'" in file.read():
            environ["HDF5_PLUGIN_PATH"] = "disable"


def _import_found(names: Iterable[str]) -> None:
    """Import modules, without those that this TensorFlow does not have."""
    from importlib import import_module

    for name in names:
        with contextlib.suppress(ImportError):
            import_module(name)
