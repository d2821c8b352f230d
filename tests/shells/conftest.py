"""Real shells, and a folder with the two files to source and a `nano-init`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# Each shell of the POSIX family, started without the user's startup files.
POSIX_SHELLS = {
    "bash": ("bash", "--norc", "--noprofile"),
    "bash-posix": ("bash", "--norc", "--noprofile", "--posix"),
    "busybox": ("busybox", "sh"),
    "dash": ("dash",),
    "ksh93": ("ksh93",),
    "mksh": ("mksh",),
    "zsh": ("zsh", "-f"),
    "zsh-as-sh": ("zsh", "--emulate", "sh", "-f"),
}
OTHER_SHELLS = {"fish": ("fish", "--no-config"), "tcsh": ("tcsh", "-f")}


@dataclass(frozen=True)
class Shell:
    """An installed shell, with the environment that its scripts need to find nano-init."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    folder: Path

    def run(
        self, code: str | bytes, *arguments: str, env: Mapping[str, str | None] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run code as the file job.sh, in an empty folder, with arguments."""
        script = self.folder / "job.sh"
        script.write_bytes(code if isinstance(code, bytes) else os.fsencode(code))
        merged = {**self.environ, **(env or {})}
        return subprocess.run(
            [*self.command, str(script), *arguments],
            env={name: value for name, value in merged.items() if value is not None},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )

    def environment(self, file: str) -> dict[bytes, bytes]:
        """Return what `env -0 >FILE` wrote, except variables that the shell changes itself."""
        entries = (self.folder / file).read_bytes().split(b"\0")
        found = dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)
        return {name: value for name, value in found.items() if name not in (b"_", b"SHLVL")}


def write_executable(path: Path, text: str) -> Path:
    """Write an executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of commands like that of an installation, with an awkward name."""
    folder = tmp_path_factory.mktemp('it\'s a "bin" $HOME') / "bin"
    write_executable(
        folder / "nano-init",
        f"#!/bin/sh\nPYTHONPATH='{REPOSITORY}' exec '{sys.executable}' -m nano_init \"$@\"\n",
    )
    for name in ("bigdl-nano-init", "bigdl-nano-unset-env"):
        shutil.copy(REPOSITORY / "scripts" / f"{name}.sh", folder / name)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def clean_environ(bin_folder: Path, tmp_path: Path) -> dict[str, str]:
    """An environment without variables that nano-init reads, with the commands on PATH."""
    home = tmp_path / "home"
    home.mkdir()
    return {
        "PATH": f"{bin_folder}:{os.environ.get('PATH', os.defpath)}",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "XDG_DATA_HOME": str(home),
        "LC_ALL": "C",
        "TERM": "dumb",
    }


@pytest.fixture
def start_shell(clean_environ: dict[str, str], tmp_path: Path) -> Callable[[str], Shell]:
    """Return a function that returns a shell by name, or skips the test if it is missing."""

    def start(name: str) -> Shell:
        command = {**POSIX_SHELLS, **OTHER_SHELLS}[name]
        program = shutil.which(command[0])
        if program is None:
            pytest.skip(f"{command[0]} is not installed here")
        folder = tmp_path / "cwd"
        folder.mkdir(exist_ok=True)
        return Shell(name, (program, *command[1:]), clean_environ, folder)

    return start


@pytest.fixture(params=POSIX_SHELLS)
def shell(request: pytest.FixtureRequest, start_shell: Callable[[str], Shell]) -> Shell:
    """Each shell of the POSIX family in turn."""
    return start_shell(request.param)
