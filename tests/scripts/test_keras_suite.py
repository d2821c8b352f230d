"""Keras's own tests, plain and patched: differences are found, expected ones have a reason."""

from __future__ import annotations

import pytest

TESTS = """
import os, sys
import pytest


def test_same():
    pass


def test_differs():
    assert "nano_init.keras_patch" not in sys.modules


@pytest.mark.skip(reason="not here")
def test_skipped():
    pass
"""

CRASH = """
import os


def test_before():
    pass


def test_that_ends_its_process():
    os.abort()
"""


@pytest.fixture
def tree(tmp_path):
    """A source tree with the layout of Keras's and a few small tests."""
    source = tmp_path / "keras" / "src"
    source.mkdir(parents=True)
    (source / "version.py").write_text("")
    (source / "one_test.py").write_text(TESTS)
    (source / "two_test.py").write_text(CRASH)
    return tmp_path


@pytest.fixture
def process(import_from):
    return import_from("keras_suite", "suite_process")


@pytest.fixture
def differences(import_from):
    return import_from("keras_suite", "differences")


def test_a_crash_loses_no_test_of_another_file(process, tree):
    run = process.SuiteRun(tree, None, 60)
    found = process.run_tests(run, ["keras/src/two_test.py", "keras/src/one_test.py"])
    assert {name.rpartition("::")[2]: outcome.outcome for name, outcome in found.items()} == {
        "test_before": "passed",
        "test_that_ends_its_process": "crashed",
        "test_same": "passed",
        "test_differs": "passed",
        "test_skipped": "skipped",
    }


def test_only_a_changed_outcome_is_a_difference(process, differences):
    passed, failed = process.Outcome("passed"), process.Outcome("failed", "one message")
    other = process.Outcome("failed", "another message")
    plain = {"a": passed, "b": failed, "c": passed, "d": passed}
    patched = {"a": passed, "b": other, "c": failed}
    found = differences.find_differences(plain, patched)
    assert [(d.test, d.plain.outcome, d.patched.outcome) for d in found] == [
        ("c", "passed", "failed"),
        ("d", "passed", "missing"),
    ]


def test_a_difference_is_expected_only_under_the_listed_precisions(differences):
    expected = [differences.Expected("*::test_x", ("mixed_bfloat16",), "it counts digits")]
    reason = differences.reason_for
    assert reason("a_test.py::test_x", "mixed_bfloat16", expected) == "it counts digits"
    assert reason("a_test.py::test_x", "float32", expected) is None
    assert reason("a_test.py::test_y", "mixed_bfloat16", expected) is None


def test_every_expected_difference_has_a_reason(differences):
    for entry in differences.read_expected():
        assert entry.reason
        assert set(entry.precisions) <= {"float32", "mixed_bfloat16"}


def test_a_folder_without_keras_is_rejected_in_one_sentence(run_script, tmp_path):
    done = run_script("keras-suite", str(tmp_path))
    assert done.returncode == 2
    expected = f"{tmp_path} is not a Keras source tree: it has no keras/src/version.py"
    assert done.stderr == f"keras-suite: {expected}\n"


def test_a_missing_test_path_is_rejected(run_script, tree):
    done = run_script("keras-suite", str(tree), "keras/src/layer")
    assert (done.returncode, done.stderr) == (2, f"keras-suite: {tree} has no keras/src/layer\n")
