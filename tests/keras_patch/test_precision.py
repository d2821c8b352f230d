"""Only precisions that are fit for training are taken."""

from __future__ import annotations

import pytest

from nano_init.errors import NanoError, PrecisionError
from nano_init.keras_patch.precision import PRECISIONS, parse_precision


@pytest.mark.parametrize("name", PRECISIONS)
def test_takes_the_allowed_names(name):
    assert parse_precision(name) == name


@pytest.mark.parametrize("value", ["mixed", "FLOAT32", "", None, 16, ["float32"]])
def test_refuses_the_unknown_by_name_and_gives_the_way_out(value):
    with pytest.raises(PrecisionError) as refusal:
        parse_precision(value)
    assert str(refusal.value) == (
        f"precision {value!r} is unknown; use 'float32' or 'mixed_bfloat16'"
    )


@pytest.mark.parametrize("value", ["bfloat16", "float16", "mixed_float16"])
def test_says_why_a_pure_low_precision_is_not_for_training(value):
    with pytest.raises(PrecisionError, match=f"'{value}' is not for training: .+; use 'float32'"):
        parse_precision(value)


def test_can_be_caught_as_the_builtin_or_as_ours():
    with pytest.raises(ValueError, match="unknown"):
        parse_precision("x")
    with pytest.raises(NanoError, match="unknown"):
        parse_precision("x")
