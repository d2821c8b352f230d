"""The models that the benchmarks train: one per family, small enough for two cores.

A model consists of a function that builds and compiles it under the active policy, and a matching
batch of synthetic data. Only features of TensorFlow 2.10 are used, so that one script trains them
under every TensorFlow in the comparison.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from custom_steps import masked_lm, masked_lm_batch, vq_vae, vq_vae_batch
from tabular_models import graph_network, graph_network_batch, wide_deep, wide_deep_batch
from text_models import tcn, text_cnn, text_conv

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["MODELS", "SUITE", "Model"]


@dataclass(frozen=True)
class Model:
    """One model of the suite.

    Args:
        title: Its name in the table.
        build: Returns the compiled model.
        batch: Returns one batch, inputs and labels, as NumPy arrays.
        steps: Steps of one timed block.
        is_loop: Whether a custom loop in `tf.function` trains it instead of `fit`.
        is_short: Whether repeated calls of `fit` with two batches train it; a step is one call.
        is_in_suite: Whether all benchmarks train it, not only that of a faster path.
        is_legacy: Whether Keras 2 (`tf_keras`) trains it, which TF_USE_LEGACY_KERAS chooses.
    """

    title: str
    build: Callable[[], Any]
    batch: Callable[[], tuple[Any, Any]]
    steps: int
    is_loop: bool = False
    is_short: bool = False
    is_in_suite: bool = True
    is_legacy: bool = False

    @property
    def warm_up(self) -> int:
        """Return the number of steps that are not timed."""
        return max(3, self.steps)


def _keras() -> Any:
    if os.environ.get("KERAS_BACKEND") == "jax":
        import keras
    else:
        from tensorflow import keras
    return keras


def _compiled(model: Any, optimizer: Any = "adam", loss: str = "") -> Any:
    model.compile(optimizer, loss or "sparse_categorical_crossentropy")
    return model


def _floats(*shape: int, classes: int = 10) -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, "float32"), rng.integers(0, classes, shape[0])


def _ids(*shape: int, ids: int, labels: tuple[int, ...] = (), classes: int = 10) -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.integers(0, ids, shape), rng.integers(0, classes, labels or shape[:1])


def _mlp(units: int = 2048, depth: int = 4, optimizer: Any = "adam") -> Any:
    keras = _keras()
    hidden = [keras.layers.Dense(units, "relu") for _ in range(depth)]
    head = keras.layers.Dense(10, "softmax")
    return _compiled(keras.Sequential([keras.Input((units,)), *hidden, head]), optimizer)


def _mlp_with(optimizer: str) -> Model:
    """Return the MLP with an optimizer by its name, and Keras's defaults."""
    return Model(
        f"MLP 4x2048, batch 256, {optimizer}",
        lambda: _mlp(optimizer=getattr(_keras().optimizers, optimizer)()),
        lambda: _floats(256, 2048),
        8,
        is_in_suite=False,
    )


def _legacy(title: str, build: Callable[[], Any], batch: Callable[[], Any], steps: int) -> Model:
    return Model(f"{title}, tf_keras", build, batch, steps, is_in_suite=False, is_legacy=True)


def _tiny_mlp() -> Any:
    keras = _keras()
    hidden = [keras.layers.Dense(64, "relu") for _ in range(2)]
    head = keras.layers.Dense(10, "softmax")
    return _compiled(keras.Sequential([keras.Input((784,)), *hidden, head]))


def _rmsprop() -> Any:
    return _keras().optimizers.RMSprop(0.001, momentum=0.9)


def _cnn() -> Any:
    keras = _keras()
    layers = keras.layers
    stack = [keras.Input((64, 64, 3))]
    for filters in (64, 128, 256):
        for strides in (1, 2):
            stack += [
                layers.Conv2D(filters, 3, strides, padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
            ]
    head = [layers.GlobalAveragePooling2D(), layers.Dense(10, "softmax")]
    return _compiled(keras.Sequential([*stack, *head]))


def _resnext(filters: int = 128, groups: int = 32) -> Any:
    keras = _keras()
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(filters, 3, 2, padding="same")(inputs)
    for _ in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 1)(x)))
        y = layers.Conv2D(filters, 3, padding="same", groups=groups)(y)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        x = layers.ReLU()(layers.Add()([x, layers.Conv2D(filters, 1)(y)]))
    head = layers.Dense(10, "softmax")(layers.GlobalAveragePooling2D()(x))
    return _compiled(keras.Model(inputs, head))


def _application(name: str, side: int, optimizer: Any = "adam") -> Any:
    build = getattr(_keras().applications, name)
    return _compiled(build(weights=None, input_shape=(side, side, 3), classes=100), optimizer)


def _momentum() -> Any:
    return _keras().optimizers.SGD(0.01, momentum=0.9, nesterov=True)


