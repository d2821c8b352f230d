"""Activations as islands give the same numbers as Keras's ops.

float32 within 1e-5 of the largest number: the formulas are the same, erfc, tanh and exp are
XLA's instead of Eigen's. bfloat16 is compared with the float32 numbers, and must not be farther
from them than Keras's own bfloat16 chain: the island rounds once, the chain after every op.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from nano_init.keras_patch import patch_tensorflow

pytestmark = pytest.mark.tensorflow

SHAPE = (32, 8, 64)
NAMES = ("gelu", "silu", "relu6", "hard_silu", "tanh_gelu")


def _layer(name, dtype="float32"):
    import keras

    if name == "tanh_gelu":
        return keras.layers.Activation(lambda x: keras.ops.gelu(x, approximate=True), dtype=dtype)
    return keras.layers.Activation(name, dtype=dtype)


@pytest.mark.parametrize("name", NAMES)
def test_same_value_and_gradient(only, one_call, assert_close, name):
    expected = one_call(lambda: _layer(name), SHAPE, scale=3.0)
    with only("activations"):
        assert_close(one_call(lambda: _layer(name), SHAPE, scale=3.0), expected, 1e-5)


@pytest.mark.parametrize("way", ["eager", "unknown batch", "compiled", "replica", "threads"])
def test_same_numbers_in_every_way_of_running(only, one_call, assert_close, way):
    expected = one_call(lambda: _layer("gelu"), SHAPE)
    with only("activations"):
        assert_close(one_call(lambda: _layer("gelu"), SHAPE, way=way), expected, 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_as_close_to_float32_as_keras_is(only, one_call, name):
    wide = one_call(lambda: _layer(name), SHAPE)
    bare = one_call(lambda: _layer(name, "mixed_bfloat16"), SHAPE)
    with only("activations"):
        mine = one_call(lambda: _layer(name, "mixed_bfloat16"), SHAPE)
    for place in (0, 1):
        error = np.abs(mine[place] - wide[place]).mean()
        assert error <= np.abs(bare[place] - wide[place]).mean() * 1.01 + 1e-7


def test_kinks_and_large_values_equal_keras(only):
    import keras
    import tensorflow as tf

    edges = [-np.inf, -1e30, -6.0, -3.0, -0.0, 0.0, 3.0, 6.0, 1e30, np.inf, np.nan]
    inputs = tf.constant(np.tile(edges, (1000, 1)).astype("float32"))

    def value_and_gradient(name):
        @tf.function
        def call(inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                output = keras.layers.Activation(name)(inputs, training=True)
            return output, tape.gradient(output, inputs)

        return [part.numpy()[0] for part in call(inputs)]

    expected = {name: value_and_gradient(name) for name in ("relu6", "hard_silu")}
    with only("activations"):
        for name, own in expected.items():
            for mine, keras_own in zip(value_and_gradient(name), own, strict=True):
                np.testing.assert_allclose(mine[1:-2], keras_own[1:-2], rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("upstream", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_stays_visible(only, name, upstream):
    """A training that diverges shows it where it does in Keras, also below 0 and above 6."""
    import tensorflow as tf

    inputs = tf.constant(np.tile([-7.0, -1.0, 0.0, 1.0, 6.0, 7.0], (2000, 1)).astype("float32"))

    def is_finite():
        layer = _layer(name)

        @tf.function
        def call(inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                output = layer(inputs, training=True)
            return tape.gradient(output, inputs, tf.fill(output.shape, upstream))

        return np.isfinite(call(inputs).numpy()[0])

    expected = is_finite()
    assert not expected.all()
    with only("activations"):
        assert not np.any(is_finite() & ~expected)


def test_gradients_of_gradients(only, assert_close):
    import keras
    import tensorflow as tf

    inputs = tf.constant(np.random.default_rng(1).standard_normal((32, 512)).astype("float32"))

    def penalty():
        @tf.function
        def call(inputs):
            with tf.GradientTape() as outer:
                outer.watch(inputs)
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    output = keras.layers.Activation("gelu")(inputs, training=True)
                slope = inner.gradient(output, inputs)
            return outer.gradient(slope, inputs)

        return call(inputs).numpy()

    expected = penalty()
    with only("activations"):
        assert_close([penalty()], [expected], 1e-5)


@pytest.mark.parametrize(
    ("shape", "way", "training"),
    [
        ((4, 8), "graph", True),
        (SHAPE, "graph", False),
        (SHAPE, "unknown sizes", True),
        ((0, 8, 64), "graph", True),
    ],
    ids=str,
)
def test_steps_aside(only, one_call, assert_close, shape, way, training):
    """Keras's ops run for small, empty or unknown sizes and outside training."""
    options = {"way": way, "training": training}
    expected = one_call(lambda: _layer("gelu"), shape, **options)
    with only("activations"):
        assert_close(one_call(lambda: _layer("gelu"), shape, **options), expected, 0.0)


