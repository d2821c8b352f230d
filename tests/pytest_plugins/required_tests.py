"""A pytest plugin: tests whose requirements NANO_TEST_REQUIRE lists must not be skipped.

The variable is a comma-separated list of requirements. If one is missing, the run ends at once
with one sentence. A test that is skipped because it lacks one fails: the tests must find what
the machine has.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

VARIABLE = "NANO_TEST_REQUIRE"
SHELLS = ("bash", "zsh", "dash", "ksh93", "mksh", "busybox", "fish", "tcsh", "shellcheck")
PACKAGES = ("tensorflow", "joblib", "dotenv", "yaml", "ipykernel", "tensorboard", "sklearn")


@dataclass(frozen=True)
class Requirement:
    """Something that a machine may lack.

    Args:
        lacks: Returns what is missing, or "" if nothing is.
        reason: A regular expression for the skip reasons of tests that lack it.
    """

    lacks: Callable[[], str]
    reason: str


def _missing_commands(*names: str) -> str:
    return ", ".join(name for name in names if shutil.which(name) is None)


def _missing_packages(*names: str) -> str:
    return ", ".join(name for name in names if find_spec(name) is None)


def _missing_browser() -> str:
    name = os.environ.get("NANO_TEST_BROWSER")
    return _missing_commands(name) if name else "NANO_TEST_BROWSER with the name of a Chromium"


def _missing_torch() -> str:
    named = os.environ.get("NANO_TEST_TORCH")
    return "" if named else "NANO_TEST_TORCH with a virtual environment that has torch"


def _missing_machines() -> str:
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "machines"
    folder = Path(os.environ.get("NANO_INIT_MACHINES", beside))
    return "" if (folder / "expected.json").is_file() else f"{folder}/expected.json"


def _missing_namespace(kind: str) -> str:
    root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    try:
        done = subprocess.run(["unshare", *root, kind, "true"], capture_output=True, check=False)
    except OSError:
        return "the command unshare"
    return f"the right to `unshare {kind}`" if done.returncode else ""


REQUIREMENTS = {
    "shells": Requirement(
        lambda: _missing_commands(*SHELLS),
        rf"^({'|'.join(SHELLS)}) is not installed here",
    ),
    "tf_keras": Requirement(
        lambda: _missing_packages("tf_keras"), r"tf_keras|legacy Keras is not installed"
    ),
    "packages": Requirement(
        lambda: _missing_packages(*PACKAGES),
        rf"could not import '({'|'.join(PACKAGES)})|(TensorFlow|TensorFlow optimizer|ipykernel)$"
        r"|(dotenv|PyYAML) is not installed|come with scikit-learn|patch(es)? (the real )?Keras$",
    ),
    "chromium": Requirement(_missing_browser, r"NANO_TEST_BROWSER|^there is no \S+ here"),
    "torch": Requirement(_missing_torch, r"NANO_TEST_TORCH"),
    "machines": Requirement(_missing_machines, r"recorded machines"),
    "mount-namespaces": Requirement(
        lambda: _missing_namespace("--mount"), r"copy-on-write|permits no sample"
    ),
    "network-namespaces": Requirement(
        lambda: _missing_commands("ip") or _missing_namespace("--net"), r"network namespaces"
    ),
    "bfloat16": Requirement(lambda: "", r"mixed_bfloat16 is refused"),
    "jemalloc": Requirement(lambda: "", r"jemalloc"),
    "cgroups": Requirement(lambda: "", r"cgroup"),
    "git": Requirement(lambda: _missing_commands("git"), r"needs a git checkout"),
}


def read_required(environ: Mapping[str, str]) -> list[str]:
    """Return the names in NANO_TEST_REQUIRE.

    Raises:
        pytest.UsageError: A name is unknown.
    """
    names = [name.strip() for name in environ.get(VARIABLE, "").split(",") if name.strip()]
    for name in names:
        if name not in REQUIREMENTS:
            known = ", ".join(REQUIREMENTS)
            raise pytest.UsageError(f"{VARIABLE}: unknown name {name!r}; choose from {known}")
    return names


def requirement_of(reason: str, required: list[str]) -> str | None:
    """Return the listed requirement whose absence is the reason of a skip, or None."""
    return next((n for n in required if re.search(REQUIREMENTS[n].reason, reason)), None)


def pytest_configure(config: pytest.Config) -> None:
    """End the run if a listed requirement is missing."""
    config.stash[_REQUIRED] = read_required(os.environ)
    if hasattr(config, "workerinput"):
        return
    for name in config.stash[_REQUIRED]:
        lacking = REQUIREMENTS[name].lacks()
        if lacking:
            raise pytest.UsageError(
                f"{VARIABLE} requires {name}, and this machine lacks {lacking}: "
                f"install it, or take the name out of {VARIABLE}"
            )


_REQUIRED = pytest.StashKey[list[str]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Fail a test that is skipped although its requirement is listed."""
    report = yield
    _refuse_skip(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Fail a file that is skipped although its requirement is listed."""
    report = yield
    _refuse_skip(report, collector.config)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    if report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    name = requirement_of(reason, config.stash[_REQUIRED])
    if name:
        report.outcome = "failed"
        report.longrepr = f"{VARIABLE} requires {name}, yet this was skipped: {reason}"
