"""Remember what was measured to be fastest for a script, in the user's cache folder.

Every `nano-run` looks here, so that this imports nothing but what the interpreter has loaded;
where nothing was ever tuned it costs one failed `open`.
"""

from __future__ import annotations

import os
from stat import S_ISREG

from nano_init.frozen import frozen
from nano_init.launch.module_file import find_module_file
from nano_init.plan.configuration import parse_configuration
from nano_init.plan.library_variables import steers_training
from nano_init.user_cache import cache_folder, tuned_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nano_init.plan.configuration import Configuration
    from nano_init.protocol.target import Target
    from nano_init.survey import Surroundings

__all__ = [
    "Recalled",
    "clear_cache",
    "describe_key",
    "describe_machine",
    "measured_files",
    "read_entry",
    "recall",
    "remember",
    "write_entry",
]

# What a key's lines begin with, and the words for a difference in them.
_CHANGES = {
    "script": "another script",
    "content": "other content",
    "arguments": "other arguments",
    "optimizer": "another optimizer",
    "processor": "another processor",
    "limits": "other limits",
    "variables": "other variables",
    "versions": "other versions",
}

# Of the entries' form: others are not read.
_FORM = 2


@frozen
class Recalled:
    """What the cache holds for a script.

    Args:
        configuration: the one to train with; None if there is none.
        note: how it was found, a phrase.
        fault: why the entry there is was not used, a sentence; "" if it was, or there is none.
        signature: the shapes of the variables that it was measured on, as JSON.
    """

    configuration: Configuration | None = None
    note: str = ""
    fault: str = ""
    signature: str = ""


def describe_key(
    target: Target, surroundings: Surroundings, *, lazy_adam: bool = False
) -> str | None:
    """Return all that a choice depends on and that is known before the script runs.

    Args:
        target: the program; one on stdin has no file to know it by.
        surroundings: the computer, the TensorFlow and the user's environment.
        lazy_adam: whether Adam is another algorithm.

    Returns:
        One line for each thing; None where the program cannot be known again.
    """
    from binascii import crc32

    path: str | None = target.name
    if target.is_module:
        path = find_module_file(target.name, surroundings.user_environ)
    if path is None or target.name == "-":
        return None
    content = _read_script(path)
    if content is None:
        return None
    word = f"-m {target.name} " if target.is_module else ""
    lines = (
        f"script {word}{os.path.realpath(path)}",
        f"content {len(content)} {crc32(content):08x}",
        f"arguments {target.arguments!r}",
        f"optimizer {'lazy' if lazy_adam else 'usual'}",
        *describe_machine(surroundings),
    )
    return "\n".join(lines)


def _read_script(path: str) -> bytes | None:
    try:
        if not S_ISREG(os.stat(path).st_mode):  # a folder with __main__.py, or a pipe to run once
            return None
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # not ours to read
        return None


def describe_machine(surroundings: Surroundings) -> tuple[str, ...]:
    """Return all that the speed of TensorFlow depends on, one line for each thing."""
    import sys

    import nano_init

    isa, limits = surroundings.machine.isa, surroundings.machine.limits
    environ, build = surroundings.user_environ, surroundings.build
    keras = build.keras if build else ""
    return (
        f"processor {isa.vendor} {isa.model} {isa.level} {isa.bf16}",
        f"limits {limits.affinity!r} {limits.cpu_quota} {limits.memory_bytes}",
        f"variables {sorted(i for i in environ.items() if _is_read(i[0]))!r}",
        f"versions {nano_init.__version__} {build} {keras} {sys.version.split()[0]}",
    )


def _is_read(name: str) -> bool:
    """Say whether a variable of the user's changes what is fastest."""
    return steers_training(name) or name.startswith("NANO_INIT_")


