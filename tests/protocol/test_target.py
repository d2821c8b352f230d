"""A program's folder is where Python looks for its modules first."""

from __future__ import annotations

from pathlib import Path

import pytest

from nano_init.protocol.target import Target


def test_modules_and_stdin_import_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for target in (Target("package.module", is_module=True), Target("-")):
        assert target.import_folder == str(tmp_path.resolve())


def test_a_script_imports_from_the_folder_that_its_link_leads_to(tmp_path: Path) -> None:
    folder = tmp_path.resolve() / "real"
    folder.mkdir()
    (folder / "s.py").touch()
    link = tmp_path / "link.py"
    link.symlink_to(folder / "s.py")
    assert Target(str(link)).import_folder == str(folder)


def test_a_folder_with_a_program_imports_from_itself(tmp_path: Path) -> None:
    assert Target(str(tmp_path)).import_folder == str(tmp_path.resolve())