def _unet(filters: int = 32) -> Any:
    keras = _keras()
    layers = keras.layers

    def block(x: Any, width: int) -> Any:
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        return x

    inputs = keras.Input((96, 96, 3))
    top = block(inputs, filters)
    middle = block(layers.MaxPooling2D()(top), filters * 2)
    bottom = block(layers.MaxPooling2D()(middle), filters * 4)
    up = layers.Conv2DTranspose(filters * 2, 2, 2)(bottom)
    up = block(layers.Concatenate()([up, middle]), filters * 2)
    up = layers.Conv2DTranspose(filters, 2, 2)(up)
    up = block(layers.Concatenate()([up, top]), filters)
    outputs = layers.Conv2D(1, 1, activation="sigmoid")(up)
    return _compiled(keras.Model(inputs, outputs), loss="binary_crossentropy")


def _unet_batch() -> tuple[Any, Any]:
    inputs, _ = _floats(8, 96, 96, 3)
    return inputs, (inputs[..., :1] > 0).astype("float32")


def _encoder_block(x: Any, width: int, heads: int, causal: bool = False) -> Any:
    layers = _keras().layers
    y = layers.LayerNormalization()(x)
    attention = layers.MultiHeadAttention(heads, width // heads, dropout=0.0 if causal else 0.1)
    x = layers.Add()([x, attention(y, y, use_causal_mask=causal)])
    y = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(x))
    y = layers.Dropout(0.1)(layers.Dense(width)(y))
    return layers.Add()([x, y])


def _encoder(width: int = 512, depth: int = 4, length: int = 128) -> Any:
    keras = _keras()
    inputs = keras.Input((length,), dtype="int32")
    x = keras.layers.Embedding(8000, width)(inputs)
    for _ in range(depth):
        x = _encoder_block(x, width, 8)
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.LayerNormalization()(x))
    return _compiled(keras.Model(inputs, keras.layers.Dense(10, "softmax")(x)))


def _decoder(width: int = 384, depth: int = 3, length: int = 128, ids: int = 4000) -> Any:
    keras = _keras()
    inputs = keras.Input((length,), dtype="int32")
    x = keras.layers.Embedding(ids, width)(inputs)
    for _ in range(depth):
        x = _encoder_block(x, width, 6, causal=True)
    x = keras.layers.LayerNormalization()(x)
    return _compiled(keras.Model(inputs, keras.layers.Dense(ids, "softmax")(x)))


def _vit(width: int = 256, depth: int = 4) -> Any:
    keras = _keras()
    layers = keras.layers
    inputs = keras.Input((96, 96, 3))
    x = layers.Conv2D(width, 8, 8)(inputs)
    x = layers.Reshape((144, width))(x)
    for _ in range(depth):
        x = _encoder_block(x, width, 4)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return _compiled(keras.Model(inputs, layers.Dense(10, "softmax")(x)))


def _lstm(units: int = 512) -> Any:
    keras = _keras()
    stack = [keras.Input((64, 128)), keras.layers.LSTM(units)]
    return _compiled(keras.Sequential([*stack, keras.layers.Dense(10, "softmax")]))


def _gru(units: int = 256) -> Any:
    keras = _keras()
    stack = [keras.Input((64, 128)), keras.layers.GRU(units, return_sequences=True)]
    stack += [keras.layers.GRU(units), keras.layers.Dense(10, "softmax")]
    return _compiled(keras.Sequential(stack))


def _recommender(ids: int = 200_000) -> Any:
    keras = _keras()
    layers = keras.layers
    stack = [keras.Input((26,), dtype="int32"), layers.Embedding(ids, 64), layers.Flatten()]
    hidden = [layers.Dense(256, "relu"), layers.Dense(128, "relu")]
    return _compiled(keras.Sequential([*stack, *hidden, layers.Dense(10, "softmax")]))


