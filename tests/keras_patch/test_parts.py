"""On an unverified Keras, each part of the patch steps aside alone and reports it."""

from __future__ import annotations

import functools
import types

import pytest

from nano_init import active_paths, patch_tensorflow, unpatch_tensorflow
from nano_init.fingerprints.known_sources import file_of, read_known_sources
from nano_init.frozen import replace
from nano_init.keras_patch import current_precision, notice, part_verdicts
from nano_init.patch import part_producers
from nano_init.protocol.membership import Membership
from nano_init.protocol.patch_options import PatchOptions
from nano_init.protocol.patch_parts import ALL_RECORDS
from nano_init.protocol.patch_record import WORKER
from nano_init.protocol.supported_versions import KERAS_RANGE, is_verified, numbers_of

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")

RECORDS = {record.name: record for record in ALL_RECORDS}
NUMBERS = numbers_of(keras.__version__)


def is_later(record):
    """Say whether a part is for later versions alone: one line names those at each patch."""
    return numbers_of(record.keras[0]) > NUMBERS


# On a later version other parts may step aside as well.
on_verified = pytest.mark.skipif(
    not is_verified(keras.__version__, KERAS_RANGE),
    reason=f"Keras {keras.__version__} is later than the last verified version",
)
LATER = {r.name for r in ALL_RECORDS if r.kind != WORKER and is_later(r)}
GELU = "keras.src.backend.tensorflow.nn:gelu"
REDUCTION = "keras.src.backend.tensorflow.trainer:reduce_per_replica"
ADD_LOSS = "keras.src.layers.layer:Layer.add_loss"


@pytest.fixture(autouse=True)
def _no_notices_yet(monkeypatch):
    monkeypatch.setattr(notice, "_said", set())
    monkeypatch.delenv("NANO_INIT_UNVERIFIED", raising=False)


@pytest.fixture
def unknown(monkeypatch):
    """Return a function that marks the sources of callables as unknown."""

    def forget(*texts):
        def known():
            packages = read_known_sources()
            callables = {t: {} if t in texts else d for t, d in packages["keras"].callables.items()}
            stems = {file for text in texts for file in file_of(text)}
            files = {f: d for f, d in packages["keras"].files.items() if f not in stems}
            packages["keras"] = replace(packages["keras"], callables=callables, files=files)
            return packages

        monkeypatch.setattr(part_verdicts, "read_known_sources", known)

    return forget


def require_range(record):
    if is_later(record):
        pytest.skip(f"{record.name} is for Keras {record.keras[0]} and later")


def asides():
    """Return the parts that have stepped aside, but for those of later versions."""
    return [part.name for part in active_paths().aside if part.name not in LATER]


def said(capfd):
    """Return the lines of nano-init on stderr; TensorFlow logs there too when it is first used."""
    return [line for line in capfd.readouterr().err.splitlines() if line.startswith("nano-")]


def state_of(name):
    return next(part for part in active_paths().parts if part.name == name)


def text_of(replacement):
    target = replacement.target
    owner = (
        f"{target.__module__}:{target.__qualname__}."
        if isinstance(target, type)
        else f"{target.__name__}:"
    )
    return owner + replacement.attribute


def replaced_by(name):
    options = PatchOptions("mixed_bfloat16", ("head",), lazy_adam=True, steps_per_execution=4)
    for packages in ({"keras"}, {"tf_keras"}):
        producers = part_producers(options, frozenset(packages))
        if name in producers:
            # The targets of the thread filters are objects.
            made = [r for r in producers[name]() if hasattr(r.target, "__name__")]
            return {text_of(replacement) for replacement in made}
    raise KeyError(name)


@on_verified
@pytest.mark.parametrize("name", [r.name for r in ALL_RECORDS if r.kind != WORKER])
def test_a_part_replaces_the_targets_of_its_record(name):
    if "legacy" in name:
        pytest.importorskip("tf_keras")
    require_range(RECORDS[name])
    record, replaced = RECORDS[name], replaced_by(name)
    assert replaced <= set(record.targets)
    here = {t for t in record.replaces if not t.startswith("tf_keras.") or "legacy" in name}
    assert here <= replaced


