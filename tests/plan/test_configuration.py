"""A configuration sets variables and options, except those that the user has set."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.plan.configuration import FUSIBLE, Configuration, parse_configuration
from nano_init.plan.settings import Options, Plan, PrecisionChoice, Setting, ThreadCount
from nano_init.protocol.patch_options import PatchOptions

FLOAT32 = Configuration()
BOTH = ("float32", "mixed_bfloat16")


def test_configured_variables_replace_planned_ones_but_not_the_users() -> None:
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
    assert chosen.plan(plan, theirs).environment() == {
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_XLA_FLAGS": FUSIBLE,
        "NANO_INIT_DISABLE": "adam,sgd",
    }


def test_options_keep_values_that_are_not_configured() -> None:
    given = Options(threads=3, pin=True)
    taken = Configuration("mixed_bfloat16", allocator="jemalloc").options(given)
    assert (taken.threads, taken.pin) == (3, True)
    assert taken.allocator == "jemalloc"


def test_a_configuration_replaces_only_precision_and_steps_in_the_patch_options() -> None:
    given = PatchOptions(disable=("adam",), lazy_adam=True, steps_per_execution="auto")
    assert Configuration().patch(given) == PatchOptions("float32", (), ("adam",), lazy_adam=True)
    assert Configuration("mixed_bfloat16").patch(given).precision == "mixed_bfloat16"
    assert Configuration(steps="8").patch(given).steps_per_execution == 8
    assert Configuration(steps="auto").patch(PatchOptions()).steps_per_execution == "auto"


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
def test_values_survive_a_round_trip(configuration: Configuration) -> None:
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
def test_invalid_values_parse_as_none(wrong: Any) -> None:
    assert parse_configuration(wrong) is None
