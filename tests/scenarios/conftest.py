"""Run scripts on workers of one host, read their results and find leftover processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
START = "import sys; from nano_init.cli.run import main; sys.exit(main())"

COMMON = """
import json, os, sys
import keras, numpy as np, tensorflow as tf
index = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
keras.utils.set_random_seed(1)
x = np.random.rand(40, 3).astype("float32")
y = x.sum(1, keepdims=True)
def tell(**values):
    with open(f"told{index}", "w") as file:
        json.dump(values, file)
def small(*layers):
    return keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
def weights(model):
    return [w.tolist() for w in model.get_weights()]
"""


FLAGS = ["-q", "--precision", "float32", "--oversubscribe", "--nproc-per-node"]


def clean_environ(variables):
    """Return the environment of a fresh shell, in which the package can be imported."""
    stray = ("NANO_", "TF_", "PYTHON")
    kept = {n: v for n, v in os.environ.items() if not n.startswith(stray)}
    # lean_imports hides packages that Keras imports if installed, as in tests/conftest.py.
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "lean_imports")))
    return {**kept, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}


def prepare(folder, script, workers, options, variables):
    """Write a script; return the command that runs it on workers, and the environment."""
    (folder / "s.py").write_text(COMMON + script)
    command = [sys.executable, "-c", START, *FLAGS, str(workers), *options, "s.py"]
    return command, clean_environ(variables)


@pytest.fixture(scope="session")
def start_program():
    """Return a function that runs one of the programs under plain Python or on workers."""

    def start(folder, name, *arguments, workers=None, options=(), **variables):
        launcher = [] if workers is None else ["-c", START, *FLAGS, str(workers), *options]
        return subprocess.run(
            [sys.executable, *launcher, str(PROGRAMS / name), *arguments],
            env=clean_environ(variables), cwd=folder, capture_output=True, text=True,
            timeout=500, check=False,
        )  # fmt: skip

    return start


@pytest.fixture(scope="session")
def read_results():
    """Return a function that parses a program's output into results by name."""

    def read(text):
        lines = [line for line in text.splitlines() if line.startswith("RESULT ")]
        return dict(json.loads(line.removeprefix("RESULT ")) for line in lines)

    return read


@pytest.fixture(scope="session")
def assert_close():
    """Return a function that compares nested results number by number."""
    import numpy as np

    def compare(expected, actual, path="", *, atol=2e-6, rtol=0.0):
        if isinstance(expected, dict):
            assert expected.keys() == actual.keys(), path
            for name, value in expected.items():
                compare(value, actual[name], f"{path}/{name}", atol=atol, rtol=rtol)
        elif isinstance(expected, list) and any(isinstance(v, (list, dict)) for v in expected):
            assert len(expected) == len(actual), path
            for number, (one, other) in enumerate(zip(expected, actual, strict=True)):
                compare(one, other, f"{path}/{number}", atol=atol, rtol=rtol)
        else:
            np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol, err_msg=path)

    return compare


@pytest.fixture
def run(tmp_path):
    """Run a script on workers in an empty folder; return its process and the workers' results."""

    def start(script, *options, workers=2, fails=False, **variables):
        command, env = prepare(tmp_path, script, workers, options, variables)
        result = subprocess.run(
            command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
        )
        assert bool(result.returncode) == fails, result.stderr[-3000:]
        told = sorted(tmp_path.glob("told*"))
        return result, [json.loads(path.read_text()) for path in told]

    return start


@pytest.fixture
def launch(tmp_path):
    """Start a script on workers in an empty folder and its own session; return the launcher."""
    launchers = []

    def start(script, *options, workers=2):
        command, env = prepare(tmp_path, script, workers, options, {})
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        launchers.append(
            subprocess.Popen(command, env=env, cwd=tmp_path, start_new_session=True, **pipes)
        )
        return launchers[-1]

    yield start
    for launcher in launchers:
        launcher.kill()
        launcher.communicate()


@pytest.fixture
def processes(tmp_path):
    """Return a function that lists the processes that run in the script's folder."""

    def list_here():
        return [pid.name for pid in Path("/proc").glob("[0-9]*") if _works_in(pid, tmp_path)]

    return list_here


def _works_in(pid, folder):
    try:
        return os.readlink(pid / "cwd") == str(folder)
    except OSError:  # it has ended
        return False
