"""BatchNormalization takes the faster of two ways, and both give the same numbers as Keras."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch import patch_tensorflow
from nano_init.keras_patch.faster import batch_norm, batch_norm_ways
from nano_init.keras_patch.faster.batch_norm_ways import Way, way_for

pytestmark = pytest.mark.tensorflow

KERNEL = "FusedBatchNormV3"
# EITHER takes the kernel from this number of elements on: always, or never.
WAYS = {
    "kernel": (Way.KERNEL, 1),
    "ops": (Way.OPS, 1),
    "either, large": (Way.EITHER, 1),
    "either, small": (Way.EITHER, 10**9),
}


@pytest.fixture(params=WAYS)
def forced(request, monkeypatch):
    """Force one of the ways."""
    way, fewest = WAYS[request.param]
    monkeypatch.setattr(batch_norm, "way_for", lambda *_, **__: way)
    monkeypatch.setattr(batch_norm_ways, "FEWEST_ELEMENTS", fewest)
    return way


@pytest.mark.parametrize(
    ("shape", "way"),
    [
        ((64, 16, 16, 32), Way.KERNEL),  # images
        ((None, 16, 16, 64), Way.KERNEL),
        ((None, None, None, 64), Way.KERNEL),
        ((16, 4, 4, 512), Way.KERNEL),
        ((32, 6, 6, 64), Way.OPS),  # too small to wait for threads
        ((265, 32), Way.OPS),
        ((2708, 1433), Way.OPS),  # the kernel has no vectors of odd channels
        ((64, 224, 224, 3), Way.OPS),
        ((None, 3), Way.OPS),
        ((4096, 64), Way.KERNEL),
        ((None, 256), Way.OPS),  # 32 rows outside of `fit`
        ((None, 4096), Way.KERNEL),
        ((0, 8), Way.OPS),
    ],
    ids=str,
)
def test_the_way_follows_from_the_shape(shape, way):
    import tensorflow as tf

    assert way_for(tf.TensorShape(shape), is_training=True) is way


@pytest.mark.parametrize(
    ("shape", "way"),
    [((None, 256), Way.EITHER), ((None, 3), Way.OPS), ((None, 16, 16, 512), Way.KERNEL)],
    ids=str,
)
def test_in_fit_the_number_of_rows_decides_in_the_graph(shape, way):
    import tensorflow as tf

    shape = tf.TensorShape(shape)
    with tf.__internal__.FuncGraph("one_step_on_data").as_default():
        with tf.GradientTape():
            assert way_for(shape, is_training=True) is way
            assert way_for(shape, is_training=False) is not Way.EITHER
        # `tf.gradients` differentiates the ops as they are.
        assert way_for(shape, is_training=True) is not Way.EITHER


def _results(shape, *, in_graph, dtype="float32"):
    """Return outputs, gradients and moving statistics of one call."""
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(2)
    layer = keras.layers.BatchNormalization(dtype=dtype)
    layer.build((None, *shape[1:]))
    for index, weight in enumerate(layer.weights):
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) + 0.1 * index)
    towards = tf.constant(rng.standard_normal(shape).astype("float32"))

    def step(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
            score = tf.reduce_sum(tf.cast(outputs, tf.float32) * towards)
        wanted = [inputs, *(v.value for v in layer.trainable_variables)]
        return [outputs, *tape.gradient(score, wanted)]

    run = tf.function(step) if in_graph else step
    found = run(tf.constant(rng.standard_normal(shape).astype("float32") * 3 + 2))
    numbers = [tf.cast(part, tf.float32).numpy() for part in found]
    return numbers + [np.array(weight) for weight in layer.non_trainable_variables]


@pytest.mark.parametrize("shape", [(9, 16), (5, 2, 3, 16), (4, 7, 32)], ids=str)
def test_every_way_gives_the_same_numbers_in_a_graph(forced, only, shape, assert_close):
    expected = _results(shape, in_graph=True)
    with only("batch_norm"):
        assert_close(_results(shape, in_graph=True), expected, 1e-5)


def test_every_way_gives_the_same_numbers_in_bfloat16(forced, only, assert_close):
    """Outputs are within one digit of bfloat16 (2^-7) of Keras, statistics within 1e-5."""
    expected = _results((9, 16), in_graph=True, dtype="mixed_bfloat16")
    with only("batch_norm"):
        found = _results((9, 16), in_graph=True, dtype="mixed_bfloat16")
    assert_close(found[:-2], expected[:-2], 2**-7)
    assert_close(found[-2:], expected[-2:], 1e-5)


@pytest.mark.parametrize("in_graph", [True, False], ids=["graph", "eager"])
def test_gradients_of_gradients(forced, only, in_graph, assert_close):
    import keras
    import tensorflow as tf

    if forced is Way.EITHER and not in_graph:
        pytest.skip("eager tensors have known sizes, so that nothing is left to decide")

    def penalty():
        layer = keras.layers.BatchNormalization()
        inputs = tf.constant(np.random.default_rng(3).standard_normal((6, 8), "float32"))
        layer.build(inputs.shape)

        def of(inputs):
            with tf.GradientTape() as outer:
                outer.watch(inputs)
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    score = tf.reduce_sum(layer(inputs, training=True) ** 3)
                norm = tf.reduce_sum(inner.gradient(score, inputs) ** 2)
            return outer.gradient(norm, inputs)

        return (tf.function(of) if in_graph else of)(inputs).numpy()

    expected = penalty()
    with only("batch_norm"):
        assert_close([penalty()], [expected], 1e-4)


def _train(steps_per_execution):
    import keras

    keras.utils.set_random_seed(5)
    rng = np.random.default_rng(5)
    layers = keras.layers
    hidden = [layers.Dense(16), layers.BatchNormalization(), layers.ReLU()]
    model = keras.Sequential([keras.Input((8,)), *hidden, layers.Dense(4, "softmax")])
    model.compile(
        keras.optimizers.SGD(0.05),
        "sparse_categorical_crossentropy",
        steps_per_execution=steps_per_execution,
    )
    inputs, labels = rng.standard_normal((42, 8), "float32"), rng.integers(0, 4, 42)
    model.fit(inputs, labels, 8, shuffle=False, verbose=0)
    found = [np.array(weight) for weight in model.weights]
    return [*found, model.predict(inputs, verbose=0)]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("fewest", [1, 100, 10**9])
def test_a_fit_with_a_smaller_last_batch(only, fewest, steps, monkeypatch, assert_close):
    """Some batches may take the kernel and the last one ops."""
    monkeypatch.setattr(batch_norm_ways, "FEWEST_ELEMENTS", fewest)
    expected = _train(steps)
    with only("batch_norm"):
        assert_close(_train(steps), expected, 1e-4)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_fit_under_the_patch(only, precision, assert_close):
    """Weights differ only by rounding: 1e-4 in float32, 2e-2 if layers compute in bfloat16."""
    patch_tensorflow(precision)
    expected = _train(1)
    with only("batch_norm"):
        assert_close(_train(1), expected, 1e-4 if precision == "float32" else 2e-2)


def test_predict_and_export_have_no_choice_in_the_graph(only, tmp_path):
    """Programs that convert a saved model know the kernel, but not every control flow."""
    import keras
    import tensorflow as tf

    with only("batch_norm"):
        model = keras.Sequential([keras.Input((16,)), keras.layers.BatchNormalization()])
        model.compile("sgd", "mse")
        model.fit(np.ones((8, 16)), np.ones((8, 16)), verbose=0)
        model.export(str(tmp_path / "saved"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    graph = loaded.signatures["serving_default"].graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    assert not {node.op for node in nodes} & {"If", "StatelessIf"}


def test_inference_of_odd_channels_is_left_to_keras(only, count_ops):
    import keras
    import tensorflow as tf

    with only("batch_norm"):
        layer = keras.layers.BatchNormalization()
        layer.build((None, 64, 64, 3))
        call = lambda x: layer(x, training=False)  # noqa: E731
        assert count_ops(KERNEL, call, tf.TensorSpec((None, 64, 64, 3))) == 0
        layer = keras.layers.BatchNormalization()
        layer.build((None, 64, 64, 8))
        call = lambda x: layer(x, training=False)  # noqa: E731
        assert count_ops(KERNEL, call, tf.TensorSpec((None, 64, 64, 8))) == 1


@pytest.mark.parametrize("in_graph", [True, False], ids=["graph", "eager"])
def test_second_derivatives_in_all_directions(forced, only, in_graph, assert_close):
    """TensorFlow's `moments` holds the mean constant in the variance, which shows only here."""
    import keras
    import tensorflow as tf

    if forced is Way.EITHER and not in_graph:
        pytest.skip("eager tensors have known sizes, so that nothing is left to decide")

    def hessian():
        layer = keras.layers.BatchNormalization()
        inputs = tf.constant(np.random.default_rng(3).standard_normal((6, 8), "float32"))
        layer.build(inputs.shape)

        def of(inputs):
            with tf.GradientTape() as outer:
                outer.watch(inputs)
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    score = tf.reduce_sum(tf.tanh(layer(inputs, training=True)))
                slope = inner.gradient(score, inputs)
            return outer.jacobian(slope, inputs)

        return (tf.function(of) if in_graph else of)(inputs).numpy()

    expected = hessian()
    with only("batch_norm"):
        assert_close([hessian()], [expected], 1e-5)


