"""Code that trains in float32 trains in bfloat16: each pattern gives the number of plain Keras.

The numbers of plain Keras are recorded, see `plain_results.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import plain_results
from pattern_runs import (
    BAD_CASES,
    CASES,
    ENTRIES,
    LEGACY,
    LEGACY_BAD,
    LEGACY_ENVIRON,
    WAYS,
    in_way,
    in_ways,
    plain_keras,
    plain_tf_keras,
    run_all,
)

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def results():
    patched = {mode: run_all(mode, in_way(mode, CASES), in_way(mode, BAD_CASES)) for mode in WAYS}
    return {"plain": plain_results.plain_results("keras") or plain_keras(), **patched}


@pytest.fixture(scope="module")
def legacy_results():
    pytest.importorskip("tf_keras")
    return {
        "plain": plain_results.plain_results("tf_keras") or plain_tf_keras(),
        "nano_run": run_all("nano_run", LEGACY, LEGACY_BAD, **LEGACY_ENVIRON),
    }


def check_number(results, mode, name):
    plain, found = results["plain"][name], results[mode][name]
    assert "number" in plain, f"in plain Keras: {plain['error']}: {plain['message']}"
    assert "number" in found, f"{found['error']}: {found['message']}"
    tolerance = ENTRIES[name][1].get("tolerance", 0.05)
    assert found["number"] == pytest.approx(plain["number"], rel=tolerance)


def check_error(results, mode, name):
    plain, found = results["plain"][name], results[mode][name]
    assert plain.get("words"), f"in plain Keras: {plain}"
    assert found.get("error") == plain["error"], found
    assert found["words"], found["message"]


@pytest.mark.parametrize(("mode", "name"), in_ways(CASES))
def test_a_pattern_trains_as_in_plain_keras(results, mode, name):
    check_number(results, mode, name)


@pytest.mark.parametrize(("mode", "name"), in_ways(BAD_CASES))
def test_a_failure_is_the_same_as_in_plain_keras(results, mode, name):
    check_error(results, mode, name)


@pytest.mark.parametrize("name", LEGACY)
def test_a_pattern_trains_as_in_plain_tf_keras(legacy_results, name):
    check_number(legacy_results, "nano_run", name)


@pytest.mark.parametrize("name", LEGACY_BAD)
def test_a_failure_is_the_same_as_in_plain_tf_keras(legacy_results, name):
    check_error(legacy_results, "nano_run", name)


def test_the_recorded_results_are_of_all_patterns_as_they_are():
    """After a change to a pattern, run `python tests/keras_patch/precision/plain_results.py`."""
    recorded = json.loads(plain_results.RECORDED.read_text())
    names = {"keras": {*CASES, *BAD_CASES}, "tf_keras": {*LEGACY, *LEGACY_BAD}}
    for library, each in recorded.items():
        assert set(each["results"]) == names[library]
        assert each["made_with"]["patterns"] == plain_results.digest_of_patterns()


def test_no_pattern_gives_zero():
    """A number that is 0 whatever a pattern does would compare nothing."""
    recorded = json.loads(plain_results.RECORDED.read_text())
    for each in recorded.values():
        assert 0.0 not in [result.get("number") for result in each["results"].values()]