@on_verified
def test_worker_parts_replace_the_targets_of_their_records():
    from nano_init.distributed.replacements import worker_replacements

    pytest.importorskip("tf_keras")
    for record in ALL_RECORDS:
        if record.kind == WORKER:
            require_range(record)
    named = {t for r in ALL_RECORDS if r.kind == WORKER for t in r.targets}
    membership = Membership(index=1, workers=2, seed=1)
    made = worker_replacements(membership, frozenset({"keras", "tf_keras"}))
    assert {text_of(replacement) for replacement in made} == named


@on_verified
def test_all_parts_are_active_on_this_keras():
    patch_tensorflow("mixed_bfloat16", disable="adam")
    paths = active_paths()
    assert paths.precision == "mixed_bfloat16"
    assert f"Keras {keras.__version__}" in paths.versions
    assert {part.name for part in paths.aside} == LATER
    assert state_of("adam").state == "switched off"
    assert {"boundary", "sgd", "repeated_ids"} <= set(paths.active)
    unpatch_tensorflow()
    assert active_paths().parts == ()


@on_verified
def test_only_a_path_with_an_unknown_source_steps_aside_with_one_line(unknown, capfd):
    unknown(GELU)
    patch_tensorflow("mixed_bfloat16")
    assert asides() == ["activations"]
    assert current_precision() == "mixed_bfloat16"
    (line,) = said(capfd)
    assert line.startswith(f"nano-init: on Keras {keras.__version__}")
    assert "activations (gelu has changed)" in line
    assert "NANO_INIT_UNVERIFIED=1" in line


@on_verified
def test_unverified_paths_are_used_if_the_user_allows_them(unknown, capfd, monkeypatch):
    monkeypatch.setenv("NANO_INIT_UNVERIFIED", "1")
    unknown(GELU, ADD_LOSS)
    patch_tensorflow("mixed_bfloat16")
    assert asides() == []
    assert state_of("activations").reason == "gelu has changed, used nevertheless"
    assert current_precision() == "mixed_bfloat16"
    assert len(said(capfd)) == bool(LATER)


@on_verified
def test_a_guard_with_a_changed_target_forbids_bfloat16_in_one_sentence(unknown, capfd):
    unknown(ADD_LOSS)
    patch_tensorflow("mixed_bfloat16")
    assert current_precision() == active_paths().precision == "float32"
    assert keras.layers.Dense(1).dtype_policy.name == "float32"
    assert {"activations", "repeated_ids", "multi_worker"} - LATER <= set(active_paths().active)
    assert asides() == ["extra_losses"]
    lines = said(capfd)
    assert len(lines) == 1 + bool(LATER)
    (line,) = (line for line in lines if "training is in float32" in line)
    assert "extra_losses (Layer.add_loss has changed)" in line


@on_verified
def test_a_float32_patch_ignores_the_guards(unknown, capfd):
    unknown(ADD_LOSS)
    patch_tensorflow("float32")
    assert asides() == []
    assert len(said(capfd)) == bool(LATER)


def wrapped_by_another_tool(function):
    @functools.wraps(function)
    def traced(*args, **kwargs):
        return function(*args, **kwargs)

    return traced


@on_verified
@pytest.mark.parametrize("make", [wrapped_by_another_tool, lambda _: lambda x, approximate: x])
def test_a_callable_replaced_by_another_tool_is_not_touched(make, monkeypatch, capfd):
    from keras.src.backend.tensorflow import nn

    theirs = make(nn.gelu)
    monkeypatch.setattr(nn, "gelu", theirs)
    patch_tensorflow()
    assert nn.gelu is theirs
    assert state_of("activations").reason == "gelu is replaced by another tool"
    assert len(said(capfd)) == 1


