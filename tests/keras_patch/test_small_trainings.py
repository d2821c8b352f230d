"""Small models train under the patch as in plain Keras, on every Keras of the matrix."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init import patch_tensorflow, unpatch_tensorflow

pytestmark = pytest.mark.tensorflow

ROWS = 64


def convolutional():
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((8, 8, 3)),
            layers.Conv2D(8, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )


def recurrent():
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((8, 24)),
            layers.LSTM(8, return_sequences=True),
            layers.GRU(8),
            layers.Dense(4),
        ]
    )


def encoder():
    from keras import Input, Model, layers

    inputs = Input((8, 24))
    attended = layers.MultiHeadAttention(2, 8)(inputs, inputs)
    hidden = layers.LayerNormalization()(layers.Add()([inputs, attended]))
    hidden = layers.Dense(16, activation="gelu")(hidden)
    return Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling1D()(hidden)))


def losses_of(make):
    """Build and train a model, and return the loss of each epoch."""
    import keras

    keras.utils.set_random_seed(3)
    model = make()
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, *model.input_shape[1:])).astype("float32")
    labels = x.reshape(ROWS, -1)[:, :4].argmax(-1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model.fit(x, labels, batch_size=16, epochs=3, verbose=0).history["loss"]


@pytest.mark.parametrize("make", [convolutional, recurrent, encoder])
def test_every_epoch_has_the_loss_of_plain_keras(make):
    """Equal to the rounding of the precision of the patch, float32 or bfloat16."""
    plain = losses_of(make)
    assert plain[-1] < plain[0]
    for precision, tolerance in (("float32", 1e-4), ("mixed_bfloat16", 0.03)):
        patch_tensorflow(precision)
        found = losses_of(make)
        unpatch_tensorflow()
        np.testing.assert_allclose(found, plain, rtol=tolerance, err_msg=precision)
