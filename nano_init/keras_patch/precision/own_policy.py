"""Distinguish a dtype policy that nano-init chose for a layer from one that the script chose.

A script written for float32 must not save bfloat16 in its files. Where nano-init's own policy is
saved, the file says float32, as it would without nano-init, and a loaded model computes in float32
if nano-init is not active. An extra entry, which Keras ignores, makes such a layer mixed_bfloat16
again if nano-init is active.
"""

from __future__ import annotations

import functools
import inspect

from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer, Model

__all__ = ["OwnName", "is_own", "legacy_policy_file_replacements", "policy_file_replacements"]

_ENTRY = "nano_init"
_DEFAULT = "default"


class OwnName(str):
    """The name of a dtype policy that nano-init chose; Keras passes policies on by name."""

    __slots__ = ()

    def __copy__(self) -> OwnName:
        return self

    def __deepcopy__(self, _memo: object) -> OwnName:
        return self

    def __reduce__(self) -> tuple[type, tuple[str]]:
        # A pickle must load even if nano-init is not installed.
        return (str, (str(self),))


def is_own(policy: Any) -> bool:
    """Say whether nano-init chose a dtype policy.

    Args:
        policy: A dtype policy of Keras 3 or tf_keras.
    """
    return isinstance(getattr(policy, "_name", None), OwnName)


def policy_file_replacements() -> Iterator[Replacement]:
    """Yield the replacements that save own Keras 3 policies as float32, and load them."""
    from keras.src import dtype_policies
    from keras.src.dtype_policies.dtype_policy import DTypePolicy
    from keras.src.layers.layer import Layer
    from keras.src.models.functional import Functional

    yield Replacement(dtype_policies, "serialize", _wrap_serialize(dtype_policies.serialize))
    read = _wrap_deserialize(dtype_policies.deserialize, DTypePolicy)
    yield Replacement(dtype_policies, "deserialize", read)
    yield Replacement(
        DTypePolicy, "get_config", _wrap_policy_config(vars(DTypePolicy)["get_config"])
    )
    describe = _wrap_model_config(vars(Functional)["get_config"])
    yield Replacement(Functional, "get_config", describe)
    describe_layer = vars(Layer)["get_config"]
    if "serialize" not in inspect.unwrap(describe_layer).__code__.co_names:
        yield Replacement(Layer, "get_config", _wrap_layer_config(describe_layer))


def legacy_policy_file_replacements() -> Iterator[Replacement]:
    """Yield the same for tf_keras."""
    from tf_keras.src.mixed_precision import policy

    yield Replacement(policy, "serialize", _wrap_serialize(policy.serialize))
    yield Replacement(policy, "deserialize", _wrap_deserialize(policy.deserialize, policy.Policy))
    yield Replacement(
        policy.Policy, "get_config", _wrap_policy_config(vars(policy.Policy)["get_config"])
    )


def _wrap_serialize(serialize: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(serialize)
    def serialize_and_mark(policy: Any) -> Any:
        config = serialize(policy)
        if is_own(policy) and isinstance(config, dict):
            return {**config, _ENTRY: _DEFAULT}
        return config

    return serialize_and_mark


def _wrap_deserialize(deserialize: Callable[..., Any], policy_class: Any) -> Callable[..., Any]:
    @functools.wraps(deserialize)
    def deserialize_own(config: Any, custom_objects: Any = None) -> Any:
        if isinstance(config, dict) and config.get(_ENTRY) == _DEFAULT:
            return policy_class(OwnName("mixed_bfloat16"))
        return deserialize(config, custom_objects)

    return deserialize_own


def _wrap_model_config(get_config: Callable[..., Any]) -> Callable[..., Any]:
    """Describe the tensors between own layers as float32, like the layers themselves."""

    @functools.wraps(get_config)
    def get_portable_config(self: Model) -> Any:
        config = get_config(self)
        if any(is_own(layer.dtype_policy) for layer in self.layers):
            _widen_tensors(config)
        return config

    return get_portable_config


def _wrap_layer_config(get_config: Callable[..., Any]) -> Callable[..., Any]:
    """Describe an own policy in full: Keras 3.3 writes only its name."""
    from keras.src import dtype_policies

    @functools.wraps(get_config)
    def get_whole_config(self: Layer) -> Any:
        config = get_config(self)
        if is_own(self.dtype_policy):
            return {**config, "dtype": dtype_policies.serialize(self.dtype_policy)}
        return config

    return get_whole_config


def _widen_tensors(config: Any) -> None:
    # keras/src/models/functional.py, `serialize_node`: Keras reads only the history.
    if isinstance(config, (list, tuple)):
        for item in config:
            _widen_tensors(item)
    elif isinstance(config, dict):
        if config.get("class_name") == "__keras_tensor__":
            if config["config"].get("dtype") == "bfloat16":
                config["config"]["dtype"] = "float32"
        else:
            _widen_tensors(list(config.values()))


def _wrap_policy_config(get_config: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get_config)
    def get_portable_config(self: Any) -> Any:
        config = get_config(self)
        return {**config, "name": "float32"} if is_own(self) else config

    return get_portable_config
