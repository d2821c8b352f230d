"""A step is traced into one graph, with the results of Keras's function in a function."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

X = np.random.default_rng(1).normal(size=(10, 3)).astype("float32")
Y = X.sum(1, keepdims=True)
CALLS = ("PartitionedCall", "StatefulPartitionedCall")


class Own(keras.Model):
    """A model whose steps return what `outputs` makes of the loss."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, y = data[:2]
        # A stateful op, which draws from the global seed and from its place in the graph.
        x += tf.random.normal(tf.shape(x))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(x) - y))
        variables = self.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self.outputs(loss)

    def test_step(self, data):
        return self.outputs(tf.reduce_mean(self(data[0])))


OUTPUTS = {
    "tensors": lambda loss: {"loss": loss, "more": {"twice": 2 * loss}},
    "number": lambda loss: {"loss": loss, "one": 1.5},
    "array": lambda loss: {"loss": loss, "ones": np.float32(2)},
    "nothing": lambda loss: {"loss": loss, "none": None},
    "pair": lambda loss: {"loss": (loss, loss)},
    "one": lambda loss: loss,
}


def own(outputs="tensors", **options):
    keras.utils.set_random_seed(3)
    model = Own(OUTPUTS[outputs])
    model.compile(keras.optimizers.SGD(0.05), **options)
    return model


def trained(model):
    """Return the results of training and evaluation, or the type and text of their error."""
    try:
        history = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
        scores = model.evaluate(X, Y, batch_size=4, verbose=0, return_dict=True)
    except Exception as error:  # noqa: BLE001 (the error is the result)
        return type(error), str(error).splitlines()[0]
    return str(history), str(scores), [w.tolist() for w in model.get_weights()]


def calls_in_step(model):
    """Return how many functions the train step's graph calls."""
    operations = model.train_function._graph.graph.get_operations()
    return sum(operation.type in CALLS for operation in operations)


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_own_steps_return_and_draw_the_same(only, outputs):
    with only("step_call"):
        expected = trained(own(outputs))
    with only("flat_step", "step_call"):
        assert trained(own(outputs)) == expected


def test_a_step_is_one_graph(only):
    with only("step_call"):
        nested = own()
        trained(nested)
        assert calls_in_step(nested) == 1
    with only("flat_step", "step_call"):
        model = own()
        trained(model)
        assert calls_in_step(model) == 0


def test_xla_gets_a_function_of_its_own(only):
    with only("flat_step", "step_call"):
        model = own(jit_compile=True)
        trained(model)
        assert calls_in_step(model) == 1


def test_code_in_a_step_runs_as_often(only):
    def count():
        ran = []
        model = own()
        step = model.train_step
        model.train_step = lambda data: (ran.append(data), step(data))[1]
        trained(model)
        return len(ran)

    with only("one_trace", "step_call"):
        expected = count()
    with only("flat_step", "one_trace", "step_call"):
        assert count() == expected


def test_batches_of_further_shapes_share_a_graph(only):
    """Keras traces a step for two shapes, and the second time for all others."""

    def count():
        ran = []
        model = own()
        step = model.train_step
        model.train_step = lambda data: (ran.append(data), step(data))[1]
        for size in (2, 3, 4, 5, 6):
            data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(size, drop_remainder=True)
            model.fit(data, shuffle=False, verbose=0)
        return len(ran), [w.tolist() for w in model.get_weights()]

    with only("one_trace", "step_call"):
        expected, weights = count()
    with only("flat_step", "one_trace", "step_call"):
        found, found_weights = count()
    assert found <= expected + 1
    assert found_weights == weights


def test_an_error_in_a_step_is_the_same(only):
    def failed():
        model = own()
        model.train_step = lambda data: tf.matmul(data[0], data[0])
        return trained(model)

    with only("step_call"):
        expected = failed()
    with only("flat_step", "step_call"):
        assert failed() == expected
    assert issubclass(expected[0], Exception)


def test_a_batch_is_trained_on_alone_as_well(only):
    """`train_on_batch` calls Keras's own function of a step, before and after `fit`."""

    def scores():
        model = own()
        first = model.train_on_batch(X, Y)
        return first, trained(model), model.train_on_batch(X, Y), model.test_on_batch(X, Y)

    with only("step_call"):
        expected = scores()
    with only("flat_step", "step_call"):
        assert str(scores()) == str(expected)
