"""A step is traced once, and all results are bitwise equal to those of Keras's two traces."""

from __future__ import annotations

import random

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow


def _data(rows=8):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, 6), "float32"), rng.standard_normal((rows, 3), "float32")


def _reset():
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(7)


def _state(model, *optimizers):
    """Return names and values of all variables of a model and its optimizers, in order."""
    variables = [*model.variables, *(v for each in optimizers for v in each.variables)]
    return [
        (v.path, v.name, v.value.name, v.value.trainable, v.numpy().tobytes()) for v in variables
    ]


def _count(traces):
    def step(self, data):
        traces.append(1)
        return super(type(self), self).train_step(data)

    return step


def _subclassed(traces):
    import keras
    import tensorflow as tf

    class Unbuilt(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = keras.layers.Dense(4, "relu")
            self.drop = keras.layers.Dropout(0.3)
            self.recurrent = keras.layers.LSTM(3)

        def build(self, shape):
            self.scale = self.add_weight(shape=(6,), initializer="random_normal", name="scale")

        def call(self, x, training=False):
            x = self.drop(self.hidden(x * self.scale), training=training)
            noise = keras.random.normal((3,)) + tf.random.normal((3,))
            return self.recurrent(x[:, None]) + 0.1 * noise

    Unbuilt.train_step = lambda self, data: traces.append(1) or keras.Model.train_step(self, data)
    return Unbuilt()


def _functional(traces):
    import keras

    inputs = keras.Input((6,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(4)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dropout(0.2)(x)))
    plain = model.train_step
    model.train_step = lambda data: traces.append(1) or plain(data)
    return model


OPTIMIZERS = {
    "adam": {"amsgrad": True, "use_ema": True, "ema_overwrite_frequency": 2, "weight_decay": 0.1},
    "sgd": {"momentum": 0.9, "gradient_accumulation_steps": 2},
    "nadam": {},
    "ftrl": {},
    "loss_scale": {},
}


def _optimizer(name):
    import keras

    if name == "loss_scale":
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), initial_scale=4.0)
    return keras.optimizers.get({"class_name": name, "config": OPTIMIZERS[name]})


@pytest.mark.parametrize(
    ("build", "optimizer", "options"),
    [
        (_functional, "adam", {}),
        (_functional, "sgd", {"steps_per_execution": 2}),
        (_functional, "nadam", {"jit_compile": True}),
        (_functional, "loss_scale", {}),
        (_subclassed, "ftrl", {}),
        (_subclassed, "adam", {"run_eagerly": True}),
    ],
)
def test_fit_gives_the_identical_state(only, build, optimizer, options):
    """This covers weights, slots, metrics, seeds, and their names, also of later objects."""
    import keras

    def train():
        _reset()
        traces = []
        model = build(traces)
        model.compile(_optimizer(optimizer), "mse", metrics=["mae"], **options)
        history = model.fit(*_data(), batch_size=4, epochs=2, verbose=0).history
        later = (keras.layers.Dense(1).name, random.random(), np.random.rand())
        return _state(model, model.optimizer), history, later, len(traces)

    *expected, before = train()
    with only("one_trace"):
        *found, after = train()
    assert found == expected
    if not options.get("run_eagerly"):
        assert (before, after) == (2, 1)


def test_a_loop_with_two_optimizers_and_a_restored_checkpoint_equals_keras(only, tmp_path):
    import keras
    import tensorflow as tf

    def train(restore=None):
        _reset()
        one, two = (keras.Sequential([keras.layers.Dense(3)]) for _ in range(2))
        optimizers = keras.optimizers.Adam(), keras.optimizers.RMSprop(momentum=0.5)
        saved = tf.train.Checkpoint(one=one, two=two, first=optimizers[0], second=optimizers[1])
        if restore:
            saved.restore(restore)
        traces = []

        @tf.function
        def step(x, y):
            traces.append(1)
            with tf.GradientTape(persistent=True) as tape:
                loss = tf.reduce_mean((two(one(x)) - y) ** 2)
            for model, optimizer in zip((one, two), optimizers, strict=True):
                grads = tape.gradient(loss, model.trainable_variables)
                optimizer.apply_gradients(zip(grads, model.trainable_variables, strict=True))
            return loss

        losses = [float(step(*_data())) for _ in range(3)]
        step(*_data(5))
        path = saved.save(str(tmp_path / f"saved-{len(traces)}"))
        keys = sorted(tf.train.list_variables(path))
        return (losses, keys, _state(one, optimizers[0]), _state(two, optimizers[1])), path, traces

    expected, path, before = train()
    again, _, _ = train(path)
    with only("one_trace"):
        found, own_path, after = train()
        restored, _, _ = train(own_path)
    assert found == expected
    assert restored == again
    assert (len(before), len(after)) == (3, 2)


def test_random_numbers_drawn_during_tracing_equal_those_of_two_traces(only):
    import keras

    class Noisy(keras.Model):
        def train_step(self, data):
            self.drawn = [random.random(), np.random.rand()]
            return super().train_step(data)

    def train():
        _reset()
        model = Noisy(inputs=(x := keras.Input((6,))), outputs=keras.layers.Dense(3)(x))
        model.compile("adam", "mse")
        model.fit(*_data(), verbose=0)
        return model.drawn, random.random(), np.random.rand(), _state(model)

    expected = train()
    with only("one_trace"):
        assert train() == expected


MODULE_GENERATOR = np.random.default_rng(3)


def _drawing_globally(self, data):
    import keras

    self.drawn = MODULE_GENERATOR.standard_normal()
    return keras.Model.train_step(self, data)


