"""The patch: new layers use its precision, and unpatching leaves nothing behind."""

from __future__ import annotations

import threading

import pytest

from nano_init import patch_tensorflow, unpatch_tensorflow
from nano_init.errors import PrecisionError
from nano_init.keras_patch import current_precision, is_patched

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")


def policy_of_new_layer():
    return keras.layers.Dense(1).dtype_policy.name


def in_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def namespaces():
    """Copy the namespace of every object that the patch changes."""
    from nano_init.patch import part_producers
    from nano_init.protocol.patch_options import PatchOptions

    options = PatchOptions("mixed_bfloat16", ("head",), lazy_adam=True, steps_per_execution=4)
    producers = part_producers(options, frozenset({"keras"})).values()
    made = [replacement for produce in producers for replacement in produce()]
    owners = {id(r.target): r.target for r in made}.values()
    return [dict(vars(owner)) for owner in owners]


def test_new_layers_compute_in_bfloat16_with_float32_variables():
    patch_tensorflow("mixed_bfloat16")
    layer = keras.layers.Dense(1)
    assert (layer.compute_dtype, layer.variable_dtype) == ("bfloat16", "float32")


def test_a_layers_own_dtype_wins():
    patch_tensorflow("mixed_bfloat16")
    assert keras.layers.Dense(1, dtype="float32").compute_dtype == "float32"
    assert keras.layers.Dense(1, dtype="float64").compute_dtype == "float64"


def test_unpatched_layers_are_float32_and_older_ones_keep_their_policy():
    plain = keras.layers.Dense(1)
    patch_tensorflow("mixed_bfloat16")
    mixed = keras.layers.Dense(1)
    unpatch_tensorflow()
    assert policy_of_new_layer() == "float32"
    assert plain.dtype_policy.name == "float32"
    assert mixed.dtype_policy.name == "mixed_bfloat16"


def test_a_default_policy_stored_earlier_does_not_override_the_patch():
    assert keras.config.dtype_policy().name == "float32"
    patch_tensorflow("mixed_bfloat16")
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    unpatch_tensorflow()
    assert keras.config.dtype_policy().name == "float32"


def test_reading_the_policy_under_the_patch_stores_nothing():
    keras.backend.clear_session()
    patch_tensorflow("mixed_bfloat16")
    keras.config.dtype_policy()
    unpatch_tensorflow()
    from keras.src.backend.common import global_state

    assert global_state.get_global_attribute("dtype_policy") is None


def test_applies_in_threads_started_before_and_after_the_patch():
    patch_event, done, seen = threading.Event(), threading.Event(), []

    def earlier():
        seen.append(policy_of_new_layer())
        done.set()
        patch_event.wait(20)
        seen.append(policy_of_new_layer())

    thread = threading.Thread(target=earlier)
    thread.start()
    done.wait(20)
    patch_tensorflow("mixed_bfloat16")
    patch_event.set()
    thread.join()
    assert seen == ["float32", "mixed_bfloat16"]
    assert in_thread(policy_of_new_layer) == "mixed_bfloat16"


def test_survives_clear_session():
    patch_tensorflow("mixed_bfloat16")
    keras.backend.clear_session()
    assert policy_of_new_layer() == "mixed_bfloat16"


@pytest.mark.parametrize("name", ["float32", "mixed_float16", "mixed_bfloat16", "float64"])
def test_a_policy_set_by_the_script_wins_in_its_thread_until_clear_session(name):
    patch_tensorflow("mixed_bfloat16")
    keras.config.set_dtype_policy(name)
    assert policy_of_new_layer() == name
    assert in_thread(policy_of_new_layer) == "mixed_bfloat16"
    keras.mixed_precision.set_global_policy("float32")
    assert policy_of_new_layer() == "float32"
    keras.backend.clear_session()
    assert policy_of_new_layer() == "mixed_bfloat16"


def test_a_policy_set_by_the_script_survives_unpatching():
    patch_tensorflow("mixed_bfloat16")
    keras.config.set_dtype_policy("mixed_float16")
    unpatch_tensorflow()
    assert policy_of_new_layer() == "mixed_float16"


def test_setting_the_policy_of_the_patch_leaves_nothing_behind():
    patch_tensorflow("mixed_bfloat16")
    saved = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    keras.config.set_dtype_policy(saved)
    assert policy_of_new_layer() == "mixed_bfloat16"
    unpatch_tensorflow()
    assert policy_of_new_layer() == "float32"


def test_steps_aside_for_another_floatx():
    patch_tensorflow("mixed_bfloat16")
    keras.backend.clear_session()
    keras.backend.set_floatx("float64")
    assert policy_of_new_layer() == "float64"


def test_patching_twice_equals_once_and_another_precision_replaces_the_first():
    before = namespaces()
    for _ in range(2):
        patch_tensorflow("mixed_bfloat16")
    assert current_precision() == "mixed_bfloat16"
    patch_tensorflow("float32")
    assert (current_precision(), policy_of_new_layer()) == ("float32", "float32")
    patch_tensorflow("mixed_bfloat16")
    unpatch_tensorflow()
    assert namespaces() == before


def test_unpatching_restores_everything():
    before = namespaces()
    patch_tensorflow("mixed_bfloat16", lazy_adam=True, steps_per_execution=4)
    assert is_patched()
    assert namespaces() != before
    unpatch_tensorflow()
    assert namespaces() == before
    assert (is_patched(), current_precision()) == (False, None)


def test_unpatching_without_a_patch_does_nothing():
    before = namespaces()
    unpatch_tensorflow()
    assert namespaces() == before


@pytest.mark.parametrize("value", ["bfloat16", "mixed_int8", None])
def test_an_invalid_precision_is_rejected_before_anything_changes(value):
    patch_tensorflow("mixed_bfloat16")
    before = namespaces()
    with pytest.raises(PrecisionError):
        patch_tensorflow(value)
    assert namespaces() == before
    assert current_precision() == "mixed_bfloat16"


def test_concurrent_patching_leaves_one_patch():
    before = namespaces()
    names = ["float32", "mixed_bfloat16"] * 8
    threads = [threading.Thread(target=patch_tensorflow, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert current_precision() in names
    unpatch_tensorflow()
    assert namespaces() == before


def test_fit_accepts_num_processes_with_several_steps_per_execution():
    patch_tensorflow(steps_per_execution=2)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    rows = keras.ops.ones((8, 2))
    history = model.fit(rows, rows[:, :1], batch_size=2, num_processes=1, verbose=0)
    assert len(history.history["loss"]) == 1


def test_a_worker_whose_keras_cannot_be_prepared_ends_even_during_import_tensorflow(
    monkeypatch, capsys
):
    """TensorFlow imports Keras itself, and continues if that raises an ImportError."""
    from nano_init import patch
    from nano_init.distributed import refusal, worker_startup

    def fail(*_):
        raise ImportError("no such name")

    monkeypatch.setattr(worker_startup, "current_membership", object)
    monkeypatch.setattr(refusal, "_refused", [])
    monkeypatch.setattr(patch, "patch_imported", fail)
    with pytest.raises(SystemExit) as ended:
        patch.apply_from_launcher("{}", "keras")
    assert ended.value.code == 2
    assert "keras cannot be prepared for several workers (no such name)" in capsys.readouterr().err
