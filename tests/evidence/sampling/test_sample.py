"""A sample records the steps of any loop, or says in one sentence why it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nano_init.errors import SampleError
from nano_init.evidence.sampling.sample import Sample, SampleRequest, read_record, take_sample
from nano_init.instrumentation.watch import Watch
from nano_init.protocol.patch_options import PatchOptions
from nano_init.protocol.programs import BOOTSTRAP_FOLDER
from nano_init.protocol.variables import COMPILE_SOON_VARIABLE, PATCH_VARIABLE

Run = Callable[..., "subprocess.CompletedProcess[str]"]

HEAD = """
import numpy as np, keras, tensorflow as tf
keras.utils.set_random_seed(3)
x = np.random.default_rng(0).random((64, 8), "float32"); y = np.zeros((64, 1))
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
"""
FIT = (
    HEAD
    + """
open("written.txt", "w").write("x")
print("hello")
model.compile("sgd", "mse", steps_per_execution=2)
model.fit(x, y, batch_size=4, epochs=20, verbose=0)
"""
)
LOOP = (
    HEAD
    + """
optimizer = keras.optimizers.SGD(0.1)
@tf.function
def train(data):
    for features, labels in data:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(features) - labels) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
data = tf.data.Dataset.from_tensor_slices((x, y.astype("float32"))).batch(32)
while True:
    train(data)
"""
)
EAGER = (
    HEAD
    + """
optimizer = keras.optimizers.SGD(0.1)
for step in range(14):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables),
                                  model.trainable_variables))
"""
)

KERNELS = """
import numpy as np, keras
model = keras.Sequential([keras.Input((256,)), keras.layers.Dense(256, "gelu")])
model.compile("sgd", "mse")
x = np.zeros((128, 256), "float32")
model.fit(x, x, batch_size=64, epochs=5, verbose=0)
from nano_init.keras_patch.faster import deferred
import tensorflow as tf
row = deferred._find(tf.constant(deferred._ALL, tf.int64))
print("kernels:", int(deferred._stored(row[deferred._COMPILED])))
"""


@pytest.fixture
def take(environ: dict[str, str], tmp_path: Path) -> Any:
    def take(script: str, *, steps: int = 12, seconds: float = 100, **more: Any) -> Sample:
        (tmp_path / "s.py").write_text(script)
        variables = {
            **environ,
            **more.pop("environ", {}),
            "PYTHONPATH": f"{BOOTSTRAP_FOLDER}:{environ['PYTHONPATH']}",
        }
        try:
            return take_sample(
                [sys.executable, "s.py"],
                variables,
                SampleRequest(steps=steps, seconds=seconds, **more),
                cwd=str(tmp_path),
            )
        except SampleError as error:
            if "copy-on-write" in str(error):
                pytest.skip(str(error))
            raise

    return take


@pytest.mark.tensorflow
@pytest.mark.slow
class TestSteps:
    def test_fit_is_sampled_step_by_step_and_nothing_is_written(
        self, take: Any, tmp_path: Path
    ) -> None:
        sample = take(FIT, steps=24)
        assert len(sample.losses) == 12  # one mark for two steps
        assert 5 <= len(sample.step_seconds) < 12
        assert sample.batch == 4
        assert all(0 < seconds < 5 for seconds in sample.step_seconds)
        assert 0.5 < sample.first_step_seconds < 100
        assert sample.peak_kb > 50_000
        assert sample.signature == "[[[8, 1], [1]]]"
        assert len(set(sample.losses)) == 12
        assert sample.output == b"hello\n"
        assert os.listdir(tmp_path) == ["s.py"]

    def test_a_short_sample_runs_the_kernels_of_a_long_training(
        self, take: Any, nano_run: Run
    ) -> None:
        """Outside a sample, a training as short as this one compiles no kernels."""
        patched = PatchOptions(precision="float32").to_json()
        sample = take(KERNELS, steps=100, environ={PATCH_VARIABLE: patched})
        assert sample.output == b"kernels: 1\n"
        options = ("--quiet", "--precision", "float32")
        assert nano_run(*options, "s.py").stdout == "kernels: 0\n"
        asked = {COMPILE_SOON_VARIABLE: "1"}
        assert nano_run(*options, "s.py", env=asked).stdout == "kernels: 1\n"

    def test_the_batch_size_is_that_of_most_steps(self, take: Any) -> None:
        """It is not that of an epoch's last batch or of a validation batch."""
        fit = (
            "model.compile('sgd', 'mse')\n"
            "model.fit(x, y, batch_size=6, epochs=2, verbose=0, validation_data=(x[:7], y[:7]))\n"
        )
        assert take(HEAD + fit, steps=1000).batch == 6

    def test_a_loop_that_is_compiled_as_a_whole_is_sampled(self, take: Any) -> None:
        sample = take(LOOP, steps=24)
        assert sample.batch == 32
        assert len(sample.losses) == 12
        assert sample.losses[-1] < sample.losses[0]

    def test_an_eager_loop_that_ends_by_itself_is_sampled_and_depends_on_the_seed(
        self, take: Any
    ) -> None:
        first, other = take(EAGER, steps=100, seed=0), take(EAGER, steps=100, seed=1)
        assert (len(first.losses), first.batch) == (14, 64)
        assert first.losses != other.losses

    def test_a_training_that_ends_before_its_sample_is_profiled(self, take: Any) -> None:
        profile = take(FIT, steps=1000, profile=True).profile
        assert profile is not None
        assert profile["operations"]

    @pytest.mark.parametrize(
        ("tail", "reason"),
        [
            ("", "no training was seen: no Keras optimizer made a step"),
            (
                "model.compile('sgd', 'mse'); model.fit(x, y, batch_size=16, verbose=0); x / None",
                "the script failed after 4 steps: TypeError: unsupported operand",
            ),
        ],
    )
    def test_the_reason_for_a_failed_sample_is_reported(
        self, take: Any, tail: str, reason: str
    ) -> None:
        with pytest.raises(SampleError, match=reason):
            take(HEAD + tail)


