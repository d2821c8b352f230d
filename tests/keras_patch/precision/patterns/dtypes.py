"""Scripts that set dtypes themselves: explicit layers, policies, assertions, other widths."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, TOKENS, fit, layer, train

layers = keras.layers


@case(legacy=True)
def softmax_kept_in_float32_by_the_script():
    inputs = keras.Input((12,))
    hidden = layers.Dense(16, "relu")(inputs)
    scores = layers.Dense(4, dtype="float32")(hidden)
    outputs = layers.Activation("softmax", dtype="float32")(scores)
    assert layers.Dense(4, dtype="float32").compute_dtype == "float32"
    model = keras.Model(inputs, outputs)
    assert model.output.dtype == "float32"
    return fit(model, FEATURES, CLASSES)


@case(legacy=True)
def assertion_on_the_compute_dtype():
    class Checked(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 12), name="w")
            self.table = tf.cast(tf.range(12), self.compute_dtype)

        def call(self, x):
            assert x.dtype == self.compute_dtype, (x.dtype, self.compute_dtype)
            y = tf.matmul(x, tf.cast(self.w, self.compute_dtype))
            noise = tf.random.stateless_normal(tf.shape(x), (1, 1), dtype=self.compute_dtype)
            y = y + self.table * tf.cast(0.01, x.dtype) + 0.1 * noise
            tf.debugging.assert_type(y, tf.as_dtype(self.compute_dtype))
            return y

    return train(Checked())


@case(legacy=True)
def values_cast_to_the_dtype_of_the_input():
    def call(self, x):
        mask = tf.cast(tf.sequence_mask([7], 12), x.dtype)
        scale = tf.cast(tf.shape(x)[-1], x.dtype)
        table = tf.constant(np.arange(12), dtype=x.dtype)
        limit = tf.constant(x.dtype.max / 2, x.dtype)
        return tf.minimum(x * mask / tf.sqrt(scale) + table * 0.1, limit)

    return train(layer(call))


@case(legacy=True)
def model_of_float64_layers():
    inputs = keras.Input((12,), dtype="float64")
    hidden = layers.Dense(8, "tanh", dtype="float64")(inputs)
    model = keras.Model(inputs, layers.Dense(1, dtype="float64")(hidden))
    out = model(FEATURES.astype("float64"))
    assert np.asarray(out).dtype == np.float64
    exact = np.tanh(FEATURES.astype("float64") @ model.layers[1].get_weights()[0])
    exact = exact @ model.layers[2].get_weights()[0]
    assert np.abs(exact - np.asarray(out)).max() < 1e-12
    return fit(model, FEATURES.astype("float64"), FEATURES[:, :1].astype("float64"), "mse")


@case(legacy=True)
def arrays_of_float64_and_integers_as_input():
    model = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(1)])
    x = FEATURES.astype("float64")
    assert model(x).dtype == tf.float32
    assert model(tf.constant(FEATURES)).dtype == tf.float32
    loss = fit(model, x, x.sum(1), "mse")
    pixels = (np.abs(FEATURES) * 60).astype("uint8")
    scaled = layers.Rescaling(1 / 255)(pixels)
    assert np.abs(np.asarray(scaled) - pixels / 255).max() < 1e-6
    return loss + float(tf.reduce_mean(model(tf.constant(FEATURES)) ** 2))


@case(legacy=True)
def layer_of_float16_asked_for():
    half = layer(lambda self, x: x * tf.constant(0.5, tf.float16), dtype="float16")
    out = half(tf.constant(FEATURES[:2]))
    assert out.dtype == tf.float16, out.dtype
    return train(lambda x: layers.Dense(12, dtype="float32")(half(x)))


@case(legacy=True)
def integer_tensors_beside_features():
    class Counted(layers.Layer):
        def call(self, inputs):
            tokens, x = inputs
            counts = tf.reduce_sum(tf.one_hot(tokens, 20, dtype=tf.int32), 1)
            position = tf.cast(tokens * 1000 + tf.range(10), tf.int64)
            assert position.dtype == tf.int64
            wrapped = tf.cast(position % 997, tf.float32) / 997.0
            return tf.concat([x, tf.cast(counts, x.dtype), tf.cast(wrapped, x.dtype)], 1)

    tokens, features = keras.Input((10,), dtype="int32"), keras.Input((12,))
    x = Counted()([tokens, layers.Dense(8)(features)])
    model = keras.Model([tokens, features], layers.Dense(4, "softmax")(x))
    return fit(model, [TOKENS, FEATURES[:64]], CLASSES[:64])


@case(legacy=True)
def large_numbers_kept_by_the_script():
    stamp = tf.constant([1700000001.0, 1700000129.0], tf.float64)
    price = tf.constant([1013.25, 998.75])
    out = layers.Dense(1, kernel_initializer="ones")(tf.ones((2, 1)))
    both = tf.cast(stamp, tf.float64) + tf.cast(out[:, 0], tf.float64)
    assert float(both[1] - both[0]) == 128.0
    assert np.allclose((price + out[:, 0]).numpy(), [1014.25, 999.75])
    assert tf.constant(1.0).dtype == tf.float32
    assert tf.Variable([0.1]).dtype == tf.float32
    assert float(tf.reduce_sum(tf.fill((4096,), 1.0))) == 4096.0
    return 1.0


@case(legacy=True)
def sums_and_counts_past_256():
    def build(self, shape):
        self.seen = tf.Variable(0.0, trainable=False)
        self.rows = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="rows", dtype="float32"
        )

    def call(self, x):
        size = tf.cast(tf.shape(x)[0], tf.float32)
        self.seen.assign_add(size)
        self.rows.assign_add(size)
        return x

    counting = layer(call, build)
    counting(np.zeros((1, 2), "float32"))
    for _ in range(20):
        counting(np.zeros((37, 2), "float32"))
    assert float(counting.seen) == 741.0, float(counting.seen)
    assert float(np.asarray(counting.rows)) == 741.0, counting.rows
    return 1.0


@case(legacy=True)
def metrics_of_many_samples():
    total = keras.metrics.Sum()
    mean = keras.metrics.Mean()
    for value in np.arange(600, dtype="float32"):
        total.update_state(value)
        mean.update_state(value)
    assert float(total.result()) == 179700.0
    assert abs(float(mean.result()) - 299.5) < 1e-3
    mae = keras.metrics.MeanAbsoluteError()
    mae.update_state([[1013.25]], [[1013.5]])
    assert abs(float(mae.result()) - 0.25) < 1e-6
    loss = keras.losses.MeanSquaredError()([[1013.25]], [[1013.5]])
    assert abs(float(loss) - 0.0625) < 1e-6
    return 1.0


@case(legacy=True, alone=True)
def policy_set_to_float32_by_the_script():
    keras.mixed_precision.set_global_policy("float32")
    dense = layers.Dense(12)
    assert dense.compute_dtype == "float32"

    def call(self, x):
        assert x.dtype == tf.float32
        return x + tf.ones((12,))

    return train(layer(call))


@case(legacy=True, alone=True)
def policy_set_to_bfloat16_by_the_script():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    dense = layers.Dense(12)
    assert dense.compute_dtype == "bfloat16"
    assert dense.variable_dtype == "float32"

    def call(self, x):
        assert x.dtype == tf.bfloat16
        return x + tf.cast(tf.ones((12,)), x.dtype)

    return train(layer(call))


@case(legacy=True, alone=True)
def floatx_of_float64():
    keras.backend.set_floatx("float64")
    model = keras.Sequential([keras.Input((12,)), layers.Dense(8, "tanh"), layers.Dense(1)])
    return fit(model, FEATURES.astype("float64"), FEATURES[:, :1].astype("float64"), "mse")


@case
def names_of_dtypes_asked_from_keras():
    assert keras.backend.floatx() == "float32"
    assert keras.ops.convert_to_tensor(0.5).dtype == tf.float32
    assert keras.ops.zeros((2,)).dtype == tf.float32
    assert keras.random.normal((2,), seed=1).dtype == tf.float32
    assert keras.initializers.GlorotUniform(seed=1)((2, 2)).dtype == tf.float32
    assert keras.Input((3,)).dtype == "float32"
    assert keras.ops.arange(3.0).dtype == tf.float32
    assert np.asarray(keras.ops.softmax(np.ones((2, 3), "float32"))).dtype == np.float32
    return 1.0
