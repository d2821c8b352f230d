"""Several steps per execution give the same steps, in the same order, on the same batches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init import patch_tensorflow, unpatch_tensorflow
from nano_init.errors import UsageError
from nano_init.keras_patch import notice
from nano_init.keras_patch.steps import block_function, block_size
from nano_init.keras_patch.steps.block_function import BlockFunction
from nano_init.keras_patch.steps.block_size import Pace, choose_size
from nano_init.keras_patch.steps.running_blocks import current_blocks

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

X = np.random.default_rng(0).standard_normal((43, 5)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def _no_notices_yet():
    notice._said.clear()


def model(cls=keras.Model, **options):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((5,))
    x = keras.layers.Dropout(0.3)(keras.layers.Dense(8, "relu")(inputs))
    x = keras.layers.BatchNormalization()(x)
    made = cls(inputs, keras.layers.Dense(1)(x))
    made.compile("adam", "mse", metrics=["mae"], **options)
    return made


class Batches(keras.utils.PyDataset):
    """Batches whose order changes between epochs."""

    def __init__(self):
        super().__init__()
        self.order = list(range(11))

    def __len__(self):
        return 11

    def __getitem__(self, index):
        rows = slice(self.order[index] * 4, self.order[index] * 4 + 4)
        return X[rows], Y[rows]

    def on_epoch_end(self):
        """Reverse the order."""
        self.order.reverse()


def generated():
    while True:
        for start in range(0, 40, 4):
            yield X[start : start + 4], Y[start : start + 4]


def dataset():
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)


def unknown_length():
    return dataset().filter(lambda *_: True)


# Keras warns if it cannot shuffle a dataset or a generator.
UNSHUFFLED = {"shuffle": False}

DATA = {
    "arrays": lambda: ((X, Y), {"batch_size": 4}),
    "a partial batch": lambda: ((X, Y), {"batch_size": 10}),
    "one batch": lambda: ((X, Y), {"batch_size": 64}),
    "validation": lambda: ((X, Y), {"batch_size": 4, "validation_split": 0.3}),
    "validation steps": lambda: (
        (X, Y),
        {
            "batch_size": 4,
            "validation_data": (X, Y),
            "validation_batch_size": 4,
            "validation_steps": 5,
        },
    ),
    "dataset": lambda: ((dataset(),), UNSHUFFLED),
    "endless dataset": lambda: ((dataset().repeat(),), UNSHUFFLED | {"steps_per_epoch": 7}),
    "fewer steps than batches": lambda: ((dataset(),), UNSHUFFLED | {"steps_per_epoch": 7}),
    "too little data": lambda: ((dataset(),), UNSHUFFLED | {"steps_per_epoch": 14}),
    "unknown length": lambda: ((unknown_length(),), UNSHUFFLED),
    "too little data of unknown length": lambda: (
        (unknown_length(),),
        UNSHUFFLED | {"steps_per_epoch": 15},
    ),
    "py dataset": lambda: ((Batches(),), {}),
    "generator": lambda: ((generated(),), UNSHUFFLED | {"steps_per_epoch": 9}),
}


@pytest.fixture
def block_sizes(monkeypatch):
    """Run large blocks as soon as the time of a step is known, and record their sizes."""
    monkeypatch.setattr(block_size, "_is_soon", True)
    monkeypatch.setattr(block_size, "TARGET_SECONDS", 1e6)
    run, sizes = BlockFunction.run, []

    def noting(self, data, count, *, is_timed):
        sizes.append(count)
        return run(self, data, count, is_timed=is_timed)

    monkeypatch.setattr(BlockFunction, "run", noting)
    return sizes


def fitted(data, size=1, epochs=4, make=model, **options):
    """Return the weights and the history of a fit with a number of steps per execution."""
    made = make(**options)
    args, kwargs = data()
    patch_tensorflow(steps_per_execution=size)
    try:
        history = made.fit(*args, epochs=epochs, verbose=0, **kwargs).history
        assert isinstance(made.train_function, BlockFunction) == (size != 1)
    finally:
        unpatch_tensorflow()
    return made.get_weights(), history


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("name", DATA)
def test_weights_and_history_are_bitwise_equal_with_blocks(name, block_sizes):
    """With steps per epoch that the number divides or not, and with data that runs out."""
    expected = fitted(DATA[name])
    for size in (4, None):
        block_sizes.clear()
        assert_equal(fitted(DATA[name], size), expected)
        assert name == "one batch" or max(block_sizes) >= 4


def assert_equal(found, expected):
    assert found[1] == expected[1]
    for mine, keras_own in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(mine, keras_own)


def test_blocks_cover_an_epoch_and_the_optimizer_counts_every_step(block_sizes):
    patch_tensorflow(steps_per_execution=4)
    made = model()
    made.fit(X, Y, batch_size=4, verbose=0)
    assert block_sizes == [4, 4, 3]
    assert int(made.optimizer.iterations) == 11


def test_a_block_that_takes_too_long_ends_early_and_the_next_one_continues(
    block_sizes, monkeypatch
):
    expected = fitted(DATA["arrays"])
    monkeypatch.setattr(block_function, "_MOST_SECONDS", 0.0)
    assert_equal(fitted(DATA["arrays"], None), expected)
    # Each block makes one step, and the next block takes the remaining steps.
    assert any(later == size - 1 for size, later in pairwise(block_sizes))


def image_model():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((5,))
    x = keras.layers.Reshape((5, 1))(inputs)
    x = keras.layers.LayerNormalization()(keras.layers.Conv1D(8, 3, activation="gelu")(x))
    x = keras.layers.MultiHeadAttention(2, 4)(x, x)
    x = keras.layers.GRU(4)(x)
    made = keras.Model(inputs, keras.layers.Dense(1)(x))
    made.compile("rmsprop", "mse", metrics=["mae"])
    return made


def test_convolution_attention_and_recurrence_are_bitwise_equal_with_blocks(block_sizes):
    expected = fitted(DATA["arrays"], make=image_model)
    assert_equal(fitted(DATA["arrays"], None, make=image_model), expected)
    assert max(block_sizes) >= 4


class Noise(keras.layers.Layer):
    """Adds random numbers that TensorFlow draws from a seed and an internal counter."""

    def call(self, inputs):
        return inputs + tf.random.normal(tf.shape(inputs), seed=7)


def noisy_model():
    keras.utils.set_random_seed(3)
    made = keras.Sequential([keras.Input((5,)), Noise(), keras.layers.Dense(1)])
    made.compile("sgd", "mse", metrics=["mae"])
    return made


def test_a_seeded_op_draws_the_same_numbers_with_blocks(block_sizes):
    """The kernel of such an op keeps the counter, and each graph has separate kernels."""
    data = lambda: ((X, Y), {"batch_size": 4, "shuffle": False})  # noqa: E731
    expected = fitted(data, make=noisy_model)
    for size in (4, None):
        assert_equal(fitted(data, size, make=noisy_model), expected)


def test_by_default_a_short_training_builds_no_block_graph(monkeypatch):
    monkeypatch.setattr(BlockFunction, "_graph_for", None)
    patch_tensorflow()
    model().fit(X, Y, batch_size=4, epochs=2, verbose=0)


def test_by_default_a_fit_with_a_batch_callback_runs_single_steps_silently(block_sizes, capsys):
    patch_tensorflow()
    callback = EveryBatch()
    model().fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=[callback])
    assert callback.seen == list(range(11)) * 2
    assert not block_sizes
    assert "steps per execution" not in capsys.readouterr().err


def test_an_error_in_the_data_keeps_the_weights_of_earlier_steps(block_sizes):
    def failing():
        for start in range(0, 28, 4):
            yield X[start : start + 4], Y[start : start + 4]
        raise OSError("the file is gone")

    found = []
    for size in (1, None):
        patch_tensorflow(steps_per_execution=size)
        made = model()
        with pytest.raises(Exception, match="the file is gone"):
            made.fit(failing(), steps_per_epoch=20, shuffle=False, verbose=0)
        found.append((made.get_weights(), None))
        unpatch_tensorflow()
    assert_equal(*found)
    assert max(block_sizes) >= 4


def test_a_sample_measures_single_steps_unless_blocks_are_requested(block_sizes, monkeypatch):
    monkeypatch.setattr(block_size, "_is_default_on", False)
    patch_tensorflow()
    model().fit(X, Y, batch_size=4, epochs=2, verbose=0)
    assert not block_sizes
    patch_tensorflow(steps_per_execution="auto")
    model().fit(X, Y, batch_size=4, epochs=2, verbose=0)
    assert max(block_sizes) >= 4


def test_stopping_in_an_epoch_hook_ends_the_fit_there(block_sizes):
    stopping = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epoch == 1 and setattr(made, "stop_training", True)
    )
    patch_tensorflow()
    made = model()
    made.fit(X, Y, batch_size=4, epochs=9, verbose=0, callbacks=[stopping])
    assert int(made.optimizer.iterations) == 22
    assert max(block_sizes) >= 4


PACE = Pace().after(1.0).after(0.003).after(0.001).after(0.002)


@pytest.mark.parametrize(
    ("pace", "left", "favours"),
    [
        (Pace().after(1.0), 10**6, False),  # the time of a step is not known yet
        (PACE, 100, False),  # a graph that takes 0.3 s would save 0.02 s
        (PACE, 10_000, True),
        (PACE, None, False),  # unknown: as many as so far
        (Pace(10_000, 1.0, 0.001, 0.001), None, True),
        (Pace(10_000, 1.0, 0.02, 0.02), None, False),  # blocks of two steps
    ],
)
def test_blocks_are_favoured_if_they_save_more_time_than_their_graph_costs(pace, left, favours):
    assert pace.favours_blocks(left) == favours


def test_a_custom_train_step_and_other_methods_work_with_blocks():
    class Custom(keras.Model):
        def train_step(self, data):
            logs = super().train_step(data)
            return {**logs, "twice": 2 * logs["loss"]}

    patch_tensorflow(steps_per_execution=4)
    made = model(Custom)
    history = made.fit(X, Y, epochs=2, batch_size=4, verbose=0).history
    np.testing.assert_allclose(history["twice"], 2 * np.array(history["loss"]), rtol=1e-6)
    before = int(made.optimizer.iterations)
    made.train_on_batch(X[:4], Y[:4])
    assert int(made.optimizer.iterations) == before + 1
    assert made.predict(X, verbose=0).shape == (43, 1)
    assert len(made.evaluate(X, Y, verbose=0)) == 2


def test_a_train_step_with_outputs_that_a_loop_cannot_carry_still_trains():
    class Growing(keras.Model):
        def train_step(self, data):
            super().train_step(data)
            return {"rows": data[0][:, 0]}

    weights = []
    for size in (1, 4):
        made = model(Growing)
        patch_tensorflow(steps_per_execution=size)
        made.fit(X, Y, epochs=2, batch_size=10, shuffle=False, verbose=0)
        weights.append(made.get_weights())
    for mine, keras_own in zip(*weights, strict=True):
        np.testing.assert_array_equal(mine, keras_own)


def test_steps_per_execution_set_by_the_script_win():
    patch_tensorflow(steps_per_execution=4)
    for number in (1, 2):
        made = model(steps_per_execution=number)
        made.fit(X, Y, verbose=0)
        assert not isinstance(made.train_function, BlockFunction)
        assert made.steps_per_execution == number


def test_the_number_applies_to_loaded_models_but_is_not_saved(tmp_path):
    patch_tensorflow(steps_per_execution=4)
    made = model()
    made.fit(X, Y, verbose=0)
    assert made.get_compile_config()["steps_per_execution"] == 1
    made.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    loaded.fit(X, Y, verbose=0)
    assert isinstance(loaded.train_function, BlockFunction)


class EveryBatch(keras.callbacks.Callback):
    """Records the number of each batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        """Record it."""
        self.seen.append(batch)


