"""Activity regularizers and `add_loss` terms are summed in float32."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.tensorflow, pytest.mark.usefixtures("mixed")]

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")


@pytest.mark.parametrize("name", ["L1", "L2", "L1L2"])
def test_an_activity_regularizer_is_summed_in_float32(name):
    regularizer = getattr(keras.regularizers, name)(0.01)
    layer = keras.layers.Activation("linear", activity_regularizer=regularizer)
    layer(tf.ones((1, 1003)))
    [loss] = layer.losses
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(10.03, rel=1e-5)


def test_add_loss_terms_are_summed_in_float32():
    class Penalty(keras.layers.Layer):
        def call(self, x):
            self.add_loss(tf.reduce_mean(x) * 0 + 256)
            self.add_loss(tf.reduce_mean(x))
            return x

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Penalty()(inputs))
    model(tf.ones((2, 4)))
    assert float(sum(model.losses)) == 257.0
    model.compile()
    assert float(model.compute_loss(y_pred=model(tf.ones((2, 4))))) == 257.0
