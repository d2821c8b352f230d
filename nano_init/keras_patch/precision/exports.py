"""Exported models compute in float32, as they do without nano-init.

SavedModel, TFLite and ONNX files run on other machines, possibly without a bfloat16 unit, and in
runtimes without bfloat16 kernels. While a model is traced for export, the layers that nano-init
made mixed_bfloat16 are float32. Layers whose policy the script chose keep it.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager

from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.precision.own_policy import is_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from nano_init.keras_patch.precision.float32_fallback import LayerPolicies
    from nano_init.keras_patch.tensor_types import Layer, Model

_SOURCES = "_nano_sources"

__all__ = ["export_replacements", "keras_export_replacements"]


def export_replacements(policies: dict[str, LayerPolicies]) -> Iterator[Replacement]:
    """Yield the replacements that make `tf.saved_model.save` trace all layers in float32.

    Args:
        policies: How to change a layer's policy, by the name of the Keras package.
    """
    from tensorflow.python.saved_model import save

    name = "save_and_return_nodes"
    yield Replacement(save, name, _wrap_save(getattr(save, name), policies))


def keras_export_replacements(policies: LayerPolicies) -> Iterator[Replacement]:
    """Yield the replacements that make Keras 3's own exports trace in float32.

    Args:
        policies: How to change a layer's policy.
    """
    from keras.src.models.model import Model

    yield Replacement(Model, "export", _wrap_export(vars(Model)["export"], policies))
    archive = _archive_class()
    for name, wrap in (("add_endpoint", _wrap_add_endpoint), ("write_out", _wrap_write_out)):
        yield Replacement(archive, name, wrap(vars(archive)[name], policies))


def _archive_class() -> Any:
    import keras

    # Since Keras 3.13 ExportArchive only selects the archive of the backend.
    try:
        from keras.src.export.saved_model_export_archive import SavedModelExportArchive
    except ImportError:
        return keras.export.ExportArchive
    return SavedModelExportArchive


@contextmanager
def _in_float32(layers: Iterable[Layer], policies: LayerPolicies) -> Iterator[None]:
    own = [layer for layer in layers if is_own(layer._dtype_policy) and policies.is_mixed(layer)]
    replaced = [(layer, policies.widen(layer)) for layer in own]
    try:
        yield
    finally:
        for layer, policy in replaced:
            policies.restore(layer, policy)


def _wrap_export(export: Callable[..., Any], policies: LayerPolicies) -> Callable[..., Any]:
    @functools.wraps(export)
    def export_in_float32(self: Model, *args: Any, **kwargs: Any) -> Any:
        with _in_float32(policies.flatten(self), policies):
            return export(self, *args, **kwargs)

    return export_in_float32


def _wrap_add_endpoint(add: Callable[..., Any], policies: LayerPolicies) -> Callable[..., Any]:
    @functools.wraps(add)
    def add_endpoint(self: Any, name: Any, fn: Any, *args: Any, **kwargs: Any) -> Any:
        function = getattr(fn, "func", fn)  # TFLite's converter passes a partial
        sources = (fn, getattr(function, "__self__", None), *getattr(self, _SOURCES, ()))
        setattr(self, _SOURCES, sources)
        with _in_float32(_layers_of(self, policies), policies):
            return add(self, name, fn, *args, **kwargs)

    return add_endpoint


def _wrap_write_out(write: Callable[..., Any], policies: LayerPolicies) -> Callable[..., Any]:
    # Endpoints with a signature are traced only here.
    @functools.wraps(write)
    def write_out(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _in_float32(_layers_of(self, policies), policies):
            return write(self, *args, **kwargs)

    return write_out


def _layers_of(archive: Any, policies: LayerPolicies) -> list[Layer]:
    from keras.src.layers.layer import Layer

    sources = (*getattr(archive, "_tracked", ()), *getattr(archive, _SOURCES, ()))
    roots = [source for source in sources if isinstance(source, Layer)]
    return list({id(x): x for root in roots for x in policies.flatten(root)}.values())


def _wrap_save(save: Callable[..., Any], policies: dict[str, LayerPolicies]) -> Callable[..., Any]:
    import contextlib

    @functools.wraps(save)
    def save_in_float32(obj: Any, *args: Any, **kwargs: Any) -> Any:
        with contextlib.ExitStack() as stack:
            for package, how in policies.items():
                stack.enter_context(_in_float32(_layers_in(obj, package, how), how))
            return save(obj, *args, **kwargs)

    return save_in_float32


def _layers_in(obj: Any, package: str, policies: LayerPolicies) -> list[Layer]:
    import sys

    import tensorflow as tf

    layer_class = sys.modules[package].layers.Layer
    if not isinstance(obj, tf.__internal__.tracking.Trackable):
        return []
    held = tf.train.TrackableView(obj).descendants()
    roots = [item for item in held if isinstance(item, layer_class)]
    return list({id(x): x for root in roots for x in policies.flatten(root)}.values())
