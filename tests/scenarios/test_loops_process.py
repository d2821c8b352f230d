"""Custom training loops give the numbers of plain Python on two workers."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy")
pytest.importorskip("tensorflow")

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_custom_loops_match_plain_python_with_and_without_the_decorator(
    tmp_path, package, start_program, read_results, assert_close
):
    pytest.importorskip(package)
    plain = start_program(tmp_path, "loops.py", package)
    options = ["--log-dir", str(tmp_path)]
    shared = start_program(tmp_path, "loops.py", package, workers=2, options=options)

    assert plain.returncode == 0, plain.stderr[-3000:]
    assert shared.returncode == 0, shared.stderr[-3000:]
    assert shared.stderr.count("computes whole batches on every worker") == 1
    expected = read_results(plain.stdout)
    assert len(expected) > 40
    for index in range(2):
        found = read_results((tmp_path / f"worker-{index}.log").read_text())
        assert_close(expected, found, atol=3e-5)