def test_there_is_one_island_per_direction(only, count_islands):
    import tensorflow as tf

    def call(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = _layer("gelu")(inputs, training=True)
        return tape.gradient(output, inputs)

    inputs = tf.ones(SHAPE)
    assert count_islands(call, inputs) == 0
    with only("activations"):
        assert count_islands(call, inputs) == 2
        assert count_islands(lambda x: _layer("gelu")(x), inputs) == 0


# TensorFlow's own functions, as scripts pass them to layers. Each is looked up when it is called.
OF_TENSORFLOW = {
    "gelu": lambda tf: tf.nn.gelu,
    "tanh gelu": lambda tf: lambda x: tf.nn.gelu(x, approximate=True),
    "silu": lambda tf: tf.nn.silu,
    "swish": lambda tf: tf.nn.swish,
    "relu6": lambda tf: tf.nn.relu6,
}


@pytest.mark.parametrize("name", OF_TENSORFLOW)
def test_functions_of_tensorflow_in_a_layer(only, one_call, assert_close, count_islands, name):
    import keras
    import tensorflow as tf

    def layer():
        return keras.layers.Activation(OF_TENSORFLOW[name](tf))

    expected = one_call(layer, SHAPE, scale=3.0)
    with only("activations"):
        assert_close(one_call(layer, SHAPE, scale=3.0), expected, 1e-5)
        assert count_islands(lambda x: layer()(x, training=True), tf.ones(SHAPE)) == 1


def test_functions_of_tensorflow_step_aside_for_other_arguments(only, count_islands):
    """A name for the op, the beta of Swish, and calls outside of layers are TensorFlow's."""
    import keras
    import tensorflow as tf

    calls = (
        lambda x: tf.nn.gelu(x, name="mine"),
        lambda x: tf.nn.silu(x, 2.0),
        lambda x: tf.nn.swish(x, beta=2.0),
        lambda x: tf.nn.relu6(x, name="mine"),
    )
    with only("activations"):
        for call in calls:
            layer = keras.layers.Activation(call)
            assert count_islands(lambda x, f=layer: f(x, training=True), tf.ones(SHAPE)) == 0
        assert count_islands(tf.nn.gelu, tf.ones(SHAPE)) == 0
        ragged = tf.RaggedTensor.from_tensor(tf.ones((3, 4)))
        assert tf.nn.gelu(ragged).shape == ragged.shape


@pytest.mark.parametrize("name", ["gelu", "silu", "swish", "relu6"])
def test_functions_of_tensorflow_take_their_argument_by_name(
    only, assert_close, count_islands, capsys, name
):
    import keras
    import tensorflow as tf

    inputs = tf.random.stateless_normal(SHAPE, (1, 2), 0.0, 3.0)
    expected = getattr(tf.nn, name)(features=inputs)
    layer = keras.layers.Activation(lambda x: getattr(tf.nn, name)(features=x))
    with only("activations"):
        np.testing.assert_array_equal(getattr(tf.nn, name)(features=inputs), expected)
        assert_close([tf.function(layer)(inputs, training=True).numpy()], [expected.numpy()])
        assert count_islands(lambda x: layer(x, training=True), inputs) == 1
    assert capsys.readouterr().err == ""


def test_functions_of_tensorflow_stay_one_object_that_is_pickled_by_its_place(only):
    import tensorflow as tf

    own = [getattr(tf.nn, name) for name in ("gelu", "swish", "relu6")]
    with only("activations"):
        assert tf.nn.silu is tf.nn.swish
        for each in (tf.nn.gelu, tf.nn.swish, tf.nn.relu6):
            assert each not in own
            assert pickle.loads(pickle.dumps(each)) is each
    assert own == [getattr(tf.nn, name) for name in ("gelu", "swish", "relu6")]
    assert all(pickle.loads(pickle.dumps(each)) is each for each in own)


def test_a_model_with_a_function_of_tensorflow_is_saved_as_without_the_path(only):
    import keras
    import tensorflow as tf

    expected = keras.activations.serialize(tf.nn.gelu)
    with only("activations"):
        assert keras.activations.serialize(tf.nn.gelu) == expected


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
def test_ten_steps_and_a_saved_model(only, ten_steps, assert_close, tmp_path, precision, tolerance):
    import keras

    def build():
        hidden = keras.layers.Dense(512, "gelu")
        return keras.Sequential([keras.Input((16,)), hidden, keras.layers.Dense(3)])

    rng = np.random.default_rng(3)
    inputs, targets = rng.standard_normal((320, 16), "float32"), rng.standard_normal((320, 3))
    patch_tensorflow(precision, disable="all")
    _, expected = ten_steps(build, inputs, targets)
    with only("activations"):
        model, weights = ten_steps(build, inputs, targets)
        model.save(tmp_path / "model.keras")
        mine = model.predict(inputs, verbose=0)
    assert_close(weights, expected, tolerance)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close([loaded.predict(inputs, verbose=0)], [mine], tolerance)
