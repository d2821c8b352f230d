"""NANO_TEST_REQUIRE: the requirements must exist, and no test may be skipped for lack of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = ROOT / "tests" / "pytest_plugins"
TEST = "import pytest\ndef test_one():\n    pytest.skip({reason!r})\n"


@pytest.fixture
def run_pytest(tmp_path):
    """Return a function that runs a test which is skipped for a reason."""

    def run(reason, **environ):
        (tmp_path / "test_it.py").write_text(TEST.format(reason=reason))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NANO_")}
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "required_tests",
                "-p",
                "no:cacheprovider",
            ],
            env={**kept, "PYTHONPATH": str(PLUGINS), **environ},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_skip_for_lack_of_a_requirement_fails(run_pytest):
    done = run_pytest("needs a jemalloc library", NANO_TEST_REQUIRE="jemalloc")
    assert done.returncode == 1
    assert "requires jemalloc, yet this was skipped: needs a jemalloc library" in done.stdout


@pytest.mark.parametrize("required", ["", "git"])
def test_a_skip_for_another_reason_stays_a_skip(run_pytest, required):
    done = run_pytest("needs a jemalloc library", NANO_TEST_REQUIRE=required)
    assert (done.returncode, "1 skipped" in done.stdout) == (0, True)


def test_a_missing_requirement_ends_the_run_with_one_sentence(run_pytest):
    done = run_pytest("any", NANO_TEST_REQUIRE="chromium", NANO_TEST_BROWSER="no-such-browser")
    assert done.returncode == 4
    assert done.stderr.strip() == (
        "ERROR: NANO_TEST_REQUIRE requires chromium, and this machine lacks no-such-browser: "
        "install it, or take the name out of NANO_TEST_REQUIRE"
    )


def test_an_unknown_name_is_rejected(run_pytest):
    done = run_pytest("any", NANO_TEST_REQUIRE="shell")
    assert done.returncode == 4
    assert "unknown name 'shell'; choose from shells, tf_keras" in done.stderr
