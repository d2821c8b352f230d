"""A stored choice is found only for the same script, machine and versions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.evidence.tuning.cache import (
    clear_cache,
    describe_key,
    recall,
    remember,
)
from nano_init.machine.facts import Machine
from nano_init.machine.probe import probe
from nano_init.plan.build import Build
from nano_init.plan.configuration import Configuration
from nano_init.protocol.target import Target
from nano_init.survey import Surroundings
from nano_init.user_cache import tuned_folder

Run = Callable[..., Any]

CHOICE = Configuration("float32", xla=True)
MACHINE = probe(environ={})
BUILD = Build("tensorflow", "2.21.0", "eigen")


@pytest.fixture
def user_environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "s.py"
    path.write_text("print('ran')")
    return path


def surroundings(
    environ: dict[str, str], machine: Machine = MACHINE, build: Build = BUILD
) -> Surroundings:
    return Surroundings(machine, build, environ, {}, {})


def key_of(script: Path, *arguments: str, environ: Any = None, **more: Any) -> str:
    key = describe_key(Target(str(script), arguments), surroundings(environ or {}, **more))
    assert key is not None
    return key


def test_a_stored_choice_is_recalled(script: Path, user_environ: dict[str, str]) -> None:
    assert recall(key_of(script), user_environ).configuration is None
    assert remember(key_of(script), CHOICE, "float32: note", "[]", user_environ) == ""
    found = recall(key_of(script), user_environ)
    assert (found.configuration, found.note, found.fault) == (CHOICE, "float32: note", "")


def test_other_arguments_have_their_own_choice(script: Path, user_environ: dict[str, str]) -> None:
    remember(key_of(script, "--small"), CHOICE, "", "", user_environ)
    assert recall(key_of(script, "--large"), user_environ).configuration is None
    assert recall(key_of(script, "--large"), user_environ).fault == ""


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("content", "other content"),
        ("machine", "another processor"),
        ("limits", "other limits"),
        ("build", "other versions"),
        ("keras", "other versions"),
        ("TF_XLA_FLAGS", "other variables"),
        ("XLA_FLAGS", "other variables"),
        ("DNNL_MAX_CPU_ISA", "other variables"),
        ("MKL_NUM_THREADS", "other variables"),
        ("NANO_INIT_DISABLE", "other variables"),
    ],
)
def test_a_change_is_reported_and_the_choice_is_ignored(
    script: Path, user_environ: dict[str, str], changed: str, words: str
) -> None:
    remember(key_of(script), CHOICE, "", "", user_environ)
    more: dict[str, Any] = {}
    if changed == "content":
        script.write_text("print('run')")
    elif changed == "machine":
        values = {**vars(MACHINE.isa), "model": "another"}
        more["machine"] = replace(MACHINE, isa=type(MACHINE.isa)(**values))
    elif changed == "limits":
        limits = type(MACHINE.limits)(**{**vars(MACHINE.limits), "cpu_quota": 1.5})
        more["machine"] = replace(MACHINE, limits=limits)
    elif changed == "build":
        more["build"] = Build("tensorflow", "2.22.0", "eigen")
    elif changed == "keras":
        more["build"] = Build("tensorflow", "2.21.0", "eigen", "keras 3.15.1")
    else:
        more["environ"] = {changed: "x"}
    found = recall(key_of(script, **more), user_environ)
    assert found.configuration is None
    assert found.fault == (f"the script was tuned with {words}; ignored. --tune measures again")


def test_all_changes_are_reported_in_one_sentence(
    script: Path, user_environ: dict[str, str]
) -> None:
    remember(key_of(script), CHOICE, "", "", user_environ)
    script.write_text("other")
    key = key_of(script, environ={"OMP_NUM_THREADS": "1"}, build=None)
    assert recall(key, user_environ).fault == (
        "the script was tuned with other content, other variables and other versions; ignored. "
        "--tune measures again"
    )


def test_tensorflows_log_level_does_not_invalidate_the_choice(
    script: Path, user_environ: dict[str, str]
) -> None:
    remember(key_of(script), CHOICE, "", "", user_environ)
    key = key_of(script, environ={"TF_CPP_MIN_LOG_LEVEL": "3"})
    assert recall(key, user_environ).configuration == CHOICE


def test_lazy_adam_counts_as_another_optimizer(script: Path, user_environ: dict[str, str]) -> None:
    target = Target(str(script))
    lazy = describe_key(target, surroundings(user_environ), lazy_adam=True)
    assert lazy is not None
    remember(lazy, CHOICE, "", "", user_environ)
    assert recall(lazy, user_environ).configuration == CHOICE
    found = recall(describe_key(target, surroundings(user_environ)), user_environ)
    assert found.configuration is None
    assert "tuned with another optimizer" in found.fault


class TestModules:
    """A module is identified by the file that `python -m` would run, without importing it."""

    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        folder = tmp_path / "path/pkg"
        (folder / "sub").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('imported')")
        (folder / "train.py").write_text("train")
        (folder / "sub/__init__.py").write_text("raise RuntimeError('imported')")
        (folder / "sub/__main__.py").write_text("main")
        return folder

    @pytest.mark.parametrize(
        ("name", "file"), [("pkg.train", "train.py"), ("pkg.sub", "sub/__main__.py")]
    )
    def test_the_file_of_a_module_is_found(
        self, package: Path, user_environ: dict[str, str], name: str, file: str
    ) -> None:
        user_environ["PYTHONPATH"] = str(package.parent)
        target = Target(name, is_module=True)
        key = describe_key(target, surroundings(user_environ))
        assert key is not None
        assert key.splitlines()[0] == f"script -m {name} {package / file}"
        remember(key, CHOICE, "note", "", user_environ)
        assert recall(key, user_environ).configuration == CHOICE
        (package / file).write_text("other")
        fault = recall(describe_key(target, surroundings(user_environ)), user_environ).fault
        assert fault.startswith("the script was tuned with other content;")

    @pytest.mark.parametrize("name", ["pkg.nothing", "nothing.train", "pkg.train.deeper", "pkg"])
    def test_a_missing_module_has_no_key(
        self, package: Path, user_environ: dict[str, str], name: str
    ) -> None:
        user_environ["PYTHONPATH"] = str(package.parent)
        assert describe_key(Target(name, is_module=True), surroundings(user_environ)) is None


def entry(user_environ: dict[str, str]) -> Path:
    (path,) = Path(tuned_folder(user_environ)).iterdir()
    return path


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"form": 99}', "\x00", "[" * 10_000])
def test_a_damaged_entry_is_ignored_with_one_line(
    script: Path, user_environ: dict[str, str], text: str
) -> None:
    remember(key_of(script), CHOICE, "", "", user_environ)
    entry(user_environ).write_text(text)
    found = recall(key_of(script), user_environ)
    assert found.configuration is None
    assert found.fault.endswith("; ignored")
    assert "\n" not in found.fault


@pytest.mark.parametrize("key", ["", "script\ncontent", "another form of key", None, [1]])
def test_an_entry_with_an_invalid_key_is_reported_as_damaged(
    script: Path, user_environ: dict[str, str], key: object
) -> None:
    remember(key_of(script), CHOICE, "", "", user_environ)
    path = entry(user_environ)
    path.write_text(json.dumps({**json.loads(path.read_text()), "key": key}))
    found = recall(key_of(script), user_environ)
    assert found.configuration is None
    assert found.fault == f"the tuned choice in {path} is damaged; ignored"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p)])
def test_an_entry_that_is_not_a_regular_file_is_ignored_without_waiting(
    script: Path, user_environ: dict[str, str], make: Callable[[Path], None]
) -> None:
    remember(key_of(script), CHOICE, "", "", user_environ)
    path = entry(user_environ)
    path.unlink()
    make(path)
    found = recall(key_of(script), user_environ)
    assert found.configuration is None
    assert found.fault == (
        f"the tuned choice in {path} cannot be read (it is not a regular file); ignored"
    )


def test_a_script_from_a_pipe_is_left_for_python_to_read(tmp_path: Path) -> None:
    """As from a shell's <(...), which can be read only once."""
    reader, writer = os.pipe()
    try:
        os.write(writer, b"print('ran')")
        os.close(writer)
        assert describe_key(Target(f"/dev/fd/{reader}"), surroundings({})) is None
        assert os.read(reader, 100) == b"print('ran')"
    finally:
        os.close(reader)