def recall(key: str | None, environ: Mapping[str, str]) -> Recalled:
    """Return what is remembered under a key; what cannot be used is reported, and passed over.

    Args:
        key: as `describe_key` gives it.
        environ: the environment.
    """
    if key is None:
        return Recalled()
    path = _path(key, environ)
    try:
        text = read_entry(path)
    except FileNotFoundError:
        return Recalled()
    except (OSError, ValueError) as error:
        return Recalled(fault=f"the tuned choice in {path} cannot be read ({error}); ignored")
    return _parse_entry(text, key, path)


def read_entry(path: str) -> str:
    """Return the text of a regular file; do not wait for others, such as a pipe without writer.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ValueError: it is no text.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is not a regular file")
        with open(descriptor, encoding="utf-8", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def remember(
    key: str,
    configuration: Configuration,
    note: str,
    signature: str,
    environ: Mapping[str, str],
    trials: Sequence[object] = (),
) -> str:
    """Write down a choice; return why that was impossible, or "".

    Args:
        key: as `describe_key` gives it.
        configuration: what to train with.
        note: how it was found, a phrase.
        signature: the shapes of the variables that it was measured on, as JSON.
        environ: the environment.
        trials: what was measured, as plain values.
    """
    entry = {
        "form": _FORM,
        "key": key,
        "configuration": configuration.values(),
        "note": note,
        "signature": signature,
        "trials": list(trials),
    }
    fault = write_entry(_path(key, environ), entry)
    return fault and f"the choice cannot be stored in {fault}"


def write_entry(path: str, entry: Mapping[str, object]) -> str:
    """Write a file whole or not at all; return its path and why that was impossible, or "".

    Args:
        path: the file; its folder is made.
        entry: plain values.
    """
    import json

    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(entry, file, indent=1)
        os.replace(temporary, path)
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    return ""


def clear_cache(environ: Mapping[str, str]) -> int:
    """Forget all choices and measured products, and return how many choices there were.

    Args:
        environ: the environment.

    Raises:
        OSError: an entry cannot be removed.
    """
    folder = tuned_folder(environ)
    names = [n for n in os.listdir(folder) if n.endswith(".json")] if os.path.isdir(folder) else []
    for name in names:
        os.remove(os.path.join(folder, name))
    for path in measured_files(environ):
        os.remove(path)
    return len(names)


def measured_files(environ: Mapping[str, str]) -> list[str]:
    """Return the files of measured products, one for each machine and its limits."""
    folder = cache_folder(environ)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [os.path.join(folder, n) for n in names if n.startswith("products-")]


def _path(key: str, environ: Mapping[str, str]) -> str:
    """Return the file of a script and its arguments; the rest of the key is inside it."""
    from binascii import crc32

    script, _, rest = key.partition("\n")
    arguments = rest.partition("\n")[2].partition("\n")[0]
    name = f"{crc32(os.fsencode(script)):08x}{crc32(os.fsencode(arguments)):08x}.json"
    return os.path.join(tuned_folder(environ), name)


def _parse_entry(text: str, key: str, path: str) -> Recalled:
    import json

    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return Recalled(fault=f"the tuned choice in {path} is damaged; ignored")
    if not isinstance(entry, dict) or entry.get("form") != _FORM:
        return Recalled(
            fault=f"the tuned choice in {path} is damaged or from another version; ignored"
        )
    changed = _changed_since(str(entry.get("key")), key)
    configuration = parse_configuration(entry.get("configuration"))
    is_foreign = len(changed) == len(_CHANGES)
    if changed and not is_foreign:
        *most, last = changed
        words = f"{', '.join(most)} and {last}" if most else last
        return Recalled(fault=f"the script was tuned with {words}; ignored. --tune measures again")
    if configuration is None or is_foreign:
        return Recalled(fault=f"the tuned choice in {path} is damaged; ignored")
    signature = str(entry.get("signature", ""))
    return Recalled(configuration, str(entry.get("note", ""))[:200], signature=signature)


def _changed_since(before: str, now: str) -> list[str]:
    """Return what differs between two keys, in words."""
    old, new = (dict(line.partition(" ")[::2] for line in key.split("\n")) for key in (before, now))
    return [words for name, words in _CHANGES.items() if old.get(name) != new.get(name)]
