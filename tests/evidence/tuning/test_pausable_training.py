"""Trainings take turns, each in a new or a forked process, and all of them end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from nano_init.errors import LateSampleError, MemorySampleError, SampleError, ScriptError
from nano_init.evidence.sampling.sample import SampleRequest
from nano_init.evidence.tuning.fork_server import ForkServer, start_process
from nano_init.evidence.tuning.local_trial_runner import LocalTrialRunner
from nano_init.evidence.tuning.pausable_training import PausableTraining
from nano_init.protocol.programs import BOOTSTRAP_FOLDER
from nano_init.protocol.sample_rules import LEAST_SLICE_STEPS
from nano_init.protocol.variables import PATCH_VARIABLE

SCRIPT = """
import sys
import numpy as np, keras, tensorflow as tf
assert __name__ == "__main__" and sys.argv[1:] == ["--lively"], (__name__, sys.argv)
open("written.txt", "a").write("x")
assert open("written.txt").read() == "x"
keras.utils.set_random_seed(3)
x = np.random.default_rng(0).random((64, 8), "float32"); y = np.zeros((64, 1))
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(x, y, batch_size=4, epochs=10000, verbose=0)
"""


@pytest.fixture
def variables(environ: dict[str, str]) -> dict[str, str]:
    return {
        **environ,
        "PYTHONPATH": f"{BOOTSTRAP_FOLDER}:{environ['PYTHONPATH']}",
        PATCH_VARIABLE: '{"precision": "float32"}',
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
    }


@pytest.fixture
def fork_server(variables: dict[str, str]) -> Iterator[ForkServer]:
    fork_server = ForkServer(sys.executable, variables)
    yield fork_server
    fork_server.close()


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "s.py"
    path.write_text(SCRIPT)
    return path


def warm(training: PausableTraining) -> PausableTraining:
    try:
        training.warm_up(100)
    except SampleError as error:
        training.close()
        if "copy-on-write" in str(error):
            pytest.skip(str(error))
        raise
    return training


def wait_until_stopped(pid: int) -> None:
    """Wait until all threads are stopped; the test's timeout is the bound."""
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)


def children() -> list[psutil.Process]:
    return [c for c in psutil.Process().children(recursive=True) if c.status() != "zombie"]


@pytest.mark.tensorflow
@pytest.mark.slow
def test_forked_trainings_match_those_in_new_processes(
    script: Path, variables: dict[str, str], fork_server: ForkServer
) -> None:
    """They have the same losses, private files and the requested number of threads."""
    argv = [sys.executable, "s.py", "--lively"]
    more = {**variables, "TF_NUM_INTRAOP_THREADS": "3"}
    assert fork_server.suits(more)
    fork = partial(fork_server.fork, seconds=60.0)
    kinds = ((variables, start_process), (variables, fork), (more, fork))
    own, *forked = (
        warm(PausableTraining(argv, each, SampleRequest(seed=0), start)) for each, start in kinds
    )
    threads = [psutil.Process(each._process.pid).num_threads() for each in forked]  # type: ignore[union-attr]
    assert threads[1] > threads[0]
    for training in (own, *forked, own):
        steps = training.train(0.05, 60.0)
        assert len(steps) >= LEAST_SLICE_STEPS
        assert all(0 < each < 5 for each in steps)
        wait_until_stopped(training._process.pid)  # type: ignore[union-attr]
    shortest = min(len(each.losses) for each in (own, *forked))
    assert own.losses[:shortest] == forked[0].losses[:shortest] == forked[1].losses[:shortest]
    assert own.signature == forked[0].signature == "[[[8, 1], [1]]]"
    for training in (own, *forked):
        training.close()
    assert os.listdir(script.parent) == ["s.py"]
    fork_server.close()
    assert not children()


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_script_that_sets_variables_read_at_import_starts_in_a_new_process(
    script: Path, variables: dict[str, str], fork_server: ForkServer
) -> None:
    script.write_text("import os; os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'\n" + SCRIPT)
    argv = [sys.executable, "s.py", "--lively"]
    shared: list[bool] = []

    def launch(_configuration: Any, seed: int, may_share: bool) -> PausableTraining:
        shared.append(may_share)
        start = partial(fork_server.fork, seconds=60.0) if may_share else start_process
        return PausableTraining(argv, variables, SampleRequest(seed=seed), start)

    stage = LocalTrialRunner(launch, 1, lambda: 1e10, lambda: 100.0, lambda: None)
    any_configuration: Any = None
    (first,) = stage.start([(any_configuration, 0)])
    (second,) = stage.start([(any_configuration, 1)])
    for training in (first, second):
        if isinstance(training, SampleError):
            pytest.skip(str(training))
        training.close()
    assert shared == [True, False, False]


