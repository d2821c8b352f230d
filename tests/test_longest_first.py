"""Long files are shared out first, so that the processes of a test run end together."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from longest_first import long_files_first

PLUGINS = Path(__file__).parent / "pytest_plugins"
SLOW = "import pytest\n@pytest.mark.slow\ndef test_slow():\n    pass\n"
QUICK = "import pytest\n@pytest.mark.parametrize('n', range(5))\ndef test_quick(n):\n    pass\n"


def test_files_with_slow_tests_come_first_then_those_with_many_tests():
    tests = [("few", False), *[("many", False)] * 2, ("slow", True)]

    assert [tests[place][0] for place in long_files_first(tests)] == ["slow", "many", "many", "few"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans())))
def test_each_test_runs_once_and_the_tests_of_a_file_keep_together_and_in_order(tests):
    order = long_files_first(tests)

    assert sorted(order) == list(range(len(tests)))
    files = [tests[place][0] for place in order]
    changes = sum(one != other for one, other in itertools.pairwise(files))
    assert changes == max(len(set(files)) - 1, 0)
    for file in set(files):
        places = [place for place in order if tests[place][0] == file]
        assert places == sorted(places)


def test_processes_of_pytest_take_the_files_in_that_order(tmp_path):
    (tmp_path / "test_a.py").write_text(QUICK)
    (tmp_path / "test_b.py").write_text(SLOW)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "longest_first", "-n", "1"]
    done = subprocess.run(
        [*command, "--dist", "loadfile", "--no-loadscope-reorder", "-p", "no:randomly"],
        env={"PYTHONPATH": str(PLUGINS)}, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    passed = [line for line in done.stdout.splitlines() if "PASSED" in line]
    assert len(passed) == 6, done.stdout
    assert "test_slow" in passed[0]
