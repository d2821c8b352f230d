"""Hooks for conda and venv: install, run in the real shells, and remove byte for byte."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest

from nano_init.errors import NanoError, UsageError
from nano_init.shells.hooks import install_hook, remove_hook


@pytest.fixture
def virtual_environment(tmp_path: Path) -> Path:
    prefix = tmp_path / "it's an env"
    venv.create(prefix, with_pip=False, symlinks=True)
    return prefix


@pytest.fixture
def conda_environment(tmp_path: Path) -> Path:
    prefix = tmp_path / "conda's env"
    (prefix / "conda-meta").mkdir(parents=True)
    return prefix


def _files(prefix: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(prefix.rglob("*")) if p.is_file()}


def test_activation_sets_and_deactivation_restores_the_environment(
    shell, virtual_environment: Path, bin_folder: Path
) -> None:
    install_hook("venv", str(virtual_environment), str(bin_folder))
    activate = "'" + str(virtual_environment / "bin" / "activate").replace("'", "'\\''") + "'"
    code = (
        f"env -0 >before\n. {activate} >log 2>&1\nenv -0 >between\n"
        f". {activate} >log 2>&1\nenv -0 >again\ndeactivate >log 2>&1\nenv -0 >after\ncat log\n"
    )

    finished = shell.run(code, env={"VIRTUAL_ENV_DISABLE_PROMPT": "1"})

    assert (finished.stdout, finished.stderr) == (b"", b"")
    assert b"OMP_NUM_THREADS" in shell.environment("between")
    assert shell.environment("between") == shell.environment("again")
    after = shell.environment("after")
    assert not [name for name in after if name.startswith((b"OMP_", b"KMP_", b"TF_", b"NANO_"))]


def test_a_venv_hook_is_installed_once_and_removed_byte_for_byte(
    virtual_environment: Path, bin_folder: Path
) -> None:
    activate = virtual_environment / "bin" / "activate"
    activate.chmod(0o640)
    before = _files(virtual_environment)

    assert install_hook("venv", str(virtual_environment), str(bin_folder)) == (str(activate),)
    once = _files(virtual_environment)
    assert install_hook("venv", str(virtual_environment), str(bin_folder)) == ()

    assert _files(virtual_environment) == once
    assert once != before
    assert remove_hook("venv", str(virtual_environment)) == (str(activate),)
    assert _files(virtual_environment) == before
    assert activate.stat().st_mode & 0o777 == 0o640
    assert remove_hook("venv", str(virtual_environment)) == ()


def test_later_lines_of_the_user_survive_removal(
    virtual_environment: Path, bin_folder: Path
) -> None:
    activate = virtual_environment / "bin" / "activate"
    install_hook("venv", str(virtual_environment), str(bin_folder))
    with activate.open("a") as file:
        file.write("export MINE=1\n")

    remove_hook("venv", str(virtual_environment))

    assert activate.read_text().endswith("export MINE=1\n")
    assert "nano-init" not in activate.read_text()


def test_a_conda_hook_consists_of_four_files_that_removal_deletes(
    conda_environment: Path, bin_folder: Path
) -> None:
    mine = conda_environment / "etc" / "conda" / "activate.d" / "mine.sh"
    mine.parent.mkdir(parents=True)
    mine.write_text("export MINE=1\n")
    before = _files(conda_environment)

    written = install_hook("conda", str(conda_environment), str(bin_folder))

    assert {Path(p).relative_to(conda_environment).as_posix() for p in written} == {
        f"etc/conda/{folder}.d/nano-init.{suffix}"
        for folder in ("activate", "deactivate")
        for suffix in ("sh", "fish")
    }
    assert install_hook("conda", str(conda_environment), str(bin_folder)) == ()
    assert sorted(remove_hook("conda", str(conda_environment))) == sorted(written)
    assert _files(conda_environment) == before


def test_files_that_conda_sources_set_and_restore_the_environment(
    shell, conda_environment: Path, bin_folder: Path
) -> None:
    """Conda sources each file with `.`; the user may have `set -eu`."""
    install_hook("conda", str(conda_environment), str(bin_folder))
    folder = str(conda_environment / "etc" / "conda").replace("'", "'\\''")
    code = (
        f"set -eu\nenv -0 >before\n. '{folder}/activate.d/nano-init.sh'\nenv -0 >between\n"
        f". '{folder}/deactivate.d/nano-init.sh'\nenv -0 >after\n"
    )

    finished = shell.run(code)

    assert (finished.returncode, finished.stdout, finished.stderr) == (0, b"", b"")
    assert b"OMP_NUM_THREADS" in shell.environment("between")
    assert shell.environment("after") == shell.environment("before")


def test_files_that_conda_sources_in_fish_set_and_restore_the_environment(
    start_shell, conda_environment: Path, bin_folder: Path
) -> None:
    shell = start_shell("fish")
    install_hook("conda", str(conda_environment), str(bin_folder))
    folder = str(conda_environment / "etc" / "conda").replace("'", "\\'")
    code = (
        f"env -0 >before\nsource '{folder}/activate.d/nano-init.fish'\nenv -0 >between\n"
        f"source '{folder}/deactivate.d/nano-init.fish'\nenv -0 >after\n"
    )

    finished = shell.run(code)

    assert (finished.returncode, finished.stdout, finished.stderr) == (0, b"", b"")
    assert b"OMP_NUM_THREADS" in shell.environment("between")
    assert shell.environment("after") == shell.environment("before")


def test_a_hook_without_nano_init_does_nothing(
    shell, conda_environment: Path, tmp_path: Path
) -> None:
    install_hook("conda", str(conda_environment), str(tmp_path / "gone"))
    folder = str(conda_environment / "etc" / "conda").replace("'", "'\\''")

    finished = shell.run(f"set -eu\n. '{folder}/activate.d/nano-init.sh'\n")

    assert (finished.returncode, finished.stdout, finished.stderr) == (0, b"", b"")


def test_a_user_file_is_never_overwritten(conda_environment: Path, bin_folder: Path) -> None:
    mine = conda_environment / "etc" / "conda" / "deactivate.d" / "nano-init.sh"
    mine.parent.mkdir(parents=True)
    mine.write_text("export MINE=1\n")
    before = _files(conda_environment)

    with pytest.raises(UsageError, match="is not nano-init's: move it elsewhere first"):
        install_hook("conda", str(conda_environment), str(bin_folder))

    assert _files(conda_environment) == before
    assert remove_hook("conda", str(conda_environment)) == ()


@pytest.mark.parametrize("kind", ["conda", "venv"])
def test_a_folder_that_is_not_an_environment_is_rejected(kind: str, tmp_path: Path) -> None:
    for act in (lambda: install_hook(kind, str(tmp_path), "/bin"), lambda: remove_hook(kind, "/x")):
        with pytest.raises(UsageError, match=f"is not a {kind} environment"):
            act()


def test_an_unknown_hook_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the hook is 'poetry'; give one of conda, venv"):
        install_hook("poetry", str(tmp_path), "/bin")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("export A=1\n", "has no line 'deactivate"),
        ("deactivate () {\n}\nexport A=1", "ends within a line"),
        ("deactivate () {\n}\n# >>> nano-init >>>\nexport A=1\n", "without its end"),
    ],
)
def test_an_unfamiliar_activate_file_is_rejected_and_left_unchanged(
    tmp_path: Path, text: str, why: str
) -> None:
    activate = tmp_path / "bin" / "activate"
    activate.parent.mkdir()
    activate.write_text(text)

    with pytest.raises(UsageError, match=why):
        install_hook("venv", str(tmp_path), "/bin")

    assert activate.read_text() == text


def test_a_folder_that_cannot_be_written_to_is_reported(tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "etc").write_text("in the way")

    with pytest.raises(NanoError, match=r"cannot (read|write) .*: Not a directory"):
        install_hook("conda", str(tmp_path), "/bin")


def test_the_activate_template_of_venv_has_the_line_for_the_hook() -> None:
    """This reads the template of the running interpreter, so it shows a change in venv."""
    template = Path(venv.__file__).parent / "scripts" / "common" / "activate"

    assert template.read_text().count("deactivate () {\n") == 1, sys.version