MODELS = {
    "mlp": Model("MLP 4x2048, batch 256", _mlp, lambda: _floats(256, 2048), 8),
    "mlp_rmsprop": Model(
        "MLP 4x2048, batch 256, RMSprop with momentum",
        lambda: _mlp(optimizer=_rmsprop()),
        lambda: _floats(256, 2048),
        8,
    ),
    "cnn": Model("CNN, 6 conv + BatchNorm, 64x64", _cnn, lambda: _floats(32, 64, 64, 3), 3),
    "resnet50": Model(
        "ResNet50, 128x128, batch 16",
        lambda: _application("ResNet50", 128, _momentum()),
        lambda: _floats(16, 128, 128, 3, classes=100),
        2,
    ),
    "mobilenet": Model(
        "MobileNetV2, 96x96, batch 32",
        lambda: _application("MobileNetV2", 96),
        lambda: _floats(32, 96, 96, 3, classes=100),
        4,
    ),
    "unet": Model("U-Net, 96x96, batch 8", _unet, _unet_batch, 4),
    "encoder": Model(
        "transformer encoder 4x512, sequence 128", _encoder, lambda: _ids(16, 128, ids=8000), 2
    ),
    "vit": Model("ViT 4x256, 144 patches", _vit, lambda: _floats(16, 96, 96, 3), 4),
    "decoder": Model(
        "decoder 3x384, causal, 4,000 ids",
        _decoder,
        lambda: _ids(8, 128, ids=4000, labels=(8, 128), classes=4000),
        4,
    ),
    "lstm": Model("LSTM 512, 64 steps", _lstm, lambda: _floats(64, 64, 128), 5),
    "gru": Model("GRU 2x256, 64 steps", _gru, lambda: _floats(64, 64, 128), 5),
    "recommender": Model(
        "embedding 200,000x64 + MLP, batch 512",
        _recommender,
        lambda: _ids(512, 26, ids=200_000),
        15,
    ),
    "tiny": Model("MNIST MLP 64-64-10, batch 128", _tiny_mlp, lambda: _floats(128, 784), 400),
    "short_fits": Model(
        "MNIST MLP 64-64-10, a fit of two batches",
        _tiny_mlp,
        lambda: _floats(256, 784),
        20,
        is_short=True,
    ),
    "loop": Model(
        "custom loop, MLP 3x1024, batch 128",
        lambda: _mlp(1024, 3),
        lambda: _floats(128, 1024),
        20,
        is_loop=True,
    ),
    "masked_lm": Model(
        "masked language model, 30,000 ids, own train_step", masked_lm, masked_lm_batch, 2
    ),
    "vq_vae": Model("VQ-VAE, 28x28, own train_step", vq_vae, vq_vae_batch, 20),
    "resnext": Model(
        "ResNeXt, 2 blocks of 32 groups, 32x32, batch 8",
        _resnext,
        lambda: _floats(8, 32, 32, 3),
        5,
        is_in_suite=False,
    ),
    "graph_network": Model(
        "graph network, 2,708 nodes, 5,429 edges",
        graph_network,
        graph_network_batch,
        10,
        is_in_suite=False,
    ),
    "wide_deep": Model(
        "wide and deep, 26 features, batch 512",
        wide_deep,
        wide_deep_batch,
        20,
        is_in_suite=False,
    ),
    "text_conv": Model(
        "text by strided Conv1D, sequence 500, batch 32",
        text_conv,
        lambda: _ids(32, 500, ids=20_000, classes=2),
        10,
        is_in_suite=False,
    ),
    "text_cnn": Model(
        "text by Conv1D of three sizes, sequence 400, batch 32",
        text_cnn,
        lambda: _ids(32, 400, ids=20_000, classes=2),
        5,
        is_in_suite=False,
    ),
    "tcn": Model(
        "TCN of 10 causal Conv1D, sequence 400, batch 32",
        tcn,
        lambda: _floats(32, 400, 8),
        10,
        is_in_suite=False,
    ),
    "mlp_adadelta": _mlp_with("Adadelta"),
    "mlp_adafactor": _mlp_with("Adafactor"),
    "mlp_adagrad": _mlp_with("Adagrad"),
    "mlp_adamax": _mlp_with("Adamax"),
    "mlp_ftrl": _mlp_with("Ftrl"),
    "mlp_lamb": _mlp_with("Lamb"),
    "mlp_lion": _mlp_with("Lion"),
    "mlp_nadam": _mlp_with("Nadam"),
    "mlp_plain_rmsprop": _mlp_with("RMSprop"),
    "legacy_mlp": _legacy("MLP 4x2048, batch 256", _mlp, lambda: _floats(256, 2048), 8),
    "legacy_mlp_sgd": _legacy(
        "MLP 4x2048, batch 256, SGD with momentum",
        lambda: _mlp(optimizer=_momentum()),
        lambda: _floats(256, 2048),
        8,
    ),
    "legacy_mlp_rmsprop": _legacy(
        "MLP 4x2048, batch 256, RMSprop with momentum",
        lambda: _mlp(optimizer=_rmsprop()),
        lambda: _floats(256, 2048),
        8,
    ),
    "legacy_mlp_plain_rmsprop": _legacy(
        "MLP 4x2048, batch 256, RMSprop",
        lambda: _mlp(optimizer=_keras().optimizers.RMSprop()),
        lambda: _floats(256, 2048),
        8,
    ),
    "legacy_tiny": _legacy(
        "MNIST MLP 64-64-10, batch 128", _tiny_mlp, lambda: _floats(128, 784), 400
    ),
    "legacy_short_fits": Model(
        "MNIST MLP 64-64-10, a fit of two batches, tf_keras",
        _tiny_mlp,
        lambda: _floats(256, 784),
        20,
        is_in_suite=False,
        is_short=True,
        is_legacy=True,
    ),
    "legacy_recommender": _legacy(
        "embedding 200,000x64 + MLP, batch 512",
        _recommender,
        lambda: _ids(512, 26, ids=200_000),
        5,
    ),
}
SUITE = tuple(name for name, model in MODELS.items() if model.is_in_suite)