def test_a_fit_with_a_batch_callback_steps_aside_with_one_notice(capsys):
    patch_tensorflow(steps_per_execution=4)
    made, callback = model(), EveryBatch()
    for _ in range(2):
        made.fit(X, Y, batch_size=10, verbose=0, callbacks=[callback])
    assert callback.seen == [0, 1, 2, 3, 4] * 2
    sentence = (
        "nano-init: steps per execution: this fit runs one step at a time, because the "
        "callback EveryBatch needs every batch\n"
    )
    assert capsys.readouterr().err.count(sentence) == 1
    made.fit(X, Y, batch_size=10, verbose=0)
    assert isinstance(made.train_function, BlockFunction)
    made.fit(X, Y, batch_size=10, verbose=0, callbacks=[callback])
    assert callback.seen == [0, 1, 2, 3, 4] * 3


class OwnFunction(keras.Model):
    """A model that overrides make_train_function."""

    def make_train_function(self, force=False):
        """Make it."""
        return super().make_train_function(force)


@pytest.mark.parametrize(
    ("cls", "options", "why"),
    [
        (keras.Model, {"run_eagerly": True}, "the model runs eagerly"),
        (OwnFunction, {}, "OwnFunction overrides make_train_function"),
    ],
)
def test_steps_aside_with_a_reason_if_blocks_are_not_possible(cls, options, why, capsys):
    patch_tensorflow(steps_per_execution=4)
    made = model(cls, **options)
    made.fit(X, Y, verbose=0)
    assert not isinstance(made.train_function, BlockFunction)
    assert capsys.readouterr().err.endswith(f"because {why}\n")


