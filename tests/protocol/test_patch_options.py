"""What a run asks of training, as options, as a payload and in words."""

from __future__ import annotations

import inspect

import pytest

from nano_init import patch_tensorflow
from nano_init.errors import UsageError
from nano_init.keras_patch.patch import patch_imported
from nano_init.protocol.patch_options import TrainingOptions, parse_training_options


def test_nothing_is_asked_for_by_default() -> None:
    assert parse_training_options() == TrainingOptions()
    assert (TrainingOptions().payload(), TrainingOptions().describe()) == ({}, ())


def test_paths_are_given_with_commas_or_again_and_stand_in_one_order() -> None:
    options = parse_training_options(["sgd, rmsprop", "adam"])
    assert options.disable == ("adam", "rmsprop", "sgd")
    assert options.warning is None
    assert options.describe() == ("without adam, rmsprop, sgd",)


def test_an_unknown_path_is_told_of_and_not_handed_on() -> None:
    options = parse_training_options(["adm", "adam"])
    assert options.payload() == {"disable": ("adam",)}
    assert str(options.warning).startswith("'adm' is no faster path")


def test_all_paths_have_one_name() -> None:
    options = parse_training_options(["adam,all"])
    assert (options.payload(), options.describe()) == ({"disable": ("all",)}, ("no faster paths",))


def test_what_changes_the_numbers_is_named() -> None:
    options = parse_training_options(lazy_adam=True, steps="8")
    assert options.payload() == {"lazy_adam": True, "steps_per_execution": 8}
    assert options.describe() == ("lazy Adam", "8 steps per execution")
    assert parse_training_options(steps="auto").describe() == ("several steps per execution",)


def test_a_wrong_number_of_steps_is_refused() -> None:
    with pytest.raises(UsageError, match="steps per execution is 'many'"):
        parse_training_options(steps="many")


@pytest.mark.parametrize("function", [patch_tensorflow, patch_imported])
def test_the_patch_takes_each_name_of_the_payload(function: object) -> None:
    options = parse_training_options(["adam"], lazy_adam=True, steps="2")
    assert options.payload().keys() <= inspect.signature(function).parameters.keys()  # type: ignore[arg-type]
