"""A program's own training loops come to the numbers of plain Python on two workers."""

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

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]


def run(folder, *arguments):
    stray = ("NANO_", "TF_", "PYTHON")
    kept = {n: v for n, v in os.environ.items() if not n.startswith(stray)}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**kept, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=folder, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


def results(text):
    found = [json.loads(line[7:]) for line in text.splitlines() if line.startswith("RESULT ")]
    return dict(found)


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_own_loops_have_plain_pythons_numbers_with_and_without_the_decorator(tmp_path, package):
    pytest.importorskip(package)
    script = [str(HERE / "programs" / "loops.py"), package]
    plain = run(tmp_path, *script)
    options = ["-q", "--precision", "float32", "--oversubscribe", "--log-dir", str(tmp_path)]
    shared = run(tmp_path, "-c", START, *options, "--nproc-per-node", "2", *script)

    assert plain.returncode == 0, plain.stderr[-3000:]
    assert shared.returncode == 0, shared.stderr[-3000:]
    assert shared.stderr.count("computes whole batches on every worker") == 1
    expected = results(plain.stdout)
    assert len(expected) > 40
    for index in range(2):
        found = results((tmp_path / f"worker-{index}.log").read_text())
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            for key, value in values.items():
                np.testing.assert_allclose(
                    found[name][key], value, rtol=0, atol=3e-5, err_msg=f"{name}: {key}"
                )