def _drawing_from_an_attribute(self, data):
    import keras

    self.drawn = self.own.standard_normal()
    return keras.Model.train_step(self, data)


def _drawing_in_a_layer(self, data):
    import keras

    self.drawn = self.layers[-1].own.normal()
    return keras.Model.train_step(self, data)


@pytest.mark.parametrize(
    "step", [_drawing_globally, _drawing_from_an_attribute, _drawing_in_a_layer]
)
def test_a_generator_object_gives_the_numbers_of_two_traces(only, step):
    """Whether a global name, an attribute of the model or one of a layer refers to it."""
    import keras

    kind = type("Drawing", (keras.Model,), {"train_step": step, "__module__": __name__})
    layer = type("Own", (keras.layers.Dense,), {"__module__": __name__})

    def train():
        global MODULE_GENERATOR
        MODULE_GENERATOR = np.random.default_rng(3)
        _reset()
        inputs, last = keras.Input((6,)), layer(3)
        last.own = np.random.RandomState(1)
        model = kind(inputs=inputs, outputs=last(inputs))
        model.own = np.random.default_rng(2)
        model.compile("adam", "mse")
        model.fit(*_data(), verbose=0)
        return model.drawn, model.own.bit_generator.state, _state(model)

    expected = train()
    with only("one_trace"):
        assert train() == expected


def test_a_generator_of_a_closure_gives_the_numbers_of_two_traces(only):
    import keras
    import tensorflow as tf

    def train():
        _reset()
        generator, optimizer = random.Random(5), keras.optimizers.Adam()
        variable = keras.Variable(np.ones(2, "float32"))

        @tf.function
        def step():
            gradient = tf.fill([2], generator.random())
            optimizer.apply_gradients([(gradient, variable)])
            return gradient

        return step().numpy().tobytes(), variable.numpy().tobytes(), generator.random()

    expected = train()
    with only("one_trace"):
        assert train() == expected


def test_layers_frozen_and_unfrozen_between_fits_give_the_same_state(only):
    import keras

    def train():
        _reset()
        model = _functional([])
        model.layers[1].trainable = False
        states = []
        for trainable in (False, True):
            model.layers[1].trainable = trainable
            model.compile("adam", "mse")
            model.fit(*_data(), verbose=0, batch_size=4)
            states.append(_state(model, model.optimizer))
        return states, keras.layers.Dense(1).name

    expected = train()
    with only("one_trace"):
        assert train() == expected


def test_a_custom_optimizer_with_its_own_build_and_late_variables_gives_the_same_state(only):
    import keras
    import tensorflow as tf

    class Own(keras.optimizers.SGD):
        def build(self, variables):
            super().build(variables)
            self.sums = [self.add_variable_from_reference(v, "sum") for v in variables]

        def update_step(self, gradient, variable, learning_rate):
            # Variables added during the first call.
            if not hasattr(self, "late"):
                self.late = self.add_variable((), name="late")
            total = self.sums[self._get_variable_index(variable)]
            self.assign_add(total, gradient)
            self.assign_add(self.late, tf.reduce_sum(gradient))
            super().update_step(gradient, variable, learning_rate)

    def train():
        _reset()
        model = _functional([])
        model.compile(Own(0.1), "mse")
        model.fit(*_data(), verbose=0, batch_size=4, epochs=2)
        return _state(model, model.optimizer)

    expected = train()
    with only("one_trace"):
        assert train() == expected


def test_an_optimizer_shared_by_two_models_raises_the_usual_error(only):
    import keras

    def error():
        _reset()
        optimizer = keras.optimizers.Adam()
        models = [keras.Sequential([keras.layers.Dense(3)]) for _ in range(2)]
        for model in models:
            model.compile(optimizer, "mse")
        models[0].fit(*_data(), verbose=0)
        with pytest.raises((KeyError, ValueError), match="variable") as caught:
            models[1].fit(*_data(), verbose=0)
        # Keras leaves the variables of the second model without values.
        return caught.type, str(caught.value)[:200], _state(models[0], optimizer)

    expected = error()
    with only("one_trace"):
        assert error() == expected


def test_new_variables_after_the_first_trace_raise_the_usual_error(only):
    import keras
    import tensorflow as tf

    def error():
        variable = keras.Variable(np.ones(2, "float32"))

        @tf.function
        def step(optimizer):
            optimizer.apply_gradients([(tf.ones(2), variable)])

        step(keras.optimizers.Adam())
        with pytest.raises(ValueError, match=r"singleton tf.Variables") as caught:
            step(keras.optimizers.SGD(momentum=0.9))
        return str(caught.value).splitlines()[-1]

    expected = error()
    with only("one_trace"):
        assert error() == expected


def test_custom_variables_initializers_and_strategies_equal_keras(only):
    import keras
    import tensorflow as tf

    def train(strategy):
        _reset()
        made = []

        class Own(keras.Layer):
            def build(self, shape):
                self.w = self.add_weight(
                    shape=(3,), initializer=lambda shape, dtype: tf.random.normal(shape)
                )

            def call(self, x):
                if not made:
                    made.append(tf.Variable(2.0))
                return x * self.w * made[0]

        with strategy.scope():
            model = keras.Sequential([keras.layers.Dense(3), Own()])
            model.compile("adam", "mse")
        model.fit(*_data(), verbose=0, batch_size=4)
        return _state(model, model.optimizer)

    for strategy in (tf.distribute.get_strategy(), tf.distribute.OneDeviceStrategy("/cpu:0")):
        expected = train(strategy)
        with only("one_trace"):
            assert train(strategy) == expected
