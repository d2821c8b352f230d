"""Small models, one per family, for benchmarks that train each of them many times.

A model consists of a function that builds and compiles it under the active policy, and a matching
batch of synthetic data. Figures may differ for larger models of the same family; the shapes are
arguments of the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["MODELS", "Model"]


@dataclass(frozen=True)
class Model:
    """One model of the suite.

    Args:
        build: Returns the compiled model.
        batch: Returns one batch, inputs and labels, as NumPy arrays.
        steps: Steps to time in one process, after the warm-up.
    """

    build: Callable[[], Any]
    batch: Callable[[], tuple[Any, Any]]
    steps: int


def _compiled(model: Any, optimizer: Any = "adam") -> Any:
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def _floats(*shape: int, classes: int = 10) -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, "float32"), rng.integers(0, classes, shape[0])


def _ids(*shape: int, ids: int) -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.integers(0, ids, shape), rng.integers(0, 10, shape[0])


def _mlp(units: int = 768, optimizer: Any = "adam") -> Any:
    from keras import Input, Sequential, layers

    hidden = [layers.Dense(units, "relu") for _ in range(3)]
    head = layers.Dense(10, "softmax")
    return _compiled(Sequential([Input((units,)), *hidden, head]), optimizer)


def _momentum() -> Any:
    from keras.optimizers import SGD

    return SGD(0.01, momentum=0.9, nesterov=True)


def _tiny_mlp() -> Any:
    from keras import Input, Sequential, layers

    hidden = [layers.Dense(64, "relu") for _ in range(2)]
    return _compiled(Sequential([Input((784,)), *hidden, layers.Dense(10, "softmax")]))


def _cnn() -> Any:
    from keras import Input, Sequential, layers

    stack = [Input((32, 32, 3))]
    for filters in (32, 64, 128):
        for stride in (1, 2):
            stack += [
                layers.Conv2D(filters, 3, stride, "same", use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
            ]
    return _compiled(
        Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(10, "softmax")])
    )


def _resnet() -> Any:
    from keras import Input, Model, layers

    inputs = Input((32, 32, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    for filters in (16, 32, 64):
        for block in range(2):
            stride = 2 if filters > 16 and block == 0 else 1
            y = _conv_norm(x, filters, stride)
            y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(layers.ReLU()(y))
            y = layers.BatchNormalization()(y)
            short = x if stride == 1 else layers.Conv2D(filters, 1, 2)(x)
            x = layers.ReLU()(layers.add([y, short]))
    head = layers.Dense(10, "softmax")(layers.GlobalAveragePooling2D()(x))
    return _compiled(Model(inputs, head), _momentum())


def _conv_norm(x: Any, filters: int, stride: int) -> Any:
    from keras import layers

    x = layers.Conv2D(filters, 3, stride, "same", use_bias=False)(x)
    return layers.BatchNormalization()(x)


def _transformer(width: int = 192, layers_count: int = 2) -> Any:
    from keras import Input, Model, layers

    inputs = Input((64,), dtype="int32")
    x = layers.Embedding(5000, width)(inputs)
    for _ in range(layers_count):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(4, width // 4)(y, y)
        y = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(width)(y)
    x = layers.GlobalAveragePooling1D()(x)
    return _compiled(Model(inputs, layers.Dense(10, "softmax")(x)))


def _recurrent(kind: str) -> Any:
    from keras import Input, Sequential, layers

    layer = getattr(layers, kind)(128)
    return _compiled(Sequential([Input((32, 64)), layer, layers.Dense(10, "softmax")]))


def _recommender() -> Any:
    from keras import Input, Sequential, layers

    hidden = [layers.Dense(256, "relu") for _ in range(2)]
    stack = [Input((8,), dtype="int32"), layers.Embedding(20_000, 32), layers.Flatten()]
    return _compiled(Sequential([*stack, *hidden, layers.Dense(10, "softmax")]))


MODELS = {
    "mlp": Model(_mlp, lambda: _floats(128, 768), 60),
    "cnn-batchnorm": Model(_cnn, lambda: _floats(32, 32, 32, 3), 20),
    "resnet": Model(_resnet, lambda: _floats(32, 32, 32, 3), 20),
    "transformer": Model(_transformer, lambda: _ids(16, 64, ids=5000), 20),
    "lstm": Model(lambda: _recurrent("LSTM"), lambda: _floats(32, 32, 64), 40),
    "gru": Model(lambda: _recurrent("GRU"), lambda: _floats(32, 32, 64), 40),
    "recommender": Model(_recommender, lambda: _ids(256, 8, ids=20_000), 60),
    "tiny-mlp": Model(_tiny_mlp, lambda: _floats(128, 784), 300),
}
