"""The patch options of a run, as values, as JSON and in words."""

from __future__ import annotations

import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init import patch_tensorflow
from nano_init.errors import UsageError
from nano_init.protocol.faster_paths import FASTER_PATHS
from nano_init.protocol.patch_options import (
    PatchOptions,
    parse_patch_options,
    patch_options_from_json,
)


def test_the_defaults_request_nothing() -> None:
    assert parse_patch_options() == (PatchOptions(), None)
    assert PatchOptions("float32").to_json() == '{"precision": "float32"}'
    assert PatchOptions().describe() == ()


def test_paths_are_given_by_commas_or_repetition_and_sorted() -> None:
    options, warning = parse_patch_options(disable=["sgd, rmsprop", "adam"])
    assert options.disable == ("adam", "rmsprop", "sgd")
    assert warning is None
    assert options.describe() == ("without adam, rmsprop, sgd",)


def test_an_unknown_path_gives_a_warning_and_is_dropped() -> None:
    options, warning = parse_patch_options(disable=["adm", "adam"])
    assert options.disable == ("adam",)
    assert str(warning).startswith("'adm' is not a faster path")


def test_all_replaces_every_other_path_name() -> None:
    options, _ = parse_patch_options(disable=["adam,all"])
    assert (options.disable, options.describe()) == (("all",), ("no faster paths",))


def test_the_description_lists_options_that_change_the_numbers() -> None:
    options, _ = parse_patch_options(lazy_adam=True, steps="8")
    assert options.describe() == ("lazy Adam", "8 steps per execution")
    several, _ = parse_patch_options(steps="auto")
    assert several.describe() == ("several steps per execution",)


def test_an_invalid_number_of_steps_is_rejected() -> None:
    with pytest.raises(UsageError, match="steps per execution is 'many'"):
        parse_patch_options(steps="many")


def test_the_patch_accepts_each_option() -> None:
    taken = inspect.signature(patch_tensorflow).parameters
    assert vars(PatchOptions()).keys() - {"is_chosen"} <= taken.keys()


@given(
    st.builds(
        PatchOptions,
        precision=st.sampled_from(["float32", "mixed_bfloat16"]),
        keep_float32=st.lists(st.text(min_size=1), max_size=3).map(tuple),
        disable=st.lists(st.sampled_from(FASTER_PATHS), max_size=3).map(tuple),
        lazy_adam=st.booleans(),
        steps_per_execution=st.none() | st.just("auto") | st.integers(2, 1000),
        is_chosen=st.booleans(),
    )
)
def test_options_survive_a_json_round_trip(options: PatchOptions) -> None:
    assert patch_options_from_json(options.to_json()) == options
    assert json.loads(options.to_json())["precision"] == options.precision
