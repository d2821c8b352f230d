"""Hooks: enter with an environment's activation, and leave with its deactivation.

conda sources every file in `etc/conda/activate.d` and `deactivate.d`, so a hook is two
files there. venv and virtualenv have no such folder: a hook is two marked blocks in
`bin/activate`, which removing takes out again to the byte. Nothing is installed by
sourcing, and a file of the user is never overwritten.
"""

from __future__ import annotations

import os
import stat

from nano_init.errors import NanoError, UsageError
from nano_init.shells.fish import quote_fish
from nano_init.shells.posix import quote_posix

__all__ = ["HOOKS", "install_hook", "remove_hook"]

HOOKS = ("conda", "venv")

_BEGIN = "# >>> nano-init >>>"
_END = "# <<< nano-init <<<"
_CONDA_FOLDERS = {"activate.d": "bigdl-nano-init", "deactivate.d": "bigdl-nano-unset-env"}
# The same line in CPython's venv since 3.3 and in virtualenv since 1.4.
_DEACTIVATE = "deactivate () {\n"


def install_hook(kind: str, prefix: str, commands: str) -> tuple[str, ...]:
    """Install a hook into an environment; again is the same as once.

    Args:
        kind: "conda" or "venv".
        prefix: the environment's folder.
        commands: the folder that holds `nano-init` and `bigdl-nano-init`.

    Returns:
        The files that were written.

    Raises:
        UsageError: the folder is not an environment of this kind, or a file that is not
            nano-init's stands where the hook would.
        NanoError: a file cannot be written.
    """
    return _write_all(_hooked_files(kind, prefix, commands))


def remove_hook(kind: str, prefix: str) -> tuple[str, ...]:
    """Remove a hook from an environment; return the files that were changed or deleted.

    Raises:
        UsageError: the folder is not an environment of this kind.
        NanoError: a file cannot be written or deleted.
    """
    _check_prefix(kind, prefix)
    if kind == "venv":
        path = os.path.join(prefix, "bin", "activate")
        return _write_all({path: _without_blocks(path, _read(path))})
    paths = tuple(path for path, _ in _conda_paths(prefix) if _BEGIN in _read(path))
    try:
        for path in paths:
            os.unlink(path)
    except OSError as error:
        raise NanoError(f"cannot delete {error.filename}: {error.strerror}") from error
    return paths


def _hooked_files(kind: str, prefix: str, commands: str) -> dict[str, str]:
    _check_prefix(kind, prefix)
    if kind == "venv":
        path = os.path.join(prefix, "bin", "activate")
        return {path: _with_blocks(path, _without_blocks(path, _read(path)), commands)}
    files = {}
    for path, name in _conda_paths(prefix):
        present = _read(path)
        if present and _BEGIN not in present:
            raise UsageError(f"{path} is not nano-init's: move it elsewhere first")
        files[path] = _block(name, commands, fish=path.endswith(".fish"))
    return files


def _check_prefix(kind: str, prefix: str) -> None:
    if kind not in HOOKS:
        raise UsageError(f"the hook is {kind!r}; give one of {', '.join(HOOKS)}")
    sign = "conda-meta" if kind == "conda" else os.path.join("bin", "activate")
    if not os.path.exists(os.path.join(prefix, sign)):
        raise UsageError(f"{prefix!r} is not a {kind} environment: it has no {sign}; activate one")


def _conda_paths(prefix: str) -> list[tuple[str, str]]:
    return [
        (os.path.join(prefix, "etc", "conda", folder, f"nano-init.{suffix}"), name)
        for folder, name in _CONDA_FOLDERS.items()
        for suffix in ("sh", "fish")
    ]


def _block(name: str, commands: str, *, fish: bool = False) -> str:
    """Return the lines of a hook, which do nothing once nano-init is uninstalled."""
    if fish:
        command = quote_fish(os.path.join(commands, "nano-init"))
        unset = " --unset" if name == "bigdl-nano-unset-env" else ""
        line = f"test -x {command}; and {command} --shell fish{unset} | source\n"
    else:
        file = quote_posix(os.path.join(commands, name))
        # The activation continues even if nano-init fails, also under errexit.
        line = f"[ ! -r {file} ] || . {file} || :\n"
    return f"{_BEGIN}\n{line}{_END}\n"


def _with_blocks(path: str, text: str, commands: str) -> str:
    if text.count(_DEACTIVATE) != 1:
        raise UsageError(f"{path} has no line {_DEACTIVATE.strip()!r}: no hook can be added")
    leave = _DEACTIVATE + _block("bigdl-nano-unset-env", commands)
    if not text.endswith("\n"):
        raise UsageError(f"{path} ends within a line: no hook can be added")
    return text.replace(_DEACTIVATE, leave) + _block("bigdl-nano-init", commands)


def _without_blocks(path: str, text: str) -> str:
    while (begin := text.find(_BEGIN + "\n")) >= 0:
        end = text.find(_END + "\n", begin)
        if end < 0:
            raise UsageError(f"{path} has a line {_BEGIN!r} without its end: correct it by hand")
        text = text[:begin] + text[end + len(_END) + 1 :]
    return text


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise NanoError(f"cannot read {path}: {error.strerror}") from error


def _write_all(files: dict[str, str]) -> tuple[str, ...]:
    changed = tuple(path for path, text in files.items() if _read(path) != text)
    try:
        for path in changed:
            _write(path, files[path])
    except OSError as error:
        raise NanoError(f"cannot write {error.filename}: {error.strerror}") from error
    return changed


def _write(path: str, text: str) -> None:
    """Replace a file in one step, so that no shell ever sources half of it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o644
    fresh = f"{path}.nano-init-{os.getpid()}"
    with open(fresh, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)
    os.chmod(fresh, mode)
    os.replace(fresh, path)