@given(st.binary(max_size=200))
def test_an_entry_of_arbitrary_bytes_is_ignored(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    user_environ = {"XDG_CACHE_HOME": str(folder)}
    script = folder / "s.py"
    script.write_text("")
    remember(key_of(script), CHOICE, "", "", user_environ)
    entry(user_environ).write_bytes(content)
    assert recall(key_of(script), user_environ).configuration is None


def test_an_entry_with_an_invalid_configuration_is_ignored(
    script: Path, user_environ: dict[str, str]
) -> None:
    remember(key_of(script), CHOICE, "", "", user_environ)
    path = entry(user_environ)
    values = json.loads(path.read_text())
    values["configuration"]["allocator"] = "/tmp/evil.so"
    path.write_text(json.dumps(values))
    assert recall(key_of(script), user_environ).configuration is None


def test_a_cache_folder_that_cannot_be_written_is_reported(script: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sentence = remember(key_of(script), CHOICE, "", "", {"XDG_CACHE_HOME": str(tmp_path / "file")})
    assert sentence.startswith("the choice cannot be stored in ")


def test_a_relative_cache_folder_is_not_used(tmp_path: Path) -> None:
    """As the XDG Base Directory Specification requires."""
    user_environ = {"XDG_CACHE_HOME": "relative", "HOME": str(tmp_path)}
    assert tuned_folder(user_environ) == str(tmp_path / ".cache/nano-init/tuned")


def test_a_target_without_a_file_has_no_key() -> None:
    for target in (Target("-"), Target("/no/such.py")):
        assert describe_key(target, surroundings({})) is None


def test_the_cache_can_be_cleared(script: Path, user_environ: dict[str, str]) -> None:
    assert clear_cache(user_environ) == 0
    remember(key_of(script), CHOICE, "", "", user_environ)
    assert clear_cache(user_environ) == 1
    assert os.listdir(tuned_folder(user_environ)) == []


class TestNanoRun:
    @pytest.fixture
    def tuned(
        self, script: Path, user_environ: dict[str, str], nano_run: Run, tmp_path: Path
    ) -> dict[str, str]:
        """An environment in which the script was tuned, as `nano-run` itself sees it."""
        script.write_text("import os; print(os.environ.get('TF_XLA_FLAGS'))")
        code = (
            "import os\n"
            "from nano_init.evidence.tuning.cache import describe_key, remember\n"
            "from nano_init.plan.configuration import Configuration\n"
            "from nano_init.protocol.target import Target\n"
            "from nano_init.survey import survey\n"
            "key = describe_key(Target('s.py'), survey(os.environ))\n"
            "note = 'float32 with XLA: 1.30 times as fast'\n"
            "assert remember(key, Configuration(xla=True), note, '', os.environ) == ''\n"
        )
        (tmp_path / "remember.py").write_text(code)
        import subprocess
        import sys

        repository = str(Path(__file__).resolve().parents[3])
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("TF_", "OMP_", "KMP_"))}
        kept["TF_CPP_MIN_LOG_LEVEL"] = "2"
        subprocess.run(
            [sys.executable, "remember.py"],
            env={**kept, **user_environ, "PYTHONPATH": repository},
            cwd=tmp_path,
            check=True,
        )
        return user_environ

    def test_a_later_run_uses_the_choice_and_says_so_in_one_line(
        self, nano_run: Run, tuned: dict[str, str]
    ) -> None:
        result = nano_run("s.py", env=tuned)
        assert "FUSIBLE" in result.stdout
        assert result.stderr.startswith("nano-run: float32 with XLA: 1.30 times as fast; threads ")
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        "options",
        [
            ("--no-cache",),
            ("--precision", "float32"),
            ("--threads", "1"),
            ("--keep-float32", "head"),
        ],
    )
    def test_the_users_options_take_precedence(
        self, nano_run: Run, tuned: dict[str, str], options: tuple[str, ...]
    ) -> None:
        result = nano_run(*options, "s.py", env=tuned)
        assert (result.stdout, result.returncode) == ("None\n", 0)

    def test_a_changed_script_runs_with_the_defaults_and_one_line_says_so(
        self, nano_run: Run, tuned: dict[str, str], script: Path
    ) -> None:
        script.write_text(script.read_text() + "\n")
        result = nano_run("s.py", env=tuned)
        assert result.stdout == "None\n"
        first, _ = result.stderr.splitlines()
        assert first == (
            "nano-run: the script was tuned with other content; ignored. --tune measures again"
        )
        assert nano_run("-q", "s.py", env=tuned).stderr == ""

    def test_the_cache_can_be_cleared_without_a_script(
        self, nano_run: Run, tuned: dict[str, str]
    ) -> None:
        result = nano_run("--clear-cache", env=tuned)
        assert result.returncode == 0
        assert result.stdout.startswith("1 tuned choice in ")
        assert nano_run("s.py", env=tuned).stdout == "None\n"