@on_verified
def test_a_missing_callable_disables_only_the_parts_that_need_it(monkeypatch, capfd):
    from keras.src.backend.tensorflow import trainer

    require_range(RECORDS["multi_worker"])
    monkeypatch.delattr(trainer, "reduce_per_replica")
    patch_tensorflow("mixed_bfloat16")
    needing = [r for r in RECORDS.values() if REDUCTION in (*r.targets, *r.uses)]
    expected = {r.name for r in needing if r.kind != WORKER and not is_later(r)}
    assert set(asides()) == expected
    assert "multi_worker" in expected
    assert current_precision() == "mixed_bfloat16"
    assert "reduce_per_replica" in capfd.readouterr().err


@on_verified
def test_a_missing_guard_forbids_bfloat16(monkeypatch, capfd):
    from keras.src.layers.layer import Layer

    monkeypatch.delattr(Layer, "add_loss")
    patch_tensorflow("mixed_bfloat16")
    assert current_precision() == "float32"
    assert "sgd" in active_paths().active
    assert "Layer.add_loss" in capfd.readouterr().err


@on_verified
def test_a_second_call_repeats_no_notice(unknown, capfd):
    unknown(GELU)
    for _ in range(2):
        patch_tensorflow("mixed_bfloat16")
    assert len(said(capfd)) == 1


def test_the_state_is_immutable():
    patch_tensorflow()
    with pytest.raises(AttributeError):
        active_paths().precision = "float64"
    assert isinstance(active_paths().parts, tuple)


@on_verified
def test_a_worker_of_a_job_is_rejected_if_a_worker_part_does_not_fit(unknown, monkeypatch, capfd):
    from nano_init.distributed import worker_startup

    for record in ALL_RECORDS:
        if record.kind == WORKER:
            require_range(record)
    monkeypatch.setattr(worker_startup, "_membership", Membership(index=0, workers=2, seed=1))
    unknown("keras.src.losses.loss:reduce_values")
    with pytest.raises(SystemExit) as ended:
        patch_tensorflow()
    assert ended.value.code == 2
    (line,) = said(capfd)
    assert "worker_losses (reduce_values has changed)" in line


@pytest.mark.parametrize("version", ["3.2.1", "2.15.0", "3.0.0.dev1"])
def test_a_keras_that_is_too_old_is_rejected_with_the_fix(version, monkeypatch):
    from nano_init.errors import PatchError

    monkeypatch.setattr(keras, "__version__", version)
    with pytest.raises(PatchError, match=rf"Keras {version} is older than 3\.3: pip install"):
        patch_tensorflow()


def test_a_tensorflow_that_is_too_old_is_rejected_with_the_fix(monkeypatch):
    import tensorflow as tf

    from nano_init.errors import PatchError

    monkeypatch.setattr(tf, "__version__", "2.15.1")
    with pytest.raises(PatchError, match=r"TensorFlow 2\.15\.1 is older than 2\.16: pip install"):
        patch_tensorflow()


def test_a_later_keras_without_an_optional_callable_is_not_taken_for_an_earlier_one():
    from nano_init.fingerprints.known_sources import verified_minors
    from nano_init.fingerprints.source_digest import ABSENT

    known = read_known_sources()["keras"]
    record = RECORDS["layer_norm"]
    (required,), (optional,) = record.replaces, record.optional
    here = {required: known.digest_in(required, "3.15"), optional: ABSENT}
    assert verified_minors(here, known, record.keras, "3.16.0.dev1") == []
    then = {text: known.digest_in(text, "3.3") for text in record.targets}
    assert "3.3" in verified_minors(then, known, record.keras, "3.3.3")


def test_every_callable_is_known_in_every_verified_version_of_its_part():
    known = read_known_sources()
    unknown = [
        (record.name, text, minor)
        for record in ALL_RECORDS
        for text in (*record.targets, *record.uses)
        for minor in known[text.partition(".")[0]].releases
        if not known[text.partition(".")[0]].digest_in(text, minor)
    ]
    assert unknown == []


def test_original_objects_do_not_count_as_replaced():
    from nano_init.keras_patch.live_callables import is_replaced

    assert not is_replaced("keras.src.dtype_policies.dtype_policy:global_state")
    assert not is_replaced("keras.src.layers.layer:Layer.__call__")
    assert not is_replaced("no.such.module:name")
    assert isinstance(keras, types.ModuleType)
