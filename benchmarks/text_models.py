"""Models of convolutions over sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = ["tcn", "text_cnn", "text_conv"]


def text_conv(width: int = 128, length: int = 500, ids: int = 20_000) -> Any:
    """Return the classifier of texts of Keras's example "Text classification from scratch"."""
    from tensorflow import keras

    layers = keras.layers
    stack = [keras.Input((length,), dtype="int32"), layers.Embedding(ids, width)]
    stack += [layers.Dropout(0.5)]
    stack += [layers.Conv1D(width, 7, 3, activation="relu") for _ in range(2)]
    stack += [layers.GlobalMaxPooling1D(), layers.Dense(width, "relu"), layers.Dropout(0.5)]
    return _compiled(keras.Sequential([*stack, layers.Dense(2, "softmax")]))


def text_cnn(width: int = 128, length: int = 400, ids: int = 20_000) -> Any:
    """Return parallel convolutions over word vectors of 300 numbers (Kim 2014, arXiv:1408.5882)."""
    from tensorflow import keras

    layers = keras.layers
    inputs = keras.Input((length,), dtype="int32")
    words = layers.Embedding(ids, 300)(inputs)
    found = [layers.Conv1D(width, size, activation="relu")(words) for size in (3, 4, 5)]
    x = layers.Concatenate()([layers.GlobalMaxPooling1D()(each) for each in found])
    return _compiled(keras.Model(inputs, layers.Dense(2, "softmax")(layers.Dropout(0.5)(x))))


def tcn(filters: int = 64, length: int = 400) -> Any:
    """Return a temporal convolutional network (Bai et al. 2018, arXiv:1803.01271)."""
    from tensorflow import keras

    layers = keras.layers
    inputs = keras.Input((length, 8))
    x = layers.Conv1D(filters, 1)(inputs)
    for dilation in (1, 2, 4, 8, 16):
        y = x
        for _ in range(2):
            y = layers.Conv1D(
                filters, 3, padding="causal", dilation_rate=dilation, activation="relu"
            )(y)
            y = layers.Dropout(0.1)(y)
        x = layers.ReLU()(layers.Add()([x, y]))
    return _compiled(keras.Model(inputs, layers.Dense(10, "softmax")(x[:, -1])))


def _compiled(model: Any) -> Any:
    model.compile("adam", "sparse_categorical_crossentropy")
    return model
