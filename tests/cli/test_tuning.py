"""`nano-run --tune` measures, runs the script once in earnest, and never loses the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

SCRIPT = """
import os, keras, numpy as np
open("log.txt", "a").write("ran ")
model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(np.ones((640, 64)), np.ones((640, 1)), batch_size=16, verbose=0)
print("done")
"""


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_script_is_tuned_run_once_and_remembered(
    nano_run: Run, tmp_path: Path, cache: dict[str, str]
) -> None:
    (tmp_path / "s.py").write_text(SCRIPT)
    options = ("--tune", "--tune-budget", "40", "--sample-steps", "12")
    result = nano_run(*options, "s.py", env=cache)
    assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr
    assert (tmp_path / "log.txt").read_text() == "ran "
    if "copy-on-write" in result.stderr or "too short" in result.stderr:
        pytest.skip(result.stderr)
    assert "nano-run: tried float32: " in result.stderr
    note = next(line for line in result.stderr.splitlines() if "measured on this script by" in line)
    (entry,) = (tmp_path / "cache/nano-init/tuned").iterdir()
    assert json.loads(entry.read_text())["signature"] == "[[[64, 64], [64], [64, 1], [1]]]"
    printed = nano_run("--dry-run", "s.py", env=cache).stdout
    assert printed.startswith(f"# {note.removeprefix('nano-run: ').split('; threads')[0]}\n")


def test_a_script_that_cannot_be_sampled_runs_all_the_same(
    nano_run: Run, tmp_path: Path, cache: dict[str, str]
) -> None:
    (tmp_path / "s.py").write_text("import sys; print(sys.stdin.read()); sys.exit(4)")
    # Where there is no unit, nothing is left to measure.
    variables = {**cache, "TF_ENABLE_ONEDNN_OPTS": "0"}
    result = nano_run("--tune", "s.py", env=variables, input="typed")
    assert (result.stdout, result.returncode) == ("typed\n", 4)
    assert "nano-run: not tuned: the script failed before its first step" in result.stderr
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--tune", "--precision", "float32"),
            "--tune chooses what --precision decides; give one",
        ),
        (
            ("--tune", "--allocator", "jemalloc"),
            "--tune chooses what --allocator decides; give one",
        ),
        (
            ("--tune", "--compare"),
            (
                "--compare keeps nothing that the script writes, and --tune runs it in earnest; "
                "give one"
            ),
        ),
        (
            ("--tune", "--dry-run"),
            "--dry-run runs nothing, so nothing can be measured; leave one out",
        ),
    ],
)
def test_bad_input_gets_one_sentence(
    nano_run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "s.py").write_text("print('ran')")
    result = nano_run(*arguments, "s.py")
    assert (result.stdout, result.returncode) == ("", 2)
    assert result.stderr == f"nano-run: {message}\n"
