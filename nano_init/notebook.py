"""`%load_ext nano_init`: the environment and the patch in a kernel that runs already."""

from __future__ import annotations

import os
import sys

from nano_init.errors import NanoError
from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, MutableMapping

    from nano_init.plan.settings import Plan

__all__ = [
    "apply_to_process",
    "apply_variables",
    "environ_before",
    "late_variables",
    "restore_process",
]

# Libraries that read a variable once, when they are loaded.
_READERS = {
    "TF_": ("tensorflow",),
    "OMP_": ("numpy", "sklearn", "torch"),
    "KMP_": ("sklearn", "torch"),
}


@frozen
class _Change:
    before: str | None
    after: str


_changes: dict[str, _Change] = {}


def late_variables(plan: Plan, loaded: Collection[str]) -> dict[str, str]:
    """Return the plan's variables that come too late, each with the library that is loaded.

    Args:
        plan: what was decided.
        loaded: the names of the modules that have been imported.
    """
    late = {}
    for name in plan.environment():
        prefix = name.partition("_")[0] + "_"
        readers = [module for module in _READERS.get(prefix, ()) if module in loaded]
        if readers:
            late[name] = readers[0]
    return late


def apply_to_process(environ: MutableMapping[str, str] = os.environ) -> str:
    """Set the plan's variables in this process, patch Keras, and say what was done.

    Args:
        environ: the environment to set them in.

    Returns:
        One line for each thing that the user should know.
    """
    from nano_init.keras_patch import patch_tensorflow
    from nano_init.machine.probe import probe
    from nano_init.plan.build import read_build
    from nano_init.plan.decide import decide
    from nano_init.plan.precision import cause_of
    from nano_init.plan.settings import Options

    plan = decide(probe(environ=environ), environ, Options(), read_build())
    # Judged before the patch below imports TensorFlow, which then reads what is set here.
    late = late_variables(plan, sys.modules)
    apply_variables({n: v for n, v in plan.environment().items() if n not in late}, environ)
    lines = [
        f"nano-init: {plan.precision.recommended}: {cause_of(plan.precision)}",
        f"nano-init: threads {plan.threads.reason}",
    ]
    try:
        patch_tensorflow(precision=plan.precision.recommended)
    except NanoError as error:
        lines.append(f"nano-init: Keras is not patched: {error}")
    for module in dict.fromkeys(late.values()):
        names = ", ".join(name for name in late if late[name] == module)
        lines.append(
            f"nano-init: too late for {names}: {module} is loaded already; "
            "restart the kernel and load nano_init first"
        )
    return "\n".join(lines)


def apply_variables(variables: Mapping[str, str], environ: MutableMapping[str, str]) -> None:
    """Set variables, and remember what they were for `restore_process`.

    Args:
        variables: their values by name.
        environ: the environment to set them in.
    """
    for name, value in variables.items():
        before = _changes[name].before if name in _changes else environ.get(name)
        _changes[name] = _Change(before, value)
        environ[name] = value


def environ_before(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment as it was before `apply_variables`.

    A variable that has been changed since stays as it is.

    Args:
        environ: the environment that they were set in.
    """
    before = dict(environ)
    for name, change in _changes.items():
        if environ.get(name) != change.after:
            continue
        if change.before is None:
            del before[name]
        else:
            before[name] = change.before
    return before


def restore_process(environ: MutableMapping[str, str] = os.environ) -> None:
    """Take the variables and the patch out of this process again.

    A variable that has been changed since stays as it is.

    Args:
        environ: the environment that they were set in.
    """
    from nano_init.keras_patch import unpatch_tensorflow

    unpatch_tensorflow()
    before = environ_before(environ)
    for name in _changes:
        if name in before:
            environ[name] = before[name]
        else:
            environ.pop(name, None)
    _changes.clear()
