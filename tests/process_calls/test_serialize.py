"""Values survive a round trip through a call's file, or are rejected in one sentence."""

from __future__ import annotations

import threading

import pytest

from nano_init.errors import UsageError

np = pytest.importorskip("numpy")
tf = pytest.importorskip("tensorflow")

import keras  # noqa: E402
from keras import layers  # noqa: E402

from nano_init.process_calls.serialize import (  # noqa: E402
    pack,
    pack_back,
    read_packed,
    write_packed,
)
from nano_init.process_calls.values import give_values, take_values  # noqa: E402

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def sent(tmp_path):
    """Write a value and read it back, with the variable values of its Keras objects."""

    def send(value):
        packed, objects = pack(value, lambda dataset: (int, ()))
        write_packed(packed, str(tmp_path / "call"))
        read, made = read_packed(str(tmp_path / "call"))
        give_values(made, take_values(objects))
        return read

    return send


def model_of(*middle):
    inputs = keras.Input((4,))
    outputs = inputs
    for layer in middle:
        outputs = layer(outputs)
    return keras.Model(inputs, layers.Dense(2)(outputs))


def local_classes():
    factor = 3.0

    class Scaled(layers.Layer):  # its constructor does not accept Keras's config
        def __init__(self, by):
            super().__init__()
            self.by = by

        def build(self, shape):
            self.weight = self.add_weight(shape=(shape[-1],), initializer="random_normal")

        def call(self, inputs):
            return inputs * self.weight * self.by * factor

    def half(inputs):
        return inputs * 0.5

    return Scaled, half


def test_large_arrays_are_read_back_aligned_and_writable(sent):
    array = np.arange(10000, dtype="float32")
    read = sent({"a": [array, "text"]})["a"][0]

    np.testing.assert_array_equal(read, array)
    assert read.ctypes.data % 64 == 0
    read[0] = 7


def test_a_model_with_the_scripts_classes_and_functions_computes_the_same(sent):
    scaled, half = local_classes()
    made = [scaled(2.0), layers.Lambda(lambda x: tf.square(x)), layers.Dense(4, activation=half)]
    model = model_of(*made)
    model.layers[1].trainable = False
    model.compile("adam", lambda y, p: tf.reduce_mean(tf.square(y - p), -1), metrics=["mae"])
    x, y = np.random.rand(8, 4), np.random.rand(8, 2)
    model.train_on_batch(x, y)
    again = sent(model)

    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    assert [layer.trainable for layer in again.layers] == [
        layer.trainable for layer in model.layers
    ]
    assert int(again.optimizer.iterations) == 1
    assert again.train_on_batch(x, y) == model.train_on_batch(x, y)
    for ours, theirs in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_shared_references_are_preserved(sent):
    model, optimizer = model_of(), keras.optimizers.SGD(momentum=0.9)
    optimizer.build(model.trainable_variables)

    def step():
        return model, optimizer

    again, layer, its_optimizer, its_step = sent((model, model.layers[-1], optimizer, step))

    assert layer is again.layers[-1]
    assert its_step() == (again, its_optimizer)
    assert its_optimizer._trainable_variables[0] is again.trainable_variables[0]


def test_a_traced_function_is_pickled_untraced(sent):
    @tf.function
    def add(x, y=1):
        return x + y

    add(tf.constant(1))
    assert int(sent(add)(tf.constant(2), y=3)) == 5


def test_results_refer_to_the_scripts_own_objects(tmp_path):
    model = model_of()
    write_packed(pack_back({"model": model, "n": 1}, [model]), str(tmp_path / "result"))

    assert read_packed(str(tmp_path / "result"), [model]) == {"model": model, "n": 1}


class Given(keras.Model):
    def __init__(self, part):
        super().__init__()
        self.part = part


class Parts(keras.Model):
    """A model of submodels with its own `compile`, but without `call` and `get_config`."""

    def __init__(self, first, others):
        super().__init__(name="parts")
        self.first, self.others = first, others
        self.seeds = keras.random.SeedGenerator(3)
        self.scale = keras.Variable(2.0, name="scale")
        self.own_name = lambda: self.name

    def compile(self, optimizers, loss_function):
        super().compile(loss="mae")
        self.optimizers, self.loss_function = optimizers, loss_function
        self.tracker = keras.metrics.Mean(name="tracker")


class Joined(keras.Sequential):
    """A model that its config can rebuild, but not compile."""

    def compile(self, other):
        super().compile(other)


def compiled_its_own_way():
    model = Joined([keras.Input((2,)), layers.Dense(1)])
    model.compile("adam")
    return model


def test_a_model_without_call_and_config_keeps_its_parts_and_their_values(sent):
    model = Parts(model_of(), {"second": [model_of(layers.Dense(3))]})
    optimizer = keras.optimizers.Adam()
    model.compile([optimizer], lambda y, p: y - p)
    optimizer.build(model.first.trainable_variables)
    optimizer.iterations.assign(4)
    model.tracker.update_state(3.0)
    model.scale.assign(5.0)
    model.seeds.next()
    again, first = sent((model, model.first))

    assert (type(again), again.own_name(), again.built) == (Parts, "parts", False)
    assert first is again.first
    assert (again.loss, again.loss_function(3, 1)) == ("mae", 2)
    assert (int(again.optimizers[0].iterations), float(again.tracker.result())) == (4, 3.0)
    assert again.optimizers[0]._trainable_variables[0] is first.trainable_variables[0]
    assert len(again.variables) == len(model.variables) > 7
    for ours, theirs in zip(again.variables, model.variables, strict=True):
        assert ours.trainable == theirs.trainable
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert [m.name for m in again.metrics] == [m.name for m in model.metrics]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (threading.Lock, "cannot be sent to another process .*lock"),
        (compiled_its_own_way, "Joined overrides compile"),
        (lambda: Given(threading.Lock()), "Given 'given.*', attribute 'part': .*lock.* nano-run"),
        (lambda: iter(tf.data.Dataset.range(2)), "pass its data set"),
    ],
)
def test_a_value_that_cannot_be_pickled_is_rejected_in_one_sentence(make, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        pack(make(), lambda dataset: (int, ()))
    assert "\n" not in str(caught.value)


def test_models_that_share_layers_are_rejected():
    shared = layers.Dense(4)
    first, second = model_of(shared), model_of(shared)
    with pytest.raises(UsageError, match="shares layers with another model"):
        pack((first, second), lambda dataset: (int, ()))


def test_values_of_another_shape_are_rejected_and_nothing_changes():
    one, other = model_of(layers.Dense(3)), model_of(layers.Dense(5))
    before = one.get_weights()
    with pytest.raises(UsageError, match="has other variables"):
        give_values([one], take_values([other]))
    for ours, theirs in zip(one.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
