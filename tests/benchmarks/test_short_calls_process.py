"""The benchmark of short calls times each call that is asked for, and refuses unknown ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def short_calls(*options):
    command = [sys.executable, str(ROOT / "benchmarks" / "short_calls.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.tensorflow
@pytest.mark.slow
def test_calls_are_timed_in_milliseconds():
    pytest.importorskip("tensorflow")
    names = ("predict, one row", "fit, two batches, with a seed")
    done = short_calls("--here", "--calls", ";".join(names))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert tuple(found) == names
    assert all(milliseconds > 0 for milliseconds in found.values())


def test_an_unknown_call_is_named():
    done = short_calls("--calls", "predict, one row;train")
    assert done.returncode == 2
    assert "unknown: train; there are fit, two batches" in done.stderr
