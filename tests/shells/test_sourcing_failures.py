"""A failure prints one sentence, returns 2, and leaves shell and environment intact."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ENTER = ". bigdl-nano-init\n"
LEAVE = ". bigdl-nano-unset-env\n"


def _refused(shell, sourced: str, before: str = "", **options) -> str:
    """Source something that must fail; return its message."""
    code = (
        f"{before}\nenv -0 >before\n{sourced}\nprintf '%s\\n' $?\n"
        "env -0 >after\nprintf 'alive\\n'\n"
    )
    finished = shell.run(code, **options)

    assert (finished.returncode, finished.stdout) == (0, b"2\nalive\n"), finished.stderr
    assert shell.environment("after") == shell.environment("before")
    sentence = os.fsdecode(finished.stderr)
    assert sentence.count("\n") == 1, sentence
    return sentence


def _fake(tmp_path: Path, text: str) -> dict[str, str]:
    """Return an environment whose PATH contains the two files and a fake nano-init."""
    folder = tmp_path / "fake"
    folder.mkdir()
    for name in ("bigdl-nano-init", "bigdl-nano-unset-env"):
        shutil.copy(REPOSITORY / "scripts" / f"{name}.sh", folder / name)
    if text:
        (folder / "nano-init").write_text(text)
        (folder / "nano-init").chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


@pytest.mark.parametrize(
    "readonly", ["readonly OMP_NUM_THREADS", "readonly OMP_NUM_THREADS=3", "OMP_NUM_THREADS=3"]
)
def test_a_variable_that_cannot_be_exported_aborts_sourcing(shell, readonly: str) -> None:
    """The last one is neither read-only nor exported, but still set by the user."""
    said = _refused(shell, ENTER, before=readonly)

    assert said.startswith("nano-init: nothing was changed: OMP_NUM_THREADS is ")


def test_an_exported_readonly_value_is_kept(shell) -> None:
    finished = shell.run(
        f"OMP_NUM_THREADS=3; export OMP_NUM_THREADS; readonly OMP_NUM_THREADS\n{ENTER}"
        "env -0 >between\n" + LEAVE
    )

    assert (finished.returncode, finished.stderr) == (0, b"")
    assert shell.environment("between")[b"OMP_NUM_THREADS"] == b"3"


def test_a_variable_made_readonly_later_aborts_leaving(shell) -> None:
    said = _refused(shell, LEAVE, before=ENTER + "readonly KMP_BLOCKTIME")

    assert said == "nano-init: nothing was changed: KMP_BLOCKTIME is read-only\n"


@pytest.mark.parametrize("option", ["--no-such", "--threads 0", "--threads many", "--precision x"])
def test_an_invalid_option_changes_nothing(shell, option: str) -> None:
    said = _refused(shell, ENTER, env={"NANO_INIT_ARGS": option})

    assert said.startswith("nano-init: ")


def test_a_missing_interpreter_is_reported(shell, tmp_path: Path) -> None:
    env = _fake(tmp_path, "#!/no/such/python\n")
    said = _refused(shell, ENTER, env=env)

    assert said == (
        "bigdl-nano-init: install nano-init again: /no/such/python, which runs "
        f"{tmp_path}/fake/nano-init, does not exist\n"
    )


def test_a_crash_of_nano_init_changes_nothing(shell, tmp_path: Path) -> None:
    env = _fake(tmp_path, "#!/bin/sh\necho 'export OMP_NUM_THREADS=1'\nexit 1\n")
    said = _refused(shell, ENTER, env=env)

    assert "failed with status 1; nothing was changed" in said


def test_only_the_message_of_nano_init_is_printed_if_it_fails_with_status_2(
    shell, tmp_path: Path
) -> None:
    env = _fake(tmp_path, "#!/bin/sh\necho 'nano-init: no' >&2\nexit 2\n")

    assert _refused(shell, ENTER, env=env) == "nano-init: no\n"


@pytest.mark.parametrize("output", ["Usage: '(", "if (\n \\export A='1", "export A=1; rm -rf x"])
def test_output_that_is_not_complete_code_is_not_run(shell, tmp_path: Path, output: str) -> None:
    env = _fake(tmp_path, f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n")
    said = _refused(shell, ENTER, env=env)

    assert "did not print code for a shell; nothing was changed" in said


def test_a_missing_nano_init_is_reported(shell, tmp_path: Path) -> None:
    for name in ("env", "printf"):  # mksh has no builtin printf
        os.symlink(shutil.which(name) or name, tmp_path / name)
    env = _fake(tmp_path, "")
    said = _refused(shell, ENTER, env={"PATH": f"{env['PATH'].split(':')[0]}:{tmp_path}"})

    assert said == "bigdl-nano-init: nano-init is neither next to this file nor on PATH\n"


def test_a_package_on_the_python_path_works_without_the_command(
    shell, tmp_path: Path, bin_folder: Path
) -> None:
    """As in a checkout, or an installation whose commands are not on PATH."""
    env = _fake(tmp_path, "")
    python = tmp_path / "fake" / "python3"
    python.write_text((bin_folder / "nano-init").read_text().replace("-m nano_init ", ""))
    python.chmod(0o755)

    finished = shell.run(f"{ENTER}env -0 >after\n", env=env)

    assert (finished.returncode, finished.stdout, finished.stderr) == (0, b"", b"")
    assert b"OMP_NUM_THREADS" in shell.environment("after")


@pytest.mark.parametrize(
    "state",
    [
        "",
        "$(touch pwned)",
        "1,OMP_NUM_THREADS=-:+$(touch pwned)",
        "1,SECONDS=+x[$(touch pwned)]:-",
        "1,PATH=+/evil:-,OMP_NUM_THREADS=-:+2",
        "';touch pwned;'",
        "2,future=-:-",
    ],
)
def test_a_damaged_or_hostile_state_is_reported_and_dropped(shell, state: str) -> None:
    """It neither runs nor blocks: sourcing starts from the current environment."""
    code = f"env -0 >before\n{ENTER}env -0 >between\n{LEAVE}env -0 >after\n"
    finished = shell.run(code, env={"NANO_INIT_STATE": state})

    assert (finished.returncode, finished.stdout) == (0, b"")
    assert finished.stderr.startswith(b"nano-init: NANO_INIT_STATE is damaged")
    assert finished.stderr.count(b"\n") == 1
    assert not (shell.folder / "pwned").exists()
    assert b"OMP_NUM_THREADS" in shell.environment("between")
    before = shell.environment("before")
    del before[b"NANO_INIT_STATE"]
    assert shell.environment("after") == before


def test_leaving_with_a_damaged_state_reports_and_drops_it(shell) -> None:
    finished = shell.run(LEAVE + "env -0 >after\n", env={"NANO_INIT_STATE": "x"})

    assert (finished.returncode, finished.stdout) == (0, b"")
    assert finished.stderr.count(b"\n") == 1
    assert b"NANO_INIT_STATE" not in shell.environment("after")


def test_a_variable_that_was_changed_later_is_kept_and_reported(shell) -> None:
    code = f"env -0 >before\n{ENTER}OMP_NUM_THREADS=77\nunset KMP_BLOCKTIME\n{LEAVE}env -0 >after\n"
    finished = shell.run(code)

    lines = os.fsdecode(finished.stderr).splitlines()
    assert (finished.returncode, finished.stdout, len(lines)) == (0, b"", 2)
    assert sum("OMP_NUM_THREADS was changed from" in line for line in lines) == 1
    assert sum("KMP_BLOCKTIME was changed from" in line for line in lines) == 1
    assert shell.environment("after") == {
        **shell.environment("before"),
        b"OMP_NUM_THREADS": b"77",
    }


@pytest.mark.parametrize("name", ["bigdl-nano-init", "bigdl-nano-unset-env"])
def test_executing_the_file_explains_sourcing_and_exits_with_2(
    shell, name: str, bin_folder: Path
) -> None:
    finished = subprocess.run(
        [*shell.command, str(bin_folder / name)],
        env=dict(shell.environ),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr == f"{name}: source this file, do not execute it: source {name}\n"


@pytest.mark.parametrize("name", ["bigdl-nano-init", "bigdl-nano-unset-env"])
def test_a_shell_whose_name_is_the_file_does_not_exit(shell, name: str, bin_folder: Path) -> None:
    """Programs source a file with `bash -c '. "$0"' FILE`; only bash and zsh can detect it."""
    finished = subprocess.run(
        [*shell.command, "-c", '. "$0"; echo "alive $?"', str(bin_folder / name)],
        env=dict(shell.environ),
        capture_output=True,
        check=False,
    )

    knows = shell.name.startswith(("bash", "zsh"))
    assert (finished.stdout, finished.returncode) == (b"alive 0\n" if knows else b"alive 2\n", 0)
    assert finished.stderr.count(b"\n") == (0 if knows else 1)


def test_executing_the_file_by_its_shebang_exits_with_2(
    start_shell: Callable, bin_folder: Path
) -> None:
    finished = subprocess.run(
        [str(bin_folder / "bigdl-nano-init")],
        env=dict(start_shell("dash").environ),
        capture_output=True,
        check=False,
    )

    assert finished.returncode == 2


def test_errexit_does_not_end_a_script_that_handles_the_failure(shell) -> None:
    """dash and busybox return status 1: only a negated command escapes their errexit."""
    caught = shell.run(
        "set -eu\n. bigdl-nano-init || echo caught $?\n"
        "if . bigdl-nano-init; then :; fi\necho alive\n",
        env={"NANO_INIT_ARGS": "--no-such"},
    )

    status = b"1" if shell.name in ("dash", "busybox") else b"2"
    assert caught.stdout == b"caught " + status + b"\nalive\n"


def test_sourcing_works_with_a_read_only_home_and_without_a_terminal(shell) -> None:
    finished = shell.run(ENTER + LEAVE, env={"HOME": "/proc/nowhere", "TERM": None})

    assert (finished.returncode, finished.stdout, finished.stderr) == (0, b"", b"")


@pytest.mark.parametrize("name", ["bigdl-nano-init.sh", "bigdl-nano-unset-env.sh"])
def test_shellcheck_reports_nothing(name: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed here")

    finished = subprocess.run(
        ["shellcheck", "--severity=style", str(REPOSITORY / "scripts" / name)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (finished.returncode, finished.stdout) == (0, "")


def test_the_two_files_differ_only_in_their_arguments() -> None:
    """They cannot share a third file, since dash cannot find the path of a sourced file."""
    enter, leave = (
        (REPOSITORY / "scripts" / f"{name}.sh").read_text().split("\\eval", 1)[1].replace(name, "X")
        for name in ("bigdl-nano-init", "bigdl-nano-unset-env")
    )
    differing = set(enter.splitlines()) ^ set(leave.splitlines())

    assert {line.strip() for line in differing} == {
        '[ -n "$nano_ours" ] || \\set --',
        '[ -z "${NANO_INIT_ARGS+x}" ] || \\export NANO_INIT_ARGS',
        '[ -n "${NANO_INIT_STATE+x}" ] || \\exit 0',
        '\\set -- "$nano_init" --shell "$nano_kind" ${1+"$@"}',
        '\\set -- "$nano_init" --shell "$nano_kind" --unset',
        '\\set -- python3 -m nano_init --shell "$nano_kind" ${1+"$@"}',
        '\\set -- python3 -m nano_init --shell "$nano_kind" --unset',
    }
