"""Run the patterns of `patterns/` in plain Keras, under nano-run and with `patch_tensorflow`.

The runner runs all patterns of a mode in one process, since TensorFlow starts slowly. Both ways
to patch Keras give the same patch, so the patterns alternate between the two.
`NANO_TEST_BOTH_WAYS=1` runs each pattern both ways.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
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
