"""Remember what was measured to be fastest for a script, in the user's cache folder.

Every `nano-run` looks here, so that this imports nothing but what the interpreter has loaded;
where nothing was ever tuned it costs one failed `open`.
"""

from __future__ import annotations

import os

from nano_init.evidence.configuration import parse_configuration
from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.evidence.configuration import Configuration
    from nano_init.launch.target import Target
    from nano_init.machine.facts import Machine
    from nano_init.plan.build import Build

__all__ = [
    "Recalled",
    "cache_folder",
    "clear_cache",
    "describe_key",
    "has_entries",
    "recall",
    "remember",
]

# Variables of the user's that change what is fastest.
_READ = ("TF_", "OMP_", "KMP_", "ONEDNN_", "NANO_INIT_", "LD_PRELOAD", "KERAS_BACKEND")

# Of the entries' form: others are not read.
_FORM = 1


@frozen
class Recalled:
    """What the cache holds for a script.

    Args:
        configuration: the one to train with; None if there is none.
        note: how it was found, a phrase.
        fault: why the entry there is was not used, a sentence; "" if it was, or there is none.
    """

    configuration: Configuration | None = None
    note: str = ""
    fault: str = ""


def cache_folder(environ: Mapping[str, str]) -> str:
    """Return where entries are (XDG Base Directory Specification).

    Args:
        environ: the environment.
    """
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the specification: a relative path is to be ignored
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".cache")
    return os.path.join(base, "nano-init", "tuned")


def has_entries(environ: Mapping[str, str]) -> bool:
    """Say whether anything was ever remembered; before that, a script need not be read.

    Args:
        environ: the environment.
    """
    return os.path.isdir(cache_folder(environ))


def describe_key(
    target: Target, machine: Machine, build: Build | None, environ: Mapping[str, str]
) -> str | None:
    """Return all that a choice depends on and that is known before the script runs.

    Args:
        target: the program; a module, or a program on stdin, has no file to know it by.
        machine: the computer.
        build: the installed TensorFlow.
        environ: the user's environment, without what nano-init has set in it.

    Returns:
        One line for each thing; None where the program cannot be known again.
    """
    import sys
    from binascii import crc32

    import nano_init

    if target.is_module or target.name == "-":
        return None
    try:
        with open(target.name, "rb") as file:
            content = file.read()
    except OSError:  # a folder with __main__.py, or not ours to read
        return None
    isa, limits = machine.isa, machine.limits
    lines = (
        f"script {os.path.realpath(target.name)}",
        f"content {len(content)} {crc32(content):08x}",
        f"arguments {target.arguments!r}",
        f"processor {isa.vendor} {isa.model} {isa.level} {isa.bf16}",
        f"limits {limits.affinity!r} {limits.cpu_quota} {limits.memory_bytes}",
        f"variables {sorted(i for i in environ.items() if i[0].startswith(_READ))!r}",
        f"versions {nano_init.__version__} {build} {sys.version.split()[0]}",
    )
    return "\n".join(lines)


def recall(key: str | None, environ: Mapping[str, str]) -> Recalled:
    """Return what is remembered under a key; what cannot be used is told of, and passed over.

    Args:
        key: as `describe_key` gives it.
        environ: the environment.
    """
    if key is None:
        return Recalled()
    path = _path(key, environ)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return Recalled()
    except (OSError, ValueError) as error:
        return Recalled(fault=f"the tuned choice in {path} cannot be read ({error}); ignored")
    return _parse_entry(text, key, path)


def remember(
    key: str, configuration: Configuration, note: str, signature: str, environ: Mapping[str, str]
) -> str:
    """Write down a choice; return why that was impossible, or "".

    Args:
        key: as `describe_key` gives it.
        configuration: what to train with.
        note: how it was found, a phrase.
        signature: the shapes of the variables that it was measured on.
        environ: the environment.
    """
    import json

    entry = {
        "form": _FORM,
        "key": key,
        "configuration": configuration.values(),
        "note": note,
        "signature": signature,
    }
    path = _path(key, environ)
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(entry, file, indent=1)
        os.replace(temporary, path)
    except OSError as error:
        return f"the choice cannot be remembered in {path}: {error.strerror or error}"
    return ""


def clear_cache(environ: Mapping[str, str]) -> int:
    """Forget all choices, and return how many there were.

    Args:
        environ: the environment.

    Raises:
        OSError: an entry cannot be removed.
    """
    folder = cache_folder(environ)
    names = [n for n in os.listdir(folder) if n.endswith(".json")] if os.path.isdir(folder) else []
    for name in names:
        os.remove(os.path.join(folder, name))
    return len(names)


def _path(key: str, environ: Mapping[str, str]) -> str:
    """Return the file of a script and its arguments; the rest of the key is inside it."""
    from binascii import crc32

    script, _, rest = key.partition("\n")
    arguments = rest.partition("\n")[2].partition("\n")[0]
    name = f"{crc32(os.fsencode(script)):08x}{crc32(os.fsencode(arguments)):08x}.json"
    return os.path.join(cache_folder(environ), name)


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
    if changed:
        return Recalled(
            fault=f"the script was tuned with another {changed}; ignored, --tune measures anew"
        )
    configuration = parse_configuration(entry.get("configuration"))
    if configuration is None:
        return Recalled(fault=f"the tuned choice in {path} is damaged; ignored")
    return Recalled(configuration, str(entry.get("note", ""))[:200])


def _changed_since(before: str, now: str) -> str:
    """Return what differs between two keys, in words; "" if nothing does."""
    old = dict(line.partition(" ")[::2] for line in before.split("\n"))
    new = dict(line.partition(" ")[::2] for line in now.split("\n"))
    return " and ".join(name for name in new if old.get(name) != new[name])
