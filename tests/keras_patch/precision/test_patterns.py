"""Code that trains in float32 trains in bfloat16: each pattern gives the number of plain Keras.

The runner runs all patterns of a mode in one process, since TensorFlow starts slowly. Both ways
to patch Keras give the same patch, so the patterns alternate between the two.
`NANO_TEST_BOTH_WAYS=1` runs each pattern both ways. The numbers of plain Keras are recorded, see
`plain_results.py`.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import plain_results  # noqa: E402

ROOT = HERE.parents[2]
RUNNER = HERE / "patterns" / "run_patterns.py"
LAUNCH = "import sys; from nano_init.cli.run import main; sys.exit(main())"
MODES = {
    "plain": [sys.executable, RUNNER],
    "nano_run": [sys.executable, "-c", LAUNCH, "--precision", "mixed_bfloat16", RUNNER],
    "patch": [sys.executable, RUNNER, "--patch", "mixed_bfloat16"],
}
LEGACY_ENVIRON = {"TF_USE_LEGACY_KERAS": "1"}
STRAY = ("NANO_", "OMP_", "KMP_", "TF_", "ONEDNN_", "PYTHON")

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]


def registered():
    """Yield name, decorator and options of each pattern, without importing TensorFlow."""
    for path in sorted(RUNNER.parent.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            for mark in getattr(node, "decorator_list", []):
                called = mark.func if isinstance(mark, ast.Call) else mark
                keywords = getattr(mark, "keywords", [])
                options = {k.arg: ast.literal_eval(k.value) for k in keywords}
                if getattr(called, "id", "") in ("case", "bad_case"):
                    yield node.name, called.id, options


ENTRIES = {name: (kind, options) for name, kind, options in registered()}
CASES = [name for name, (kind, _) in ENTRIES.items() if kind == "case"]
BAD_CASES = [name for name, (kind, _) in ENTRIES.items() if kind == "bad_case"]
ALONE = [name for name, (_, options) in ENTRIES.items() if options.get("alone")]
LEGACY = [n for n in CASES if ENTRIES[n][1].get("legacy") and n not in ALONE]
LEGACY_BAD = [n for n in BAD_CASES if ENTRIES[n][1].get("legacy")]


WAYS = ("nano_run", "patch")


def in_way(mode, names):
    """Return the patterns of a list that run in a mode."""
    if mode not in WAYS or os.environ.get("NANO_TEST_BOTH_WAYS"):
        return names
    return names[WAYS.index(mode) :: len(WAYS)]


def in_ways(names):
    """Return the pairs of a patching mode and a pattern that runs in it."""
    return [(mode, name) for mode in WAYS for name in in_way(mode, names)]


def run(mode, *arguments, **environ):
    """Run patterns in one process; return the result of each by its name."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(STRAY)}
    environ = {**kept, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **environ}
    command = [*map(str, MODES[mode]), *arguments]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=3600, check=False
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert found, done.stderr[-2000:]
    return {line["name"]: line for line in found}


def run_all(mode, cases, bad_cases, **environ):
    """Run patterns in one mode; those that change their process run in separate ones."""
    alone = [name for name in cases if name in ALONE]
    found = run(mode, *(name for name in cases if name not in ALONE), **environ)
    found.update(run(mode, "--bad", *bad_cases, **environ))
    for name in alone:
        found.update(run(mode, name, **environ))
    return found


def plain_keras():
    """Return the results of all patterns in plain Keras."""
    return run_all("plain", CASES, BAD_CASES)


def plain_tf_keras():
    """Return the results of the patterns that apply to Keras 2 in plain `tf_keras`."""
    return run_all("plain", LEGACY, LEGACY_BAD, **LEGACY_ENVIRON)


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
