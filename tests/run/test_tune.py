"""`nano-run --tune` measures, runs the script once for real, and never loses the run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nano_init.evidence.tuning import search

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

# Ratios that a search of one minute cannot distinguish from noise.
TIE, LEAST_GAIN = 1.03, 1.03


@pytest.fixture
def cache(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def ratio_of(trial: dict[str, Any]) -> float:
    """Return the step time relative to the default: the geometric mean of the runs' medians."""
    return statistics.geometric_mean(map(statistics.median, trial["runs"]))


def rounds_of(trial: dict[str, Any]) -> int:
    """Return the number of rounds; a slow machine may measure too few to choose by."""
    return sum(map(len, trial["runs"]))


def is_default(trial: dict[str, Any]) -> bool:
    """Return whether the others are compared with it: its ratio is always 1."""
    return {ratio for run in trial["runs"] for ratio in run} == {1.0}


def acceptable(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the configurations that the tuner's measurements favour: the fastest and its ties."""
    sound = [
        trial
        for trial in entry["trials"]
        if trial["is_sound"] and (is_default(trial) or rounds_of(trial) >= search._ROUNDS)
    ]
    most = max(len(trial["runs"]) for trial in sound)
    last = [trial for trial in sound if len(trial["runs"]) == most]
    best = min(map(ratio_of, last))
    near = [trial["configuration"] for trial in last if ratio_of(trial) <= TIE * best]
    default = [trial for trial in sound if is_default(trial)]
    if default and best * LEAST_GAIN > 1:
        # A gain below LEAST_GAIN does not replace the default.
        return [default[0]["configuration"], *near]
    return near


@pytest.mark.tensorflow
@pytest.mark.slow
def test_each_script_is_tuned_run_once_and_remembered_with_its_own_choice(
    nano_run: Run, tmp_path: Path, cache: dict[str, str]
) -> None:
    """Each choice follows from the measurements of its own model."""
    (tmp_path / "s.py").write_text(SCRIPT)
    seen: set[Path] = set()
    for number, kind in enumerate(("convolutional", "recurrent"), 1):
        result = nano_run("--tune", "--tune-budget", "30", "s.py", kind, env=cache)
        assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr
        assert (tmp_path / "log.txt").read_text() == "ran " * number
        if any(
            reason in result.stderr for reason in ("copy-on-write", "too short", "time ran out")
        ):
            pytest.skip(result.stderr)
        assert "nano-run: tried float32: " in result.stderr
        (path,) = set((tmp_path / "cache/nano-init/tuned").iterdir()) - seen
        seen.add(path)
        entry = json.loads(path.read_text())
        assert entry["configuration"] in acceptable(entry)
        assert entry["note"] in result.stderr
        dry = nano_run("--dry-run", "s.py", kind, env=cache).stdout
        assert dry.startswith(f"# {entry['note']}")
        assert f'"precision": "{entry["configuration"]["precision"]}"' in dry
    same, other = (
        nano_run("s.py", "recurrent", env={**cache, "UNITS": units}) for units in ("32", "16")
    )
    sentence = "nano-run: the stored choice was measured on another model; --tune measures again"
    assert same.stdout == other.stdout == "done\n"
    assert sentence not in same.stderr
    assert other.stderr.count(sentence) == 1


@pytest.mark.tensorflow
@pytest.mark.slow
def test_models_with_different_measurements_get_different_choices(
    nano_run: Run, tmp_path: Path, cache: dict[str, str]
) -> None:
    """Each model gets the configuration that is fastest for it."""
    (tmp_path / "s.py").write_text(SCRIPT)
    chosen, favoured = [], []
    for kind in ("convolutional", "recurrent"):
        folder = tmp_path / kind
        variables = {**cache, "XDG_CACHE_HOME": str(folder), "UNITS": "128"}
        result = nano_run("--tune", "--tune-budget", "30", "s.py", kind, env=variables)
        assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr
        if "not tuned" in result.stderr:
            pytest.skip(result.stderr)
        (path,) = (folder / "nano-init/tuned").iterdir()
        entry = json.loads(path.read_text())
        assert entry["configuration"] in acceptable(entry)
        chosen.append(entry["configuration"])
        favoured.append(acceptable(entry))
    if any(each in favoured[1] for each in favoured[0]):
        pytest.skip(f"the same is fastest for both here: {chosen}")
    assert chosen[0] != chosen[1]


def test_a_script_that_cannot_be_sampled_still_runs(
    nano_run: Run, tmp_path: Path, cache: dict[str, str]
) -> None:
    (tmp_path / "s.py").write_text("import sys; print(sys.stdin.read()); sys.exit(4)")
    # Without a bfloat16 unit, nothing is left to measure.
    variables = {**cache, "TF_ENABLE_ONEDNN_OPTS": "0"}
    result = nano_run("--tune", "s.py", env=variables, input="typed")
    assert (result.stdout, result.returncode) == ("typed\n", 4)
    assert (
        "nano-run: not tuned: the script reads its standard input, which is empty in a sample: "
        "it failed before its first step"
    ) in result.stderr
    assert not (tmp_path / "cache").exists()


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_script_that_fails_only_in_the_default_precision_runs_in_float32(
    nano_run: Run, tmp_path: Path, cache: dict[str, str]
) -> None:
    """Even if the time is too short to measure anything."""
    (tmp_path / "s.py").write_text(
        "import keras, numpy as np\n"
        "if keras.config.dtype_policy().name != 'float32':\n"
        "    raise ValueError('no bfloat16 here')\n"
        "model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])\n"
        "model.compile('sgd', 'mse')\n"
        "model.fit(np.ones((800, 4)), np.ones((800, 4)), batch_size=4, verbose=0)\n"
        "print('done')\n"
    )
    result = nano_run("--tune", "--tune-budget", "5", "s.py", env=cache)
    if "copy-on-write" in result.stderr or "not tuned" not in result.stderr:
        pytest.skip(result.stderr)
    told = [line for line in result.stderr.splitlines() if line.startswith("nano-run: ")]
    if not any("no bfloat16 here" in line for line in told):
        pytest.skip(f"the default is float32, or it did not come so far: {result.stderr}")
    assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr
    line = [line for line in result.stderr.splitlines() if line.startswith("nano-run: ")][-1]
    assert line.startswith(
        "nano-run: float32: in mixed_bfloat16 the script failed before its first step: ValueError: "
        "no bfloat16 here; threads "
    )


@pytest.mark.slow
def test_precision_measured_runs_the_benchmark_once_per_machine_and_auto_never(
    nano_run: Run, tmp_path: Path, cache: dict[str, str]
) -> None:
    (tmp_path / "s.py").write_text("print('ran')")
    line = "nano-run: running the matmul benchmark, once per machine\n"
    plain = nano_run("s.py", env=cache).stderr
    assert line not in plain
    assert nano_run("--precision", "auto", "s.py", env=cache).stderr == plain
    assert not (tmp_path / "cache").exists()
    assert (
        "measured" not in nano_run("--dry-run", "--precision", "measured", "s.py", env=cache).stdout
    )
    first, second = (nano_run("--precision", "measured", "s.py", env=cache) for _ in range(2))
    assert first.stdout == second.stdout == "ran\n"
    if line not in first.stderr or "could not be measured" in first.stderr:
        pytest.skip(f"there is nothing to measure here: {first.stderr}")
    assert "matrix products are" in first.stderr
    # The same sentence, from the cache; the environment variable requests it too.
    assert second.stderr == first.stderr.replace(line, "")
    third = nano_run("s.py", env={**cache, "NANO_RUN_PRECISION": "measured"})
    assert third.stderr == second.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--tune", "--precision", "float32"),
            "--tune chooses the value of --precision and cannot be combined with it",
        ),
        (
            ("--tune", "--allocator", "jemalloc"),
            "--tune chooses the value of --allocator and cannot be combined with it",
        ),
        (
            ("--tune", "--compare"),
            (
                "--compare and --tune cannot be combined: --compare keeps nothing that the "
                "script writes"
            ),
        ),
        (
            ("--tune", "--dry-run"),
            "--dry-run runs nothing and cannot be combined with --compare, --tune or --report",
        ),
        (
            ("--nproc-per-node", "2", "--precision", "measured"),
            (
                "--precision measured is for a single process; "
                "with several workers use auto, float32 or mixed_bfloat16"
            ),
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