class TestSharing:
    """A training that cannot be forked starts in a new process, even if it was launched ahead."""

    class Quick:
        peak_kb = 1000

        def __init__(self, fault: SampleError | None, changed: bool) -> None:
            self.fault, self.changed = fault, changed

        def warm_up(self, _seconds: float) -> None:
            if self.fault:
                raise self.fault

        def close(self) -> None:
            pass

    def outcomes(self, *, fails: str, changes: bool = False) -> tuple[list[Any], list[bool]]:
        shared: list[bool] = []

        def launch(_configuration: Any, _seed: int, may_share: bool) -> Any:
            shared.append(may_share)
            fault: SampleError | None = None
            if fails == "always" or (may_share and fails):
                fault = LateSampleError("late") if fails == "late" else SampleError("it failed")
            elif fails == "own late":
                fault = LateSampleError("late")
            return self.Quick(fault, may_share and changes)

        stage = LocalTrialRunner(launch, 2, lambda: 1e10, lambda: 1.0, lambda: None)
        wanted: Any = [(None, seed) for seed in range(3)]
        return stage.start(wanted), shared

    def test_all_share_if_that_works(self) -> None:
        found, shared = self.outcomes(fails="")
        assert not any(isinstance(each, SampleError) for each in found)
        assert shared == [True] * 3

    @pytest.mark.parametrize(("fails", "changes"), [("shared", False), ("", True)])
    def test_each_starts_again_in_a_new_process_if_sharing_fails(
        self, fails: str, changes: bool
    ) -> None:
        found, shared = self.outcomes(fails=fails, changes=changes)
        assert not any(isinstance(each, SampleError) for each in found)
        # Two are launched ahead and start again; the third starts in a new process at once.
        assert sorted(shared) == [False, False, False, True, True]

    def test_a_late_training_is_not_started_again(self) -> None:
        found, shared = self.outcomes(fails="late")
        assert [str(each) for each in found] == ["late"] * 3
        assert shared == [True] * 3

    def test_the_first_failure_is_reported_if_the_repetition_is_late(self) -> None:
        found, _ = self.outcomes(fails="own late")
        assert str(found[0]) == "it failed"

    def test_a_script_that_always_fails_is_repeated_once_and_others_still_share(self) -> None:
        found, shared = self.outcomes(fails="always")
        assert all(isinstance(each, SampleError) for each in found)
        assert sorted(shared) == [False, False, False, True, True, True]


@pytest.mark.parametrize(
    ("change", "suits"),
    [
        ({}, True),
        ({"TF_XLA_FLAGS": "--tf_xla_auto_jit=2"}, True),
        ({"NANO_INIT_DISABLE": "all", "TF_NUM_INTEROP_THREADS": "1"}, True),
        ({"TF_ENABLE_ONEDNN_OPTS": "0"}, False),
        ({"LD_PRELOAD": "/lib/libjemalloc.so"}, False),
        ({"TF_USE_LEGACY_KERAS": "1"}, False),
    ],
)
def test_variables_read_at_import_need_a_new_process(change: dict[str, str], suits: bool) -> None:
    fork_server = ForkServer("/bin/false", {"HOME": "/"})
    try:
        assert fork_server.suits({"HOME": "/", **change}) is suits
    finally:
        fork_server.close()


def test_a_fork_server_that_cannot_import_is_reported(tmp_path: Path) -> None:
    fork_server = ForkServer("/bin/false", {})
    try:
        with pytest.raises(SampleError, match="no training could be forked"):
            PausableTraining(
                ["/bin/false", "s.py"], {}, SampleRequest(), partial(fork_server.fork, seconds=5.0)
            )
    finally:
        fork_server.close()
    assert not children()


