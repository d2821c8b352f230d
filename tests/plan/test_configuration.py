"""A configuration sets variables and options of its own, and none that the user has set."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.plan.configuration import (
    FUSIBLE,
    Choices,
    Configuration,
    first_candidates,
    parse_configuration,
    with_configuration,
)
from nano_init.plan.settings import Options, Plan, PrecisionChoice, Setting, ThreadCount
from nano_init.protocol.patch_options import TrainingOptions

FLOAT32, BFLOAT16 = Configuration(), Configuration("mixed_bfloat16")
FLOAT32_XLA, BFLOAT16_XLA = Configuration(xla=True), Configuration("mixed_bfloat16", xla=True)
CORE = (FLOAT32, BFLOAT16, FLOAT32_XLA, BFLOAT16_XLA)
BOTH = ("float32", "mixed_bfloat16")


def test_what_the_user_has_set_is_not_varied() -> None:
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


def test_one_core_has_no_threads_to_vary() -> None:
    assert list(Choices(1, (), "", {}).beside(FLOAT32, {})) == [Configuration(disable="all")]


def test_its_variables_replace_the_plans_and_never_the_users() -> None:
    plan = Plan(
        ThreadCount(4, ""),
        PrecisionChoice("float32", ""),
        (
            Setting("TF_NUM_INTEROP_THREADS", "4", ""),
            Setting("TF_NUM_INTRAOP_THREADS", "3", "yours", "kept"),
        ),
    )
    chosen = Configuration(xla=True, disable="adam,sgd", threads=2, interop=1)
    theirs = {"TF_NUM_INTRAOP_THREADS": "3"}
    assert with_configuration(plan, chosen, theirs).environment() == {
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_XLA_FLAGS": FUSIBLE,
        "NANO_INIT_DISABLE": "adam,sgd",
    }


def test_options_keep_what_is_not_chosen() -> None:
    given = Options(threads=3, pin=True)
    taken = Configuration("mixed_bfloat16", allocator="jemalloc").options(given)
    assert (taken.threads, taken.pin) == (3, True)
    assert (taken.precision, taken.allocator) == ("mixed_bfloat16", "jemalloc")


def test_steps_per_execution_are_its_own_and_the_rest_is_the_users() -> None:
    given = TrainingOptions(("adam",), lazy_adam=True, steps_per_execution="auto")
    assert Configuration().training(given) == TrainingOptions(("adam",), lazy_adam=True)
    assert Configuration(steps="8").training(given).steps_per_execution == 8
    assert Configuration(steps="auto").training(TrainingOptions()).payload() == {
        "steps_per_execution": "auto"
    }


@given(
    st.builds(
        Configuration,
        precision=st.sampled_from(BOTH),
        xla=st.booleans(),
        disable=st.sampled_from(["", "all", "adam,sgd"]),
        steps=st.sampled_from(["", "auto", "8"]),
        threads=st.integers(0, 8192),
        interop=st.integers(0, 8192),
        allocator=st.sampled_from(["none", "jemalloc", "tcmalloc"]),
    )
)
def test_values_are_parsed_back(configuration: Configuration) -> None:
    assert parse_configuration(configuration.values()) == configuration


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {},
        {**FLOAT32.values(), "more": 1},
        {**FLOAT32.values(), "precision": "int8"},
        {**FLOAT32.values(), "disable": True},
        {**FLOAT32.values(), "disable": "adam,evil"},
        {**FLOAT32.values(), "steps": "0"},
        {**FLOAT32.values(), "steps": 8},
        {**FLOAT32.values(), "threads": "4"},
        {**FLOAT32.values(), "threads": True},
        {**FLOAT32.values(), "threads": -1},
        {**FLOAT32.values(), "allocator": "/tmp/evil.so"},
        {**FLOAT32.values(), "precision": ["float32"]},
    ],
)
def test_anything_else_is_none(wrong: Any) -> None:
    assert parse_configuration(wrong) is None
