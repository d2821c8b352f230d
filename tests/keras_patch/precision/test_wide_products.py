"""Where a processor multiplies bfloat16 slowly, products of bfloat16 run in float32."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from nano_init.keras_patch.precision.backward_pass import is_backward_pass

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def fast(suppose_precision, mixed):
    suppose_precision("mixed_bfloat16")


def numbers(*shape, seed=0):
    values = np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")
    return tf.cast(tf.constant(values), tf.bfloat16)


def outputs_of(kind, traced):
    return [op.outputs[0].dtype for op in operations(traced, kind)]


def operations(traced, kind):
    return [op for op in traced.graph.get_operations() if op.type == kind]


IMAGES, CUBES = numbers(2, 6, 6, 3), numbers(2, 4, 4, 4, 3)
KERNEL, CUBE_KERNEL = numbers(3, 3, 3, 5, seed=1), numbers(2, 2, 2, 3, 5, seed=1)
OUTPUTS = numbers(2, 6, 6, 5, seed=2)

ROWS, COLUMNS = numbers(4, 6), numbers(6, 5, seed=1)
STEPS = numbers(20, 5, 4)
MATRICES, OTHERS = numbers(2, 4, 6), numbers(2, 6, 5, seed=1)

# Each takes a function that converts its operands.
PRODUCTS = {
    "MatMul": lambda to: tf.matmul(to(ROWS), to(COLUMNS)),
    "MatMul, transposed": lambda to: tf.matmul(to(COLUMNS), to(ROWS), True, True),
    "BatchMatMulV2": lambda to: tf.matmul(to(MATRICES), to(OTHERS)),
    "Einsum": lambda to: tf.einsum("bij,bjk->bki", to(MATRICES), to(OTHERS)),
    "Conv2D": lambda to: tf.nn.conv2d(to(IMAGES), to(KERNEL), 1, "SAME"),
    "Conv2DBackpropInput": lambda to: tf.nn.conv2d_transpose(
        to(OUTPUTS), to(KERNEL), IMAGES.shape, 1
    ),
    "Conv3D": lambda to: tf.nn.conv3d(to(CUBES), to(CUBE_KERNEL), [1] * 5, "VALID"),
}


def as_it_is(tensor):
    return tensor


def as_float32(tensor):
    return tf.cast(tensor, tf.float32)


@pytest.mark.parametrize("is_graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_a_product_is_bfloat16_and_adds_in_float32(slow, product, is_graph):
    found = (tf.function(product) if is_graph else product)(as_it_is)
    expected = product(as_float32)
    assert found.dtype == tf.bfloat16
    assert found.shape == expected.shape
    # One rounding of the result.
    np.testing.assert_allclose(as_float32(found), expected, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_op_in_the_graph_is_one_of_float32(slow, name):
    traced = tf.function(PRODUCTS[name]).get_concrete_function(as_it_is)
    kind = name.partition(",")[0]
    assert outputs_of(kind, traced) == [tf.float32]


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_a_fast_unit_computes_in_bfloat16_without_casts(fast, product):
    traced = tf.function(product).get_concrete_function(as_it_is)
    assert operations(traced, "Cast") == []


def test_other_dtypes_are_left_alone(slow):
    double = tf.ones([3, 3], tf.float64)
    assert tf.matmul(double, double).dtype == tf.float64
    traced = tf.function(lambda: tf.matmul(double, double)).get_concrete_function()
    assert operations(traced, "Cast") == []


@pytest.mark.parametrize("is_graph", [False, True], ids=["eager", "graph"])
def test_rows_in_a_list_are_one_operand(slow, is_graph):
    def multiply(row):
        with tf.GradientTape() as tape:
            tape.watch(row)
            product = tf.matmul(ROWS[:, :2], [row, row])
        return product, tape.gradient(product, row)

    product, gradient = (tf.function(multiply) if is_graph else multiply)(COLUMNS[0])
    expected = tf.matmul(as_float32(ROWS[:, :2]), as_float32([COLUMNS[0]] * 2))
    np.testing.assert_allclose(as_float32(product), expected, rtol=2**-8, atol=1e-6)
    total = float(tf.reduce_sum(as_float32(ROWS[:, :2])))
    np.testing.assert_allclose(as_float32(gradient), [total] * 5, rtol=0.02, atol=0.02)


def test_a_product_of_both_dtypes_is_still_bfloat16(slow):
    found = tf.function(lambda: tf.matmul(numbers(4, 6), tf.ones([6, 5])))()
    assert found.dtype == tf.bfloat16


def gradients(dtype, is_graph):
    """Return the gradients by inputs, kernels, weights and biases of a small network."""
    images, kernel, weights, bias = (
        tf.Variable(tf.cast(each, tf.float32))
        for each in (IMAGES, KERNEL, numbers(180, 4, seed=3), numbers(5, seed=4))
    )

    def run():
        with tf.GradientTape() as tape:
            narrow = [tf.cast(each, dtype) for each in (images, kernel, weights, bias)]
            maps = tf.nn.conv2d(narrow[0], narrow[1], 1, "SAME")
            maps = tf.nn.tanh(tf.nn.bias_add(maps, narrow[3]))
            scores = tf.matmul(tf.reshape(maps, [2, 180]), narrow[2])
            loss = tf.reduce_sum(tf.cast(scores, tf.float32) ** 2)
        return tape.gradient(loss, [images, kernel, weights, bias])

    return (tf.function(run) if is_graph else run)()


@pytest.mark.parametrize("is_graph", [False, True], ids=["eager", "graph"])
def test_gradients_are_those_of_float32_to_rounding(slow, is_graph):
    expected = gradients(tf.float32, is_graph)
    for one, other in zip(gradients(tf.bfloat16, is_graph), expected, strict=True):
        assert one.dtype == tf.float32
        scale = float(tf.reduce_max(abs(other)))
        np.testing.assert_allclose(one / scale, other / scale, atol=2**-5)


def traced_dense(activation="relu"):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, activation=activation),
            keras.layers.Dense(4),
        ]
    )

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x) ** 2)
        return tape.gradient(loss, model.trainable_variables)

    return tf.function(step).get_concrete_function(tf.ones([3, 6]))


def test_weights_are_multiplied_as_they_are(slow):
    products = operations(traced_dense(), "MatMul")
    sources = [source.op for product in products for source in product.inputs]
    assert "ReadVariableOp" in {source.type for source in sources}
    narrow = [source.inputs[0].op for source in sources if source.type == "Cast"]
    casts = [op for op in narrow if op.type == "Cast"]
    assert "ReadVariableOp" not in {cast.inputs[0].op.type for cast in casts}


def test_the_gradient_of_a_weight_is_never_rounded(slow):
    traced = traced_dense()
    gradient = traced.outputs[0]
    while gradient.op.type in ("Identity", "Cast"):
        assert gradient.dtype == tf.float32
        gradient = gradient.op.inputs[0]
    assert gradient.op.type == "MatMul"


def test_bias_and_relu_take_the_product_before_it_is_rounded(slow):
    traced = traced_dense()
    assert outputs_of("BiasAdd", traced) == [tf.float32] * 2
    assert outputs_of("Relu", traced) == [tf.float32]
    biased = operations(traced, "BiasAdd")[0]
    assert biased.inputs[0].op.type == "MatMul"
    assert operations(traced, "Relu")[0].inputs[0].op is biased


def test_a_bias_of_anything_but_a_product_stays_bfloat16(slow):
    add = tf.function(lambda x: tf.nn.relu(tf.nn.bias_add(x, numbers(4))))
    traced = add.get_concrete_function(numbers(3, 4))
    assert outputs_of("BiasAdd", traced) == [tf.bfloat16]
    assert outputs_of("Relu", traced) == [tf.bfloat16]


def test_the_backward_pass_does_not_keep_float32_copies_of_the_forward_pass(slow):
    """A copy of its own, which waits for the gradient: TensorFlow would merge equal copies."""
    traced = traced_dense("tanh")
    copies = [op for op in operations(traced, "Cast") if op.outputs[0].dtype == tf.float32]
    of_hidden = [op for op in copies if op.inputs[0].op.type == "Tanh"]
    assert [len(op.control_inputs) for op in of_hidden] == [0, 1]


def test_an_operand_of_several_products_is_widened_once(slow):
    def project(x):
        return [tf.matmul(x, numbers(6, 5, seed=seed)) for seed in (1, 2, 3)]

    traced = tf.function(project).get_concrete_function(numbers(4, 6))
    argument = traced.inputs[0]
    assert len([op for op in operations(traced, "Cast") if op.inputs[0] is argument]) == 1


def test_second_derivatives_and_forward_mode_work(slow):
    weights = tf.Variable(tf.ones([3, 2]))

    @tf.function
    def penalty(x):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                product = tf.matmul(tf.cast(x, tf.bfloat16), tf.cast(weights, tf.bfloat16))
                loss = tf.reduce_sum(tf.cast(product, tf.float32) ** 2)
            gradient = inner.gradient(loss, x)
            squares = tf.reduce_sum(gradient**2)
        return outer.gradient(squares, weights)

    x = tf.constant([[1.0, 2.0, 3.0]])
    # The gradient by x is 2 (x w) w^T, 24 for each; its sum of squares by w[i, j] 96 (3 x[i] + 6).
    np.testing.assert_allclose(penalty(x)[0], [864.0, 864.0], rtol=0.05)

    with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
        product = tf.matmul(tf.cast(x, tf.bfloat16), tf.cast(weights, tf.bfloat16))
    np.testing.assert_allclose(tf.cast(accumulator.jvp(product), tf.float32), [[3.0, 3.0]])


def test_products_in_loops_and_branches_have_gradients(slow):
    weights = tf.Variable(0.5 * tf.eye(3))

    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            narrow = tf.cast(weights, tf.bfloat16)
            for _ in tf.range(3):
                x = tf.matmul(x, narrow)
            if tf.reduce_sum(x) > 0:
                x = tf.matmul(x, narrow)
            loss = tf.reduce_sum(tf.cast(x, tf.float32))
        return loss, tape.gradient(loss, weights)

    loss, gradient = run(tf.ones([1, 3], tf.bfloat16))
    assert float(loss) == pytest.approx(3 / 16)
    np.testing.assert_allclose(tf.linalg.diag_part(gradient), [0.5] * 3, rtol=0.02)


def test_operands_that_do_not_fit_give_tensorflows_error(slow):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Matrix size-incompatible"):
        tf.matmul(numbers(2, 3), numbers(4, 5))
    with pytest.raises(ValueError, match="Dimensions must be equal"):
        tf.function(lambda: tf.matmul(numbers(2, 3), numbers(4, 5)))()


@pytest.mark.parametrize("layer", [keras.layers.LSTM, keras.layers.GRU])
def test_the_loop_of_a_recurrent_layer_casts_no_weights_and_returns_bfloat16(slow, layer):
    recurrent = layer(8)
    recurrent(STEPS)
    states = [tf.zeros([20, 8], tf.bfloat16) for _ in tf.nest.flatten(recurrent.cell.state_size)]
    run = tf.function(lambda x: recurrent.inner_loop(x, states, None))
    traced = run.get_concrete_function(STEPS)
    assert {output.dtype for output in traced.outputs} == {tf.bfloat16}
    (body,) = {op.get_attr("body").name for op in operations(traced, "StatelessWhile")}
    library = traced.graph.as_graph_def().library.function
    inside = {node.op for each in library if each.signature.name == body for node in each.node_def}
    assert "MatMul" in inside
    assert "Cast" not in inside


@pytest.mark.parametrize("layer", [keras.layers.LSTM, keras.layers.GRU])
def test_recurrent_layers_give_the_results_of_float32_to_rounding(slow, layer):
    def call(dtype):
        keras.utils.set_random_seed(0)
        recurrent = layer(8, return_sequences=True, return_state=True, dtype=dtype)

        @tf.function
        def run(x):
            with tf.GradientTape() as tape:
                outputs, *states = recurrent(x)
                loss = tf.reduce_sum(as_float32(outputs) ** 2)
            return outputs, states, tape.gradient(loss, recurrent.trainable_variables)

        recurrent(STEPS)
        return run(STEPS)

    found, expected = (tf.nest.flatten(call(name)) for name in ("mixed_bfloat16", "float32"))
    for one, other in zip(found, expected, strict=True):
        difference = tf.reduce_max(abs(one - other))
        assert float(difference) < 0.03 * float(tf.reduce_max(abs(other)))


def test_a_training_reaches_the_loss_of_float32(slow):
    def train(dtype):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Conv2D(8, 3, activation="relu", dtype=dtype),
                keras.layers.BatchNormalization(dtype=dtype),
                keras.layers.Flatten(dtype=dtype),
                keras.layers.Dense(3, dtype=dtype),
            ]
        )
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        inputs = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32")
        labels = (inputs.mean((1, 2)).argmax(-1)).astype("int32")
        return model.fit(inputs, labels, epochs=8, verbose=0).history["loss"]

    np.testing.assert_allclose(train("mixed_bfloat16"), train("float32"), rtol=0.05)


def test_an_error_in_a_gradient_ends_the_backward_pass(slow):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.ones([2]))
    with pytest.raises((TypeError, ValueError, AttributeError)):
        tape.gradient(loss, [object()])
    assert not is_backward_pass()
