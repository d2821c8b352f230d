"""What is read before anything is decided, once for each command."""

from __future__ import annotations

import sys

from nano_init.frozen import frozen, replace
from nano_init.machine.probe import probe_with_log
from nano_init.plan.build import read_build
from nano_init.plan.precision import recommend_precision
from nano_init.shells.transition import original

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nano_init.machine.facts import Machine
    from nano_init.plan.build import Build

__all__ = ["Surroundings", "survey", "with_allocator"]


@frozen
class Surroundings:
    """The computer, the TensorFlow and the environment that a plan is made for.

    Args:
        machine: the computer.
        build: the installed TensorFlow; None if there is none, or for a recorded machine.
        user_environ: the user's environment, without what nano-init has set in it.
        log: what each source said when the machine was probed, as `probe_with_log` gives it.
        libraries: by the name of an allocator, its library, or None if no library loads.
        bfloat16_fault: why mixed_bfloat16 cannot be guarded on this Keras; "" where it can.
    """

    machine: Machine
    build: Build | None
    user_environ: Mapping[str, str]
    log: Mapping[str, str | None]
    libraries: Mapping[str, str | None]
    bfloat16_fault: str = ""


def survey(
    environ: Mapping[str, str], root: str = "/", *, asked: str = "auto", import_folder: str = ""
) -> Surroundings:
    """Read the computer, the installed TensorFlow and the user's environment.

    A recorded machine is answered for as its own shell would be: without this shell's
    variables, and without the TensorFlow that is installed here.

    Args:
        environ: this process's environment, in which nano-init may have set variables.
        root: the folder that stands for "/", or a recorded machine.
        asked: the requested precision; the guards of mixed_bfloat16 matter only if it is likely.
        import_folder: where the program looks for Keras before `sys.path`; "" for nowhere.

    Raises:
        RecordingError: the root is no machine.
    """
    is_here = root == "/"
    user_environ = original(environ)[0] if is_here else {}
    machine, log = probe_with_log(root, user_environ)
    build = read_build() if is_here else None
    if asked == "auto":
        asked = recommend_precision(machine.isa, user_environ).recommended
    # Python does so for PYTHONSAFEPATH (docs.python.org/3/using/cmdline.html).
    first = [import_folder] if import_folder and not user_environ.get("PYTHONSAFEPATH") else []
    fault = _read_fault(build, user_environ, asked, [*first, *sys.path])
    return Surroundings(machine, build, user_environ, log, {}, fault)


def _read_fault(
    build: Build | None, environ: Mapping[str, str], asked: str, search_path: Sequence[str]
) -> str:
    if build is None:
        return ""
    from nano_init.fingerprints.installed_parts import bfloat16_fault, find_installed

    installed = find_installed(build.version, environ, search_path)
    return bfloat16_fault(installed, environ, is_thorough=asked == "mixed_bfloat16")


def with_allocator(surroundings: Surroundings, kind: str) -> Surroundings:
    """Return surroundings in which an allocator's library has been looked for.

    Args:
        surroundings: what is known so far.
        kind: the allocator; of one that is none of nano-init's, or "none", nothing is looked for.
    """
    if kind == "none" or kind in surroundings.libraries:
        return surroundings
    from nano_init.machine.allocators import ALLOCATORS, find_allocator

    if kind not in (*ALLOCATORS, "auto"):
        return surroundings
    found = find_allocator(kind, surroundings.user_environ)
    return replace(surroundings, libraries={**surroundings.libraries, kind: found})
