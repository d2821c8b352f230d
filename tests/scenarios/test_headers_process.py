"""Strategies, models and sessions that a program creates itself, on two workers."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy")
pytest.importorskip("tensorflow")

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]


@pytest.fixture
def start(tmp_path, start_program):
    """Return a function that runs the program in an empty folder, with or without workers."""

    def run(*arguments, **options):
        return start_program(tmp_path, "headers.py", *arguments, **options)

    return run


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
def test_a_program_that_can_be_distributed_has_the_results_of_plain_python(
    start, tmp_path, read_results, assert_close, arguments
):
    plain = start(*arguments)
    shared = start(*arguments, workers=2, options=["--log-dir", "logs"])

    assert plain.returncode == 0, plain.stderr[-3000:]
    assert shared.returncode == 0, shared.stderr[-3000:]
    for index in range(2):
        text = (tmp_path / "logs" / f"worker-{index}.log").read_text()
        assert_close(read_results(plain.stdout), read_results(text), atol=3e-5)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["own_strategy", "virtual"], "its own MirroredStrategy of 2 replicas in one process"),
        (["own_strategy", "virtual named"], "its own MirroredStrategy of 2 replicas"),
        (["own_strategy", "virtual", "caught"], "its own MirroredStrategy of 2 replicas"),
        (["own_strategy", "servers"], "its own ParameterServerStrategy"),
        (["sessions", "v2 disabled"], "TensorFlow 1 graphs and sessions"),
        (["sessions", "optimizer"], "TensorFlow 1 graphs and sessions"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_program_that_cannot_be_distributed_ends_the_job_with_one_sentence(
    start, processes, arguments, reason
):
    refused = start(*arguments, workers=2)

    ours = [line for line in refused.stderr.splitlines() if line.startswith("nano-run:")]
    assert len(ours) == 1
    assert reason in ours[0]
    assert "run it without --nproc-per-node" in ours[0]
    assert refused.returncode == 2
    assert "RESULT" not in refused.stdout
    assert "nano_init" not in refused.stderr
    assert "Traceback" not in refused.stderr
    assert processes() == []


def test_a_refused_program_is_not_restarted(start, processes):
    refused = start("sessions", "optimizer", workers=2, options=["--max-restarts", "3"])

    assert refused.returncode == 2
    assert refused.stderr.count("nano-run:") == 1
    assert processes() == []
