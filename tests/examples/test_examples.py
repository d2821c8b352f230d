"""The examples train on real digits, and bfloat16 costs them no accuracy."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", reason="the examples train with TensorFlow")

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def accuracy(result: subprocess.CompletedProcess[str]) -> float:
    """Return the test accuracy that an example has printed."""
    assert result.returncode == 0, result.stderr
    (found,) = re.findall(r"^test accuracy: (\d\.\d+)$", result.stdout, re.MULTILINE)
    return float(found)


def test_an_unmodified_script_is_as_accurate_in_bfloat16_as_in_float32(nano_run: Run) -> None:
    """Within one percentage point for the same seed."""
    script = str(EXAMPLES / "mnist_mlp.py")
    results = {
        precision: nano_run("--precision", precision, script, "--seed", "3")
        for precision in ("float32", "mixed_bfloat16")
    }
    assert "layers compute in float32\n" in results["float32"].stdout
    assert "layers compute in bfloat16\n" in results["mixed_bfloat16"].stdout
    single, mixed = (accuracy(result) for result in results.values())
    assert single > 0.89
    assert abs(single - mixed) <= 0.01


def test_the_custom_loop_trains_with_and_without_a_float32_head(python: Run) -> None:
    script = str(EXAMPLES / "mnist_custom_loop.py")
    baseline = accuracy(python(script, "--precision", "float32"))
    assert baseline > 0.89
    for head in ([], ["--bfloat16-head"]):
        assert abs(accuracy(python(script, *head)) - baseline) <= 0.01


def test_the_policies_of_two_models_show_patch_and_unpatch(python: Run) -> None:
    result = python(str(EXAMPLES / "mnist_patch.py"))
    assert accuracy(result) > 0.89
    assert "built under the patch: mixed_bfloat16\n" in result.stdout
    assert "built after it:        float32\n" in result.stdout
