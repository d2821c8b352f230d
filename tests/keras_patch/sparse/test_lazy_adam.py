"""Lazy Adam updates the rows that a gradient names like Adam, on Keras's own class."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init import patch_tensorflow, unpatch_tensorflow
from nano_init.keras_patch import notice

pytestmark = [pytest.mark.tensorflow, pytest.mark.needs_part("lazy_adam", "repeated_ids")]

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

ROWS, NAMED, REST = [4, 1, 4], [1, 4], [0, 2, 3, 5]
START = np.arange(12, dtype="float32").reshape(6, 2)


@pytest.fixture(autouse=True)
def _no_notices_yet():
    notice._said.clear()


def slices(rows=ROWS):
    values = tf.reshape(tf.range(2.0 * len(rows)), (-1, 2)) + 1
    return tf.IndexedSlices(values, tf.constant(rows), tf.constant([6, 2]))


def trained(optimizer, gradient, way="graph", steps=4):
    """Return the table after some steps with one gradient."""
    table = keras.Variable(START)
    optimizer.build([table])

    def step():
        optimizer.apply([gradient()], [table])

    if way != "eager":
        step = tf.function(step, jit_compile=way == "compiled")
    for _ in range(steps):
        step()
    return table.numpy()


CASES = {
    "adam": lambda o: o.Adam(0.1),
    "clipnorm": lambda o: o.Adam(0.1, clipnorm=0.5),
    "global_clipnorm": lambda o: o.Adam(0.1, global_clipnorm=0.5),
    "clipvalue": lambda o: o.Adam(0.1, clipvalue=0.5),
    "dynamic loss scale": lambda o: o.LossScaleOptimizer(o.Adam(0.1), initial_scale=2.0),
    "schedule": lambda o: o.Adam(o.schedules.ExponentialDecay(0.1, 2, 0.5)),
}


@pytest.mark.parametrize("case", CASES)
def test_named_rows_match_adam_and_other_rows_stay_bitwise_unchanged(case):
    """Clipping sees the summed rows, which have the norm of the equivalent dense gradient."""
    make = CASES[case]
    patch_tensorflow()
    dense = trained(make(keras.optimizers), lambda: tf.convert_to_tensor(slices()))
    patch_tensorflow(lazy_adam=True)
    lazy = trained(make(keras.optimizers), slices)
    np.testing.assert_allclose(lazy[NAMED], dense[NAMED], rtol=1e-5)
    np.testing.assert_array_equal(lazy[REST], START[REST])


@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_eager_and_compiled_steps_match_the_graph(way):
    patch_tensorflow(lazy_adam=True)
    expected = trained(keras.optimizers.Adam(0.1), slices)
    np.testing.assert_allclose(trained(keras.optimizers.Adam(0.1), slices, way), expected, 1e-6)


def test_moments_of_unnamed_rows_do_not_change():
    patch_tensorflow(lazy_adam=True)
    adam, table = keras.optimizers.Adam(0.1), keras.Variable(START)
    adam.build([table])
    adam.apply([slices([4])])
    before = [np.array(v) for v in (table, adam._momentums[0], adam._velocities[0])]
    adam.apply([slices([0])])
    after = [np.array(v) for v in (table, adam._momentums[0], adam._velocities[0])]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new[1:], old[1:])
        assert (new[0] != old[0]).all()


def test_weight_decay_and_moving_averages_work_as_in_keras():
    patch_tensorflow(lazy_adam=True)
    decayed = trained(keras.optimizers.AdamW(0.1, weight_decay=0.5), slices, steps=1)
    np.testing.assert_allclose(decayed[REST], START[REST] * 0.95, rtol=1e-6)
    averages = []
    for is_lazy in (True, False):
        patch_tensorflow(lazy_adam=is_lazy)
        adam = keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5)
        trained(adam, slices)
        averages.append(np.array(adam._model_variables_moving_average[0]))
    np.testing.assert_allclose(averages[0][NAMED], averages[1][NAMED], rtol=1e-5)


@pytest.mark.parametrize("options", [{"amsgrad": True}, {"gradient_accumulation_steps": 2}])
def test_steps_aside_with_a_notice_if_every_row_changes(options, capsys):
    patch_tensorflow()
    expected = trained(keras.optimizers.Adam(0.1, **options), slices)
    patch_tensorflow(lazy_adam=True)
    found = trained(keras.optimizers.Adam(0.1, **options), slices)
    np.testing.assert_array_equal(found, expected)
    sentence = "to do for this Adam: with amsgrad or gradient accumulation all rows change\n"
    assert capsys.readouterr().err.count(sentence) == 1


class OwnStep(keras.optimizers.Adam):
    """An Adam whose step the script overrides."""

    def update_step(self, gradient, variable, learning_rate):
        """Make half a step."""
        super().update_step(gradient, variable, learning_rate / 2)


def test_a_step_overridden_by_the_script_is_not_touched(capsys):
    patch_tensorflow()
    expected = trained(OwnStep(0.1), slices)
    patch_tensorflow(lazy_adam=True)
    np.testing.assert_array_equal(trained(OwnStep(0.1), slices), expected)
    assert "for this OwnStep: it applies to keras.optimizers.Adam" in capsys.readouterr().err


def test_without_sparse_gradients_adam_runs_unchanged_with_one_notice(capsys):
    patch_tensorflow()
    expected = trained(keras.optimizers.Adam(0.1), lambda: tf.convert_to_tensor(slices()))
    patch_tensorflow(lazy_adam=True)
    for _ in range(2):
        found = trained(keras.optimizers.Adam(0.1), lambda: tf.convert_to_tensor(slices()))
    np.testing.assert_array_equal(found, expected)
    sentence = "to do for this Adam: no gradient is sparse, as an Embedding's would be\n"
    assert capsys.readouterr().err.count(sentence) == 1


@pytest.mark.parametrize("disable", [(), ("adam",)])
def test_a_model_with_adam_by_name_trains_lazily_and_is_saved_as_plain_adam(
    disable, tmp_path, capsys
):
    patch_tensorflow(lazy_adam=True, disable=disable)
    keras.utils.set_random_seed(2)
    layers = [keras.layers.Embedding(50, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((2,), dtype="int32"), *layers])
    model.compile("adam", "mse")
    before = model.get_weights()[0]
    model.fit(np.array([[1, 2], [3, 1]]), np.ones((2, 1)), epochs=2, verbose=0)
    changed = (model.get_weights()[0] != before).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [1, 2, 3]
    assert "has nothing to do" not in capsys.readouterr().err
    assert type(model.optimizer) is keras.optimizers.Adam
    model.save(tmp_path / "m.keras")
    unpatch_tensorflow()
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded.optimizer) is keras.optimizers.Adam
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    model.fit(np.array([[1, 2]]), np.ones((1, 1)), verbose=0)


def test_unpatching_restores_the_original_update():
    original = keras.optimizers.Adam.update_step
    patch_tensorflow(lazy_adam=True)
    assert keras.optimizers.Adam.update_step is not original
    unpatch_tensorflow()
    assert keras.optimizers.Adam.update_step is original
