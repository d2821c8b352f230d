"""Strategies, models and sessions that a program makes for itself, on two workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("tensorflow")

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
START = "import sys; from nano_init.cli.run import main; sys.exit(main())"
SCRIPT = str(HERE / "programs" / "headers.py")

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]


@pytest.fixture
def start(tmp_path):
    """Run Python in an empty folder, in a session of its own."""

    def run(*arguments):
        stray = ("NANO_", "TF_", "PYTHON")
        kept = {n: v for n, v in os.environ.items() if not n.startswith(stray)}
        return subprocess.run(
            [sys.executable, *arguments],
            env={**kept, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def start_workers(start):
    def run(*arguments):
        options = ["-q", "--precision", "float32", "--oversubscribe", "--log-dir", "logs"]
        return start("-c", START, *options, "--nproc-per-node", "2", SCRIPT, *arguments)

    return run


def result(text):
    (line,) = [line[7:] for line in text.splitlines() if line.startswith("RESULT ")]
    return json.loads(line)[1]


def assert_alike(expected, actual):
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        pairs = zip(value, actual[name], strict=True) if isinstance(value, list) else ()
        for one, other in pairs or [(value, actual[name])]:
            np.testing.assert_allclose(other, one, rtol=0, atol=3e-5, err_msg=name)


@pytest.mark.parametrize(
    "arguments",
    [
        ["notebook_header"],
        ["own_strategy", "mirrored"],
        ["own_strategy", "one device"],
        ["own_strategy", "central"],
        ["looks_into_a_graph"],
        ["without_call", "graph"],
        ["without_call", "eager"],
    ],
    ids=" ".join,
)
def test_what_can_be_shared_has_plain_pythons_results(start, start_workers, tmp_path, arguments):
    plain, shared = start(SCRIPT, *arguments), start_workers(*arguments)

    assert plain.returncode == 0, plain.stderr[-3000:]
    assert shared.returncode == 0, shared.stderr[-3000:]
    for index in range(2):
        text = (tmp_path / "logs" / f"worker-{index}.log").read_text()
        assert_alike(result(plain.stdout), result(text))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["own_strategy", "virtual"], "its own MirroredStrategy of 2 replicas in one process"),
        (["own_strategy", "virtual named"], "its own MirroredStrategy of 2 replicas"),
        (["own_strategy", "virtual", "caught"], "its own MirroredStrategy of 2 replicas"),
        (["own_strategy", "servers"], "its own ParameterServerStrategy"),
        (["sessions", "v2 disabled"], "TensorFlow 1's graphs and sessions"),
        (["sessions", "optimizer"], "TensorFlow 1's graphs and sessions"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_shared_ends_the_job_with_one_sentence(
    start_workers, processes, arguments, reason
):
    refused = start_workers(*arguments)

    ours = [line for line in refused.stderr.splitlines() if line.startswith("nano-run:")]
    assert len(ours) == 1
    assert reason in ours[0]
    assert "run it without --nproc-per-node" in ours[0]
    assert refused.returncode == 2
    assert "RESULT" not in refused.stdout
    assert "nano_init" not in refused.stderr
    assert "Traceback" not in refused.stderr
    assert processes() == []


def test_a_refused_program_is_not_started_again(start, processes):
    options = ["-q", "--precision", "float32", "--oversubscribe", "--max-restarts", "3"]
    script = [SCRIPT, "sessions", "optimizer"]
    refused = start("-c", START, *options, "--nproc-per-node", "2", *script)

    assert refused.returncode == 2
    assert refused.stderr.count("nano-run:") == 1
    assert processes() == []
