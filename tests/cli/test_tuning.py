"""`nano-run --tune` measures, runs the script once in earnest, and never loses the run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

SCRIPT = """
import os, sys, keras, numpy as np
open("log.txt", "a").write("ran ")
units = int(os.environ.get("UNITS", "32"))
if sys.argv[1] == "convolutional":
    shape = (16, 16, 8)
    layers = [
        keras.layers.Conv2D(units, 3, padding="same", use_bias=False),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.GlobalAveragePooling2D(),
    ]
else:
    shape = (16, 32)
    layers = [keras.layers.LSTM(units)]
model = keras.Sequential([keras.Input(shape), *layers, keras.layers.Dense(1)])
model.compile("adam", "mse")
data = np.ones((32 * 50, *shape), "float32")
model.fit(data, data.reshape(len(data), -1)[:, :1], batch_size=32, epochs=8, verbose=0)
print("done")
"""

# What a search in a minute cannot tell from chance.
TIE, LEAST_GAIN = 1.03, 1.03


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def ratio_of(trial: dict[str, Any]) -> float:
    """Return how much longer than the default a step took: medians of heats, averaged."""
    return statistics.geometric_mean(map(statistics.median, trial["heats"]))


def assert_choice_follows(entry: dict[str, Any]) -> None:
    """The chosen one is the fastest of what the tuner itself measured, or as good and simpler."""
    measured = [trial for trial in entry["trials"] if trial["heats"]]
    (chosen,) = (t for t in measured if t["configuration"] == entry["configuration"])
    # What others were held against took exactly its own time.
    (default,) = (t for t in measured if {r for heat in t["heats"] for r in heat} == {1.0})
    assert chosen["is_sound"]
    sound = [trial for trial in measured if trial["is_sound"]]
    most = max(len(trial["heats"]) for trial in sound)
    best = min(ratio_of(trial) for trial in sound if len(trial["heats"]) == most)
    if chosen is default:
        assert best * LEAST_GAIN > 1
    else:
        assert ratio_of(chosen) <= TIE * best


@pytest.mark.tensorflow
@pytest.mark.slow
def test_scripts_are_tuned_run_once_and_remembered_each_with_its_own_choice(
    nano_run: Run, tmp_path: Path, cache: dict[str, str]
) -> None:
    """What is chosen follows from what was measured of the one model, and not of the other."""
    (tmp_path / "s.py").write_text(SCRIPT)
    seen: set[Path] = set()
    for number, kind in enumerate(("convolutional", "recurrent"), 1):
        result = nano_run("--tune", "--tune-budget", "18", "s.py", kind, env=cache)
        assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr
        assert (tmp_path / "log.txt").read_text() == "ran " * number
        if "copy-on-write" in result.stderr or "too short" in result.stderr:
            pytest.skip(result.stderr)
        assert "nano-run: tried float32: " in result.stderr
        (path,) = set((tmp_path / "cache/nano-init/tuned").iterdir()) - seen
        seen.add(path)
        entry = json.loads(path.read_text())
        assert_choice_follows(entry)
        assert entry["note"] in result.stderr
        dry = nano_run("--dry-run", "s.py", kind, env=cache).stdout
        assert dry.startswith(f"# {entry['note']}")
        assert f'"precision": "{entry["configuration"]["precision"]}"' in dry
    same, other = (
        nano_run("s.py", "recurrent", env={**cache, "UNITS": units}) for units in ("32", "16")
    )
    sentence = "nano-run: the remembered choice was measured on another model; --tune measures anew"
    assert same.stdout == other.stdout == "done\n"
    assert sentence not in same.stderr
    assert other.stderr.count(sentence) == 1


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


@pytest.mark.slow
def test_precision_auto_is_measured_once_a_machine_where_it_is_given(
    nano_run: Run, tmp_path: Path, cache: dict[str, str]
) -> None:
    (tmp_path / "s.py").write_text("print('ran')")
    line = "nano-run: measuring matrix products, once on this machine\n"
    assert line not in nano_run("s.py", env=cache).stderr
    assert not (tmp_path / "cache").exists()
    assert "measured" not in nano_run("--dry-run", "--precision", "auto", "s.py", env=cache).stdout
    first, second = (nano_run("--precision", "auto", "s.py", env=cache) for _ in range(2))
    assert first.stdout == second.stdout == "ran\n"
    if line not in first.stderr or "could not be measured" in first.stderr:
        pytest.skip(f"there is nothing to measure here: {first.stderr}")
    assert "matrix products measured" in first.stderr
    # The same sentence, from memory; the twin in the environment asks for it, too.
    assert second.stderr == first.stderr.replace(line, "")
    third = nano_run("s.py", env={**cache, "NANO_RUN_PRECISION": "auto"})
    assert third.stderr == second.stderr


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
