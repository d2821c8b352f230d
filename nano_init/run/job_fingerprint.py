"""What the hosts of a job compare before its workers start: all that must be the same.

Where files lie, threads and the allocator may differ from host to host.
"""

from __future__ import annotations

import hashlib
import os

import nano_init
from nano_init.launch.module_file import find_module_file
from nano_init.protocol.variables import DISABLE_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nano_init.plan.build import Build
    from nano_init.protocol.patch_options import PatchOptions
    from nano_init.protocol.target import Target
    from nano_init.run.request import RunRequest
    from nano_init.survey import Surroundings

__all__ = ["digest_target", "list_facts"]

_LONGEST = 160  # characters of a value that a sentence can still hold


def list_facts(
    request: RunRequest,
    patch: PatchOptions,
    surroundings: Surroundings,
    program: bytes | None = None,
) -> dict[str, str]:
    """Return what must be the same on all hosts, by names that a user understands.

    Args:
        request: the request.
        patch: the options of the patch, with the precision that was chosen.
        surroundings: what was read on this host.
        program: what was read of a program that came from stdin.
    """
    from shlex import join

    environ = surroundings.user_environ
    return {
        **_list_versions(surroundings.build, environ),
        "the script": digest_target(request.target, environ, program=program),
        "the script's list of arguments": _shorten(join(request.target.arguments)),
        "the precision (--precision)": patch.precision,
        "--keep-float32": _shorten(", ".join(sorted(patch.keep_float32))),
        "--lazy-adam": _say_given(patch.lazy_adam),
        "--steps-per-execution": str(patch.steps_per_execution or "auto"),
        "the list of disabled faster paths (--disable, NANO_INIT_DISABLE)": _list_disabled(
            patch.disable, environ
        ),
        "--compress-gradients": _say_given(request.job.compress),
        "--max-restarts": str(request.job.max_restarts),
    }


def _list_versions(build: Build | None, environ: Mapping[str, str]) -> dict[str, str]:
    return {
        "the version of nano-init": nano_init.__version__,
        "the version of TensorFlow": str(build) if build else "not installed",
        "the version of Keras": _read_version("keras"),
        # A script that does not use it runs on a host without it.
        "the version of tf_keras": _read_version("tf_keras", missing=""),
        "the Keras that tf.keras is (TF_USE_LEGACY_KERAS)": _name_keras(environ),
        "the version of NumPy": _read_version("numpy"),
    }


def digest_target(
    target: Target,
    environ: Mapping[str, str],
    search_path: list[str] | None = None,
    program: bytes | None = None,
) -> str:
    """Return what distinguishes two versions of a program.

    Args:
        target: the program; of a module that is not found only the name is compared.
        environ: the environment that the program is started in.
        search_path: where modules are, as for `find_module_file`.
        program: what was read of a program that came from stdin.
    """
    if target.is_stdin and program is not None:
        return f"stdin ({_digest(program) if program else 'empty'})"
    path = target.name
    if target.is_module:
        path = find_module_file(target.name, environ, search_path) or ""
    elif os.path.isdir(path):
        path = os.path.join(path, "__main__.py")
    name = target.name if target.is_module else os.path.basename(os.path.normpath(target.name))
    if not os.path.isfile(path):
        return name
    with open(path, "rb") as file:
        return f"{name} ({_digest(file.read())})"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _read_version(name: str, missing: str = "not installed") -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return missing


def _name_keras(environ: Mapping[str, str]) -> str:
    # The values that TensorFlow takes for yes (tensorflow/python/util/lazy_loader.py).
    return "Keras 2" if environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True") else "Keras 3"


def _list_disabled(disable: Sequence[str], environ: Mapping[str, str]) -> str:
    from nano_init.protocol.faster_paths import FASTER_PATHS, parse_disabled

    known, _ = parse_disabled(",".join((environ.get(DISABLE_VARIABLE, ""), *disable)))
    return "all" if len(known) == len(FASTER_PATHS) else _shorten(", ".join(sorted(known)))


def _say_given(is_given: bool) -> str:
    return "given" if is_given else "not given"


def _shorten(text: str) -> str:
    if len(text) <= _LONGEST:
        return text or "none"
    return f"{text[:_LONGEST]}... ({_digest(text.encode('utf-8', 'surrogateescape'))})"