class TestWithoutTraining:
    @pytest.mark.parametrize(
        ("script", "followed"),
        [
            ("input()", r"it failed before its first step \(EOFError"),
            ("import sys; int(sys.stdin.readline())", r"it failed .* \(ValueError: invalid lit"),
            ("import sys\nfor line in sys.stdin: pass", "it trained nothing without"),
        ],
    )
    def test_standard_input_is_empty_and_the_error_says_so(
        self, take: Any, script: str, followed: str
    ) -> None:
        with pytest.raises(
            SampleError, match=f"reads its standard input, which is empty in a sample: {followed}"
        ):
            take(script)

    @pytest.mark.parametrize(
        ("end", "reason"),
        [
            ("time.sleep(600)", "still running before its first step when 3 sec"),
            ("sys.exit(5)", "the script failed before its first step with status 5"),
        ],
    )
    def test_the_child_processes_of_a_script_end_with_it(
        self, take: Any, end: str, reason: str
    ) -> None:
        """Even in another session, and after their parent has ended."""
        mark = f"{os.getpid()}.{time.time_ns()}"
        script = (
            "import subprocess, sys, time\n"
            "code = 'import time; time.sleep(600)'\n"
            f"subprocess.Popen([sys.executable, '-c', code, '{mark}'], start_new_session=True)\n"
            f"{end}\n"
        )
        with pytest.raises(SampleError, match=reason):
            take(script, seconds=1, start_seconds=2)
        shown = subprocess.run(
            ["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True
        )
        assert mark not in shown.stdout

    def test_the_signal_that_ended_the_script_is_reported(self, take: Any) -> None:
        with pytest.raises(SampleError, match="ended by SIGABRT before its first step"):
            take("import os; os.abort()")


def record(times: list[float], **more: Any) -> dict[str, Any]:
    marks = [[at, 0, number + 1, 1.0] for number, at in enumerate(times)]
    return {
        "started": 0.0,
        "marks": marks,
        "batch": 8,
        "peak_kb": 1000,
        "signature": [],
        "waited": 0.0,
        **more,
    }


class TestReadRecord:
    def test_the_warm_up_is_left_out(self) -> None:
        times = [10, 15, 16, 17, 18, *(18 + 0.5 * n for n in range(1, 9))]
        sample = read_record(record(times), 0, "", SampleRequest())
        assert sample.step_seconds == (0.5,) * 8
        assert sample.first_step_seconds == 10

    def test_a_short_sample_keeps_five_steps(self) -> None:
        times = [10, 15, 16, 17, 18, 19, 20, 21]
        assert len(read_record(record(times), 0, "", SampleRequest()).step_seconds) == 5

    def test_only_the_optimizer_with_the_most_steps_counts(self) -> None:
        """The steps of a short pre-training, or of the other half of a GAN, are not mixed in."""
        marks = [[at, 0, at, None] for at in range(3)]
        marks += [[100 + at, 1, at, 2.0] for at in range(12)]
        sample = read_record(record([], marks=marks), 0, "", SampleRequest())
        assert set(sample.step_seconds) == {1.0}
        assert sample.losses == (2.0,) * 12

    def test_too_few_steps_are_rejected(self) -> None:
        with pytest.raises(SampleError, match="ended after 6 steps, too few to measure"):
            read_record(record([1, 2, 3, 4, 5, 6]), 0, "", SampleRequest())


@pytest.mark.tensorflow
def test_an_error_in_the_watch_does_not_fail_the_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Odd:
        @property
        def iterations(self) -> Any:
            raise RuntimeError("odd")

    pytest.importorskip("tensorflow", reason="the watch reads a TensorFlow optimizer")
    watch = Watch({"fd": -1}, {})
    for _ in range(2):
        watch.note_optimizer(Odd())
        watch.look()
    assert watch.marks == []
    assert capsys.readouterr().err == "nano-run: steps are no longer counted (RuntimeError: odd)\n"
    watch.write("exit")  # to a file that is closed


def test_a_system_that_denies_namespaces_gets_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container without CAP_SYS_ADMIN; no part of the script runs."""
    refusing = tmp_path / "isolation.py"
    refusing.write_text(
        "import os, sys\n"
        "os.write(int(sys.argv[1]), b'Operation not permitted (user and mount namespaces)')\n"
        "sys.exit(125)\n"
    )
    monkeypatch.setattr("nano_init.evidence.sampling.isolated_command.ISOLATION", str(refusing))
    with pytest.raises(
        SampleError, match=r"does not permit one: Operation not permitted \(user and"
    ):
        take_sample([sys.executable, "-c", "print(1)"], {}, SampleRequest())
