"""Programs run with --report exit as they do without it, and are reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.mark.parametrize(("tail", "status"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", -9)])
def test_a_program_without_training_is_reported_and_keeps_its_exit_status(
    nano_run: Command, tmp_path: Path, tail: str, status: int
) -> None:
    (tmp_path / "s.py").write_text(f"import os, sys; print(sys.stdin.read(), sys.argv[1:])\n{tail}")
    # Unbuffered: the second one is killed.
    variables = {"PYTHONUNBUFFERED": "1"}
    result = nano_run("--report", "s.py", "--report", input="typed", env=variables)
    assert (result.stdout, result.returncode) == ("typed ['--report']\n", status)
    assert "none seen" in result.stderr


def test_a_program_with_a_non_utf8_name_is_reported_and_keeps_its_exit_status(
    nano_run: Command, tmp_path: Path
) -> None:
    name = "caf\udce9.py"
    (tmp_path / name).write_text("import sys; sys.exit(3)")
    result = nano_run("--report=x.html", name)
    assert result.returncode == 3, result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [name, "x.html"]


def test_a_damaged_record_is_reported_and_the_program_keeps_its_exit_status(
    nano_run: Command, tmp_path: Path
) -> None:
    (tmp_path / "s.py").write_text(
        "import contextlib, os, sys\n"
        "for number in range(3, 12):\n"
        "    with contextlib.suppress(OSError):\n"
        "        os.write(number, b'junk')\n"
        "sys.exit(3)\n"
    )
    result = nano_run("--report=r.json", "s.py")
    assert result.returncode == 3
    assert "nano-run: the record of the steps is damaged: the scr" in result.stderr
    assert "none seen: the record of the steps is damaged: the scr" in result.stderr
    assert json.loads((tmp_path / "r.json").read_text())["run"]["status"] == 3


@pytest.mark.parametrize(("tail", "status"), [("sys.exit(3)", 3), ("os.abort()", -6)])
def test_a_failed_report_does_not_change_the_exit_status(
    nano_run: Command, tmp_path: Path, tail: str, status: int
) -> None:
    """Here the record has the right fields, but with unusable values."""
    fields = dict.fromkeys(("started", "batch", "waited", "signature"), 0)
    record = json.dumps({**fields, "marks": [[]], "peak_kb": "much"})
    (tmp_path / "s.py").write_text(
        "import contextlib, os, sys\n"
        "for number in range(3, 12):\n"
        "    with contextlib.suppress(OSError):\n"
        f"        os.write(number, {record.encode()!r})\n"
        f"{tail}\n"
    )
    result = nano_run("--report", "s.py")
    assert result.returncode == status
    assert "nano-run: no report (" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_training_is_reported_with_its_sample_and_stdout_stays_clean(
    nano_run: Command, tmp_path: Path
) -> None:
    (tmp_path / "s.py").write_text(
        "import keras, numpy as np\n"
        "open('log.txt', 'a').write('ran')\n"
        "model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)])\n"
        "model.compile('sgd', 'mse')\n"
        "model.fit(np.ones((640, 64)), np.ones((640, 64)), batch_size=32, verbose=0)\n"
        "print('done')\n"
    )
    options = ("--report=r.json", "--sample-steps", "14", "--precision", "float32")
    result = nano_run(*options, "s.py")
    assert (result.stdout, result.returncode) == ("done\n", 0)
    assert (tmp_path / "log.txt").read_text() == "ran"
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["run"]["steps"] == 20
    assert found["run"]["batch"] == 32
    assert found["run"]["input"] == ["arrays"]
    assert 1 < found["run"]["first_step_seconds"] < found["run"]["seconds"]
    if "copy-on-write" in (found["no_sample_because"] or ""):
        pytest.skip(found["no_sample_because"])
    assert found["sample"]["steps"] == 10
    assert found["sample"]["operations"]
    assert found["peaks"]["gflops"]["float32"] > 1
    kinds = found["sample"]["onednn"]["kinds"]
    assert any(kind["dtype"] == "f32" and kind["operations"] for kind in kinds), kinds


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_training_that_closes_all_descriptors_keeps_its_files_and_is_reported(
    nano_run: Command, tmp_path: Path
) -> None:
    """As daemons do: a file opened afterwards gets the record's descriptor number."""
    (tmp_path / "s.py").write_text(
        "import os, sys\n"
        "os.closerange(3, 64)\n"
        "file = open('precious.txt', 'w')\n"
        "import keras, numpy as np\n"
        "model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])\n"
        "model.compile('sgd', 'mse')\n"
        "model.fit(np.ones((80, 4)), np.ones((80, 4)), batch_size=4, verbose=0)\n"
        "file.write('results'); file.flush()\n"
    )
    options = ("--report=r.json", "--sample-steps", "12", "--precision", "float32")
    result = nano_run(*options, "s.py")
    assert result.returncode == 0
    assert (tmp_path / "precious.txt").read_text() == "results"
    assert json.loads((tmp_path / "r.json").read_text())["run"]["steps"] == 20
