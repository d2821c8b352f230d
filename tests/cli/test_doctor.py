"""`nano-init --doctor` and `--why-not`, as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.mark.tensorflow
@pytest.mark.slow
def test_the_doctors_measurements_are_in_the_json(nano_init_command: Run) -> None:
    result = nano_init_command("--doctor", "--format", "json", env={"OMP_NUM_THREADS": "99"})
    found = json.loads(result.stdout)
    assert found["measured"]["gflops"]["float32"] > 1
    assert found["measured"]["gigabytes_a_second"] > 0.1
    by_check = {finding["check"]: finding for finding in found["findings"]}
    assert by_check["OMP_NUM_THREADS"]["level"] == "warning"
    assert result.returncode == int(any(f["level"] == "problem" for f in found["findings"]))


def test_a_tensorflow_that_does_not_start_is_a_problem(
    nano_init_command: Run, tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "tensorflow.py").write_text("raise ImportError('libfoo.so is missing')")
    path = f"{tmp_path}:{environ['PYTHONPATH']}"
    result = nano_init_command("--doctor", env={"PYTHONPATH": path, "COLUMNS": "200"})
    assert result.returncode == 1
    assert "TensorFlow does not start: ImportError: libfoo.so is missing" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


def test_why_not_answers_for_a_recorded_machine_without_starting_tensorflow(
    nano_init_command: Run, tmp_path: Path
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: i5\nflags\t\t: fpu avx2\n"
    )
    result = nano_init_command("--why-not", "mixed_bfloat16", "--sysroot", str(tmp_path))
    assert result.returncode == 0
    assert result.stdout.startswith("mixed_bfloat16 is not used here: ")
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--doctor", "--sysroot", "/tmp"), "--doctor examines this machine"),
        (("--doctor", "--format", "docker"), "--doctor supports --format table and json only"),
        (("--doctor", "--explain", "bf16"), "--explain and --doctor cannot be combined"),
        (("--why-not", "int3"), "'int3' is not one of 'float32', 'mixed_bfloat16'"),
    ],
)
def test_bad_input_gets_one_sentence(
    nano_init_command: Run, arguments: tuple[str, ...], words: str
) -> None:
    result = nano_init_command(*arguments)
    assert (result.stdout, result.returncode) == ("", 2)
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