def test_second_derivatives_without_a_tape(forced, only, assert_close):
    """`tf.hessians` differentiates the ops of a graph, and TensorFlow's kernel differs there."""
    import keras
    import tensorflow as tf

    if forced is Way.EITHER:
        pytest.skip("without a tape nothing is decided in the graph")

    def hessian():
        layer = keras.layers.BatchNormalization()
        inputs = tf.constant(np.random.default_rng(3).standard_normal((6, 8), "float32"))
        layer.build(inputs.shape)

        @tf.function(autograph=False)
        def of(inputs):
            score = tf.reduce_sum(tf.tanh(layer(inputs, training=True)))
            return tf.hessians(score, inputs)[0]

        return of(inputs).numpy()

    expected = hessian()
    with only("batch_norm"):
        assert_close([hessian()], [expected], 1e-5)


def test_a_tape_around_a_function_differentiates_the_kernel_by_its_own_gradient(forced, only):
    """The graph of the function is differentiated without a tape, but only once."""
    import keras
    import tensorflow as tf

    if forced is Way.EITHER:
        pytest.skip("without a tape nothing is decided in the graph")
    with only("batch_norm"):
        layer = keras.layers.BatchNormalization()
        layer.build((None, 64))
        forward = tf.function(lambda inputs: tf.nn.relu(layer(inputs, training=True)))

        @tf.function(autograph=False)
        def of(inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = forward(inputs)
            return tape.gradient(outputs, inputs)

        graph = of.get_concrete_function(tf.TensorSpec((512, 64))).graph
    functions = [function.graph for function in graph._functions.values()]
    kinds = {op.type for each in functions for op in each.get_operations()}
    assert ("FusedBatchNormGradV3" in kinds) == (forced is Way.KERNEL)


def test_nothing_is_between_the_kernel_and_its_user(only):
    """TensorFlow fuses the kernel with a ReLU only if the ReLU takes its output itself."""
    import keras
    import tensorflow as tf

    with only("batch_norm"):
        layer = keras.layers.BatchNormalization()
        layer.build((None, 32, 32, 64))

        def call(inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                output = tf.nn.relu(layer(inputs, training=True))
            return tape.gradient(output, inputs)

        spec = tf.TensorSpec((8, 32, 32, 64))
        graph = tf.function(call).get_concrete_function(spec).graph
    (relu,) = (op for op in graph.get_operations() if op.type == "Relu")
    assert relu.inputs[0].op.type == KERNEL
