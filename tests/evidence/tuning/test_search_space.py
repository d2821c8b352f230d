"""The tuner varies one choice at a time, and no setting of the user."""

from __future__ import annotations

from nano_init.evidence.tuning.search_space import Choices, first_candidates
from nano_init.plan.configuration import Configuration

FLOAT32, BFLOAT16 = Configuration(), Configuration("mixed_bfloat16")
FLOAT32_XLA, BFLOAT16_XLA = Configuration(xla=True), Configuration("mixed_bfloat16", xla=True)
CORE = (FLOAT32, BFLOAT16, FLOAT32_XLA, BFLOAT16_XLA)
BOTH = ("float32", "mixed_bfloat16")


def test_settings_of_the_user_are_not_varied() -> None:
    assert {
        (each.xla, each.disable) for each in first_candidates(BOTH, "", {"TF_XLA_FLAGS": "x"})
    } == {(False, ""), (False, "all")}
    assert {
        (each.xla, each.disable)
        for each in first_candidates(BOTH, "", {"NANO_INIT_DISABLE": "adam"})
    } == {(False, ""), (True, "")}
    assert first_candidates(BOTH, "", {})[0] == FLOAT32
    assert set(CORE) < set(first_candidates(BOTH, "", {}))
    theirs = dict.fromkeys(
        ("TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS", "NANO_INIT_DISABLE", "LD_PRELOAD"),
        "1",
    )
    assert list(Choices(4, ("jemalloc",), "", theirs).beside(FLOAT32, {})) == []


def test_neighbours_differ_in_one_choice() -> None:
    found = list(Choices(4, ("jemalloc", "tcmalloc"), "8", {}).beside(BFLOAT16_XLA, {}))
    for each in found:
        ours, theirs = each.values(), BFLOAT16_XLA.values()
        assert sum(ours[name] != theirs[name] for name in ours) == 1
    assert len(set(found)) == 6


def test_threads_are_not_varied_on_one_core() -> None:
    assert list(Choices(1, (), "", {}).beside(FLOAT32, {})) == [Configuration(disable="all")]


def test_only_paths_of_the_keras_in_use_are_varied() -> None:
    measured = {FLOAT32: 1.0, Configuration(disable="all"): 1.0}

    def left_out(environ: dict[str, str]) -> set[str]:
        found = Choices(1, (), "", environ).beside(FLOAT32, measured)
        return {name for each in found for name in each.disable.split(",")} - {"all"}

    assert {"legacy_adam", "adam", "gru"} < left_out({"TF_USE_LEGACY_KERAS": "0"})
    legacy = left_out({"TF_USE_LEGACY_KERAS": "1"})
    assert {"legacy_adam", "legacy_array_passes"} < legacy
    assert all(name.startswith("legacy_") for name in legacy)
