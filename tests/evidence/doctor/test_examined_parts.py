"""The doctor judges the parts of the patch for the Keras that a script would import."""

from __future__ import annotations

import pytest

from nano_init.evidence.doctor import examination

pytest.importorskip("keras")
pytest.importorskip("tf_keras")


@pytest.mark.parametrize(
    ("value", "kept", "left_out"), [("1", "legacy_adam", "adam"), ("0", "adam", "legacy_adam")]
)
def test_paths_for_the_other_keras_are_left_out(value: str, kept: str, left_out: str) -> None:
    parts = examination._judge_parts({"TF_USE_LEGACY_KERAS": value})
    assert parts is not None
    assert kept in parts
    assert left_out not in parts
    assert "operands" in parts