@pytest.mark.tensorflow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        ("raise ValueError('not so')", ScriptError, "failed before its first step: ValueError: no"),
        ("import sys; sys.exit('not so')", ScriptError, "failed before its first step: not so"),
        ("import sys; sys.exit(3)", ScriptError, "failed before its first step"),
        ("import os; os.abort()", ScriptError, "was ended by SIGABRT before its first step"),
        ("import os; os._exit(7)", ScriptError, "failed before its first step with status 7"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            MemorySampleError,
            "was killed by SIGKILL before its first step, probably because memory ran out",
        ),
        ("print('ran')", SampleError, "no training was seen"),
        ("input()", ScriptError, r"empty in a sample: it failed before its first step \(EOFError"),
        (
            "import sys; int(sys.stdin.readline())",
            ScriptError,
            r"empty in a sample: it failed before its first step \(ValueError",
        ),
    ],
)
def test_the_reason_why_a_forked_script_ended_is_reported(
    script: Path,
    variables: dict[str, str],
    fork_server: ForkServer,
    code: str,
    kind: type[SampleError],
    reason: str,
) -> None:
    script.write_text(code)
    fork = partial(fork_server.fork, seconds=60.0)
    training = PausableTraining([sys.executable, "s.py"], variables, SampleRequest(seed=0), fork)
    with pytest.raises(SampleError, match=rf"{reason}|copy-on-write") as caught:
        training.warm_up(60)
    training.close()
    if "copy-on-write" not in str(caught.value):
        assert type(caught.value) is kind


def test_written_files_count_as_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "open('big', 'wb').write(b'x' * (20 << 20)); import time; time.sleep(600)"
    training = PausableTraining([sys.executable, "-c", code], {}, SampleRequest())
    try:
        assert training._process is not None
        while training.written_kb() < 20 << 10:
            if training._process.poll() is not None:
                pytest.skip("this system permits no sample")
            time.sleep(0.01)
        assert training.written_kb() < 24 << 10
    finally:
        training.close()
    assert training.written_kb() == 0
    assert os.listdir(tmp_path) == []


def test_a_slow_script_is_late_and_leaves_no_process() -> None:
    training = PausableTraining(
        [sys.executable, "-c", "import time; time.sleep(600)"], {}, SampleRequest()
    )
    with pytest.raises(
        SampleError, match=r"still running before its first step|does not permit one"
    ):
        training.warm_up(0.2)
    training.close()
    assert not children()


def test_a_fork_server_that_imports_too_long_is_late_and_not_used_again(tmp_path: Path) -> None:
    """Its reply would belong to the earlier request."""
    (tmp_path / "keras.py").write_text("import time; time.sleep(60)")
    variables = {"PYTHONPATH": str(tmp_path)}
    fork_server = ForkServer(sys.executable, variables)
    try:
        assert fork_server.suits(variables)
        with pytest.raises(LateSampleError, match="still being imported when 0 seconds were over"):
            PausableTraining(
                ["x", "s.py"], variables, SampleRequest(), partial(fork_server.fork, seconds=0.0)
            )
        assert not fork_server.suits(variables)
    finally:
        fork_server.close()


def test_a_failing_script_is_reported_and_leaves_no_process() -> None:
    training = PausableTraining([sys.executable, "-c", "1 / 0"], {}, SampleRequest())
    with pytest.raises(SampleError, match=r"first step: ZeroDivisionError|does not permit one"):
        training.warm_up(30)
    training.close()
    training.close()
    assert not children()


@pytest.mark.parametrize(
    ("end", "kind", "reason"),
    [
        ("", SampleError, "no training was seen"),
        ("raise ValueError('not so')", ScriptError, "failed before its first step"),
    ],
)
def test_a_slow_exit_counts_as_an_orderly_one(
    monkeypatch: pytest.MonkeyPatch, end: str, kind: type[SampleError], reason: str
) -> None:
    """The script's exit handlers run after the watch has reported."""
    monkeypatch.setattr("nano_init.evidence.tuning.pausable_training._ENDING_SECONDS", 0.1)
    slow = "import atexit, time; atexit.register(time.sleep, 60)"
    training = ending(f"{slow}; {_WATCHED}; {end}")
    with pytest.raises(SampleError, match=f"{reason}|does not permit one") as caught:
        training.warm_up(60)
    training.close()
    if "does not permit one" not in str(caught.value):
        assert type(caught.value) is kind


def test_a_running_script_that_closes_all_its_files_does_not_count_as_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nano_init.evidence.tuning.pausable_training._ENDING_SECONDS", 0.1)
    training = ending("import os, time; os.closerange(3, 1 << 20); time.sleep(60)")
    with pytest.raises(SampleError, match=r"closed all inherited files|does not permit one"):
        training.warm_up(60)
    training.close()


# Does what the bootstrap does after the import of Keras, but without Keras.
_WATCHED = (
    "import json, os; from nano_init.instrumentation.watch import Watch; "
    "watch = Watch(json.loads(os.environ['NANO_INIT_WATCH']), os.environ); "
    "atexit.register(watch.write, 'exit')"
)


def ending(code: str) -> PausableTraining:
    variables = {"PYTHONPATH": str(Path(__file__).parents[3])}
    return PausableTraining([sys.executable, "-c", code], variables, SampleRequest())