def test_a_fit_inside_a_fit_has_separate_blocks():
    class Nested(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            inner.fit(X, Y, batch_size=4, shuffle=False, verbose=0)

    expected, _ = fitted(lambda: ((X, Y), {"batch_size": 4, "shuffle": False}), epochs=2)
    patch_tensorflow(steps_per_execution=4)
    outer = model()
    inner = model()
    outer.fit(X, Y, batch_size=4, shuffle=False, epochs=2, verbose=0, callbacks=[Nested()])
    assert int(outer.optimizer.iterations) == int(inner.optimizer.iterations) == 22
    for made in (outer, inner):
        for mine, alone in zip(made.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(mine, alone)


def test_an_evaluation_before_the_first_step_uses_every_batch():
    class Evaluating(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.before = self.model.evaluate(X, Y, batch_size=4, verbose=0)

    patch_tensorflow(steps_per_execution=4)
    made, callback = model(), Evaluating()
    made.fit(X, Y, batch_size=4, epochs=0, verbose=0)
    expected = made.evaluate(X, Y, batch_size=4, verbose=0)
    made.fit(X, Y, batch_size=4, verbose=0, callbacks=[callback])
    assert callback.before == expected
    assert int(made.optimizer.iterations) == 11


def test_invalid_arguments_give_the_error_of_keras():
    messages = []
    for size in (1, None, 4):
        patch_tensorflow(steps_per_execution=size)
        with pytest.raises(TypeError) as caught:
            model().fit(X, Y, epoch=3)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] == messages[2]


def test_blocks_work_under_xla_and_end_with_unpatching():
    patch_tensorflow(steps_per_execution=4)
    made = model(jit_compile=True)
    made.fit(X[:40], Y[:40], batch_size=4, verbose=0)
    unpatch_tensorflow()
    made.fit(X[:40], Y[:40], batch_size=4, verbose=0)
    assert int(made.optimizer.iterations) == 20


def test_an_error_in_a_train_step_is_raised_unchanged():
    class Wrong(keras.Model):
        def train_step(self, data):
            raise ZeroDivisionError("mine")

    patch_tensorflow(steps_per_execution=4)
    with pytest.raises(ZeroDivisionError, match="mine"):
        model(Wrong).fit(X, Y, verbose=0)
    assert current_blocks() is None


def test_an_invalid_number_is_rejected():
    with pytest.raises(UsageError, match="steps per execution is 0"):
        patch_tensorflow(steps_per_execution=0)


@given(st.floats(1e-7, 10))
def test_auto_chooses_the_largest_power_of_two_within_50_ms(seconds):
    size = choose_size(seconds)
    assert size in (1, 2, 4, 8, 16, 32, 64)
    assert size == 1 or size * seconds <= 0.05
    assert size == 64 or 2 * size * seconds > 0.05
