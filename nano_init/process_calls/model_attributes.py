"""Models that no config describes, as they travel: made of their attributes, one by one.

A model with a `train_step` of its own, such as a GAN, is given its parts as arguments and has
no `get_config()`. Its class's constructor is not called again: Keras's own makes a model
without parts, and Keras tracks each attribute as it does when a constructor assigns it.
"""

from __future__ import annotations

import functools
from collections import OrderedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Model, Variable

__all__ = ["is_made_of_attributes", "own_attributes", "reduce_model", "reduce_tracked"]

# What Keras gives a model later than in its constructor and in `compile`.
_LATER = frozenset({"_auto_config", "_build_shapes_dict", "_eval_epoch_iterator", "_tracked",
                    "history", "stop_training"})  # fmt: skip


def is_made_of_attributes(thing: Any) -> bool:
    """Say whether something is a model whose config cannot make it again as it is."""
    import keras

    is_functional = isinstance(thing, (_functional_class(), keras.Sequential))
    if not isinstance(thing, keras.Model) or is_functional:
        return False
    return _has_own_compile(thing) or not _has_config(thing)


def _functional_class() -> type:
    from keras.src.models.functional import Functional

    kind: type = Functional
    return kind


def _has_own_compile(model: Model) -> bool:
    """Say whether a model is compiled by its class's own method, which keeps no arguments."""
    import keras

    own = next(base for base in type(model).__mro__ if "compile" in vars(base))
    is_base = type(model).compile_from_config is keras.Model.compile_from_config
    return is_base and not own.__module__.startswith("keras.")


def _has_config(model: Model) -> bool:
    try:
        model.get_config()
    except NotImplementedError:
        return False
    return True


def reduce_model(model: Model) -> tuple[Any, ...]:
    """Return how to pickle a model as its class and attributes, as `object.__reduce__` does."""
    import keras

    own = own_attributes(model)
    compiled = dict(model._compile_config.config) if model.compiled else None
    if compiled is not None:
        compiled["optimizer"] = model.optimizer
    policy = keras.dtype_policies.serialize(model.dtype_policy)
    return _make, (type(model), model.name, policy), (own, compiled), None, None, _fill


def own_attributes(model: Model) -> dict[str, Any]:
    """Return what a model's class has assigned, in this order."""
    names = _names_of_keras()
    return {name: value for name, value in vars(model).items() if name not in names}


@functools.cache
def _names_of_keras() -> frozenset[str]:
    """Return the names of the attributes that Keras gives every model."""
    import keras

    empty = keras.Model()
    empty.compile("sgd", "mse")
    return frozenset(vars(empty)) | _LATER


def _make(kind: Any, name: str, policy: Any) -> Any:
    import keras

    model: Any = kind.__new__(kind)
    keras.Model.__init__(model, name=name, dtype=policy)
    return model


def _fill(model: Any, state: tuple[dict[str, Any], dict[str, Any] | None]) -> None:
    import keras

    own, compiled = state
    for name, value in own.items():
        setattr(model, name, value)
    if compiled is not None:
        keras.Model.compile(model, **compiled)


def reduce_tracked(thing: Any) -> tuple[Any, ...] | None:
    """Return how to pickle what Keras tracks in a model's attributes, or None for others."""
    import keras
    from keras.src.utils import tracking

    kinds = {"List": list, "Dict": dict, "OrderedDict": OrderedDict, "Set": set}
    for name, plain in kinds.items():
        tracked = getattr(tracking, f"Tracked{name}", None)  # Keras 3.8 has no ordered dict
        if tracked is not None and isinstance(thing, tracked):
            return plain, (plain(thing),)
    if isinstance(thing, keras.random.SeedGenerator):
        return _make_seed_generator, (thing.get_config(), thing.state.numpy())
    if isinstance(thing, keras.Variable):
        return _make_variable, (_describe(thing), thing.numpy())
    return None


def _make_seed_generator(config: dict[str, Any], state: Any) -> Any:
    import keras

    generator = keras.random.SeedGenerator.from_config(config)
    generator.state.assign(state)
    return generator


def _describe(variable: Variable) -> dict[str, Any]:
    names = ("dtype", "trainable", "aggregation", "synchronization", "name")
    return {name: getattr(variable, name) for name in names}


def _make_variable(described: dict[str, Any], value: Any) -> Any:
    import keras

    return keras.Variable(value, **described)
