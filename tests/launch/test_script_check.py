"""The target is checked before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nano_init.errors import LaunchError
from nano_init.launch.script_check import check_target
from nano_init.protocol.target import Target


class TestPythonArguments:
    def test_a_script_precedes_its_arguments(self) -> None:
        assert Target("a.py", ("-m", "x")).python_arguments == ("a.py", "-m", "x")

    def test_a_script_that_begins_with_a_hyphen_is_not_an_option(self) -> None:
        assert Target("-x.py", ("a",)).python_arguments == ("--", "-x.py", "a")
        assert Target("-").python_arguments == ("-",)

    def test_a_module_follows_m(self) -> None:
        assert Target("a.b", ("x",), is_module=True).python_arguments == ("-m", "a.b", "x")


class TestCheckTarget:
    def test_a_readable_script_is_accepted(self, tmp_path: Path) -> None:
        script = tmp_path / "train.py"
        script.write_text("")
        check_target(Target(str(script)))

    def test_stdin_and_modules_are_not_checked(self) -> None:
        check_target(Target("-"))
        check_target(Target("no.such.module", is_module=True))

    def test_a_missing_script_is_reported(self) -> None:
        with pytest.raises(LaunchError, match=r"^script not found: 'trian.py'; check the path$"):
            check_target(Target("trian.py"))

    def test_a_superfluous_python_is_reported(self) -> None:
        with pytest.raises(LaunchError, match=r"leave out the word python3: nano-run train.py$"):
            check_target(Target("python3", ("train.py",)))

    def test_the_suggested_command_repeats_all_arguments_of_python(self) -> None:
        with pytest.raises(LaunchError, match=r"python: nano-run -m p\.train 'a b'$"):
            check_target(Target("python", ("-m", "p.train", "a b")))

    def test_the_path_of_a_python_command_is_suggested(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        for name, first_line in (("tool", "#!/opt/bin/python3.11"), ("other", "#!/bin/sh")):
            (tmp_path / name).write_text(f"{first_line}\n")
            (tmp_path / name).chmod(0o755)
        with pytest.raises(LaunchError, match=rf"; to run the command: nano-run {tmp_path}/tool$"):
            check_target(Target("tool"))
        with pytest.raises(LaunchError, match=r"'other'; check the path$"):
            check_target(Target("other"))

    def test_a_missing_suffix_is_suggested(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "train.py").write_text("")
        with pytest.raises(LaunchError, match=r"did you mean train\.py\?$"):
            check_target(Target("train"))

    def test_a_folder_without_main_is_rejected(self, tmp_path: Path) -> None:
        with pytest.raises(LaunchError, match=r"is a folder without __main__\.py; name a script"):
            check_target(Target(str(tmp_path)))

    def test_a_folder_with_main_is_accepted(self, tmp_path: Path) -> None:
        (tmp_path / "__main__.py").write_text("")
        check_target(Target(str(tmp_path)))

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
    def test_an_unreadable_script_is_reported(self, tmp_path: Path) -> None:
        script = tmp_path / "train.py"
        script.write_text("")
        script.chmod(0)
        with pytest.raises(LaunchError, match="cannot be read; check its permissions"):
            check_target(Target(str(script)))
