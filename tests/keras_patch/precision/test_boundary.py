"""Losses, metrics and callers get float32 outputs that keep their logits."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init import unpatch_tensorflow

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.usefixtures("mixed"),
    # Keras 3 with NumPy 2 warns when it reads a variable as an array.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")


def dense_model(units, activation, features=4, **kwargs):
    inputs = keras.Input((features,))
    return keras.Model(inputs, keras.layers.Dense(units, activation=activation, **kwargs)(inputs))


def passing_model(features, activation):
    """Return a model that applies the activation of the head directly to the inputs."""
    return keras.Sequential([keras.Input((features,)), keras.layers.Activation(activation)])


def ways():
    return {
        "eager": lambda function: function,
        "graph": tf.function,
        "xla": lambda function: tf.function(function, jit_compile=True),
    }


@pytest.fixture(params=["eager", "graph", "xla"])
def run(request):
    return ways()[request.param]


def test_outputs_of_models_and_layers_are_float32_and_inner_values_bfloat16(run):
    model, inner = dense_model(3, "relu"), []
    layer = model.layers[-1]
    assert layer.compute_dtype == "bfloat16"
    layer.call = lambda x, call=layer.call: inner.append(call(x)) or inner[-1]
    for callee in (model, layer):
        assert run(lambda x, callee=callee: callee(x))(tf.ones((2, 4))).dtype == tf.float32
        assert inner.pop().dtype == tf.bfloat16


def test_a_model_inside_a_model_is_not_widened():
    seen = []

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = dense_model(3, None)

        def call(self, x):
            inner = self.inner(x)
            seen.append(inner.dtype)
            return inner

    assert Outer()(tf.ones((2, 4))).dtype == tf.float32
    assert seen[-1] == tf.bfloat16


def test_nested_outputs_keep_their_structure_and_integers():
    class Two(keras.Model):
        def call(self, x):
            return {"a": [x * 2, tf.cast(x, tf.int32)], "b": (x,)}

    outputs = Two()(tf.ones((2, 4)))
    assert [t.dtype for t in (*outputs["a"], *outputs["b"])] == [tf.float32, tf.int32, tf.float32]


def test_outputs_of_a_pure_bfloat16_model_stay_bfloat16():
    inputs = keras.Input((4,), dtype="bfloat16")
    layer = keras.layers.Dense(2, dtype="bfloat16")
    model = keras.Model(inputs, layer(inputs))
    model.dtype_policy = "bfloat16"
    assert model(tf.ones((2, 4), tf.bfloat16)).dtype == tf.bfloat16


@pytest.mark.parametrize(
    ("activation", "loss", "labels"),
    [
        ("softmax", "sparse_categorical_crossentropy", [[0], [1]]),
        ("softmax", "categorical_crossentropy", [[1.0, 0.0], [0.0, 1.0]]),
        ("sigmoid", "binary_crossentropy", [[1.0, 0.0], [0.0, 1.0]]),
    ],
)
@pytest.mark.parametrize("form", ["class", "function"])
def test_a_badly_missed_example_keeps_its_loss_and_gradient(run, activation, loss, labels, form):
    """With logits 40 apart, probabilities are 0 and 1, and only the stable form is exact."""
    function = keras.losses.get(loss)
    if form == "class":
        function = type(keras.losses.get({"class_name": _class_of(loss), "config": {}}))()
    model = passing_model(2, activation)

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_mean(function(tf.constant(labels), model(x)))
        return value, tape.gradient(value, x)

    value, gradient = run(step)(tf.constant([[-20.0, 20.0], [20.0, -20.0]]))
    assert value.dtype == tf.float32
    assert float(value) == pytest.approx(40.0 if activation == "softmax" else 20.0, rel=1e-3)
    assert float(tf.reduce_max(tf.abs(gradient))) > 0.1


def _class_of(loss):
    return "".join(part.capitalize() for part in loss.split("_"))


def test_a_softmax_of_tensorflow_keeps_its_logits():
    class Raw(keras.Model):
        def call(self, x):
            return tf.nn.softmax(x)

    model = Raw()
    loss = keras.losses.SparseCategoricalCrossentropy()
    value = tf.function(lambda x: loss(tf.constant([0]), model(x)))(tf.constant([[-20.0, 20.0]]))
    assert float(value) == pytest.approx(40.0, rel=1e-3)


def test_probabilities_of_a_layer_outside_a_model_keep_their_logits(run):
    layer = keras.layers.Activation("softmax")
    loss = keras.losses.SparseCategoricalCrossentropy()
    value = run(lambda x: loss(tf.constant([0]), layer(x)))(tf.constant([[-20.0, 20.0]]))
    assert float(value) == pytest.approx(40.0, rel=1e-3)


def test_evaluate_uses_the_stable_loss():
    model = passing_model(2, "softmax")
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    x = np.array([[-20.0, 20.0]] * 4, "float32")
    loss, accuracy = model.evaluate(x, np.zeros(4, "int32"), verbose=0)
    assert loss == pytest.approx(40.0, rel=1e-3)
    assert accuracy == 0.0


def test_raw_losses_on_float_targets_are_exact_in_float32(run):
    model = passing_model(1, "linear")
    y = tf.constant([[1000.5]])
    value = run(lambda x: tf.reduce_mean(tf.square(y - model(x))))(tf.constant([[1000.0]]))
    assert float(value) == pytest.approx(0.25)


@pytest.mark.parametrize("classes", [300, 1000])
def test_accuracy_is_exact_for_many_classes(classes):
    """A model that is always one class off scores zero."""
    model = passing_model(classes, "softmax")
    metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(1, name="top")]
    model.compile(loss="sparse_categorical_crossentropy", metrics=metrics)
    truth = np.arange(classes)
    x = 30 * np.eye(classes, dtype="float32")[(truth + 1) % classes]
    _, accuracy, top = model.evaluate(x, truth, batch_size=classes, verbose=0)
    assert (accuracy, top) == (0.0, 0.0)
    _, accuracy, top = model.evaluate(x, (truth + 1) % classes, batch_size=classes, verbose=0)
    assert (accuracy, top) == (1.0, 1.0)


def test_accuracy_is_exact_for_a_layer_outside_a_model():
    metric = keras.metrics.SparseCategoricalAccuracy()
    layer = keras.layers.Activation("softmax")
    metric.update_state(np.array([514]), layer(tf.one_hot([512], 1000) * 30))
    assert float(metric.result()) == 0.0


def test_predict_returns_float32_numpy_whose_rows_sum_to_one():
    model = dense_model(10, "softmax")
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    for answer in (model.predict(x, verbose=0), model.predict_on_batch(x)):
        assert answer.dtype == np.dtype("float32")
        np.testing.assert_allclose(answer.sum(-1), 1, atol=1e-6)


def test_masks_survive_the_boundary():
    inputs = keras.Input((3,), dtype="int32")
    model = keras.Model(inputs, keras.layers.Embedding(9, 2, mask_zero=True)(inputs))
    output = model(tf.constant([[1, 2, 0]]))
    assert output._keras_mask.numpy().tolist() == [[True, True, False]]


def test_a_saved_file_is_float32_without_the_patch_and_mixed_with_it(tmp_path):
    model = dense_model(3, "softmax")
    x = np.random.default_rng(0).normal(size=(4, 4)).astype("float32")
    expected = model.predict(x, verbose=0)
    path = str(tmp_path / "model.keras")
    model.save(path)
    assert keras.models.load_model(path).layers[-1].compute_dtype == "bfloat16"
    unpatch_tensorflow()
    loaded = keras.models.load_model(path)
    assert loaded.layers[-1].dtype_policy.name == "float32"
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, atol=0.01)
    assert "nano" not in repr(loaded.get_config())
