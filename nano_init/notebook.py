"""`%load_ext nano_init`: the environment and the patch in a kernel that runs already."""

from __future__ import annotations

import os
import sys

from nano_init.errors import NanoError
from nano_init.frozen import replace
from nano_init.message import NANO_INIT
from nano_init.shells.transition import enter, take_back

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence

    from nano_init.plan.settings import Setting
    from nano_init.shells.change import Change

__all__ = ["apply_settings", "apply_to_process", "late_settings", "restore_process"]

# Libraries that read a variable once, when they are loaded.
_READERS = {
    "TF_": ("tensorflow",),
    "OMP_": ("numpy", "sklearn", "torch"),
    "KMP_": ("sklearn", "torch"),
}


# What `apply_settings` has changed.
_changes: tuple[Change, ...] = ()


def late_settings(
    settings: Iterable[Setting], loaded: Collection[str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables that would be set too late, each with the library that is loaded.

    Args:
        settings: what was decided.
        loaded: the names of the modules that have been imported.
        environ: the environment; what it holds already is not late.
    """
    late = {}
    for setting in settings:
        prefix = setting.name.partition("_")[0] + "_"
        readers = [module for module in _READERS.get(prefix, ()) if module in loaded]
        is_new = setting.status == "set" and environ.get(setting.name) != setting.value
        if readers and is_new:
            late[setting.name] = readers[0]
    return late


def apply_to_process(environ: MutableMapping[str, str] = os.environ) -> str:
    """Set the plan's variables in this process, patch Keras, and say what was done.

    Args:
        environ: the environment to set them in.

    Returns:
        One line for each thing that the user should know.
    """
    from nano_init.patch import patch_tensorflow
    from nano_init.plan.choice import Wishes, choose
    from nano_init.plan.precision import cause_of
    from nano_init.survey import survey

    choice = choose(Wishes(), survey(environ))
    plan, precision = choice.plan, choice.patch.precision
    # Judged before the patch below imports TensorFlow, which then reads what is set here.
    late = late_settings(plan.settings, sys.modules, environ)
    apply_settings(
        # What comes too late stays as it is, also where a sourced environment has set it.
        [
            replace(setting, value=environ.get(setting.name)) if setting.name in late else setting
            for setting in plan.settings
        ],
        environ,
    )
    lines = [f"{precision}: {cause_of(plan.precision)}", f"threads {plan.threads.reason}"]
    try:
        patch_tensorflow(precision=precision)
    except NanoError as error:
        lines.append(f"Keras is not patched: {error}")
    for module in dict.fromkeys(late.values()):
        names = ", ".join(name for name in late if late[name] == module)
        lines.append(
            f"too late for {names}: {module} is already loaded; restart the kernel and load "
            "nano_init first"
        )
    return "\n".join(f"{NANO_INIT}: {line}" for line in lines)


def apply_settings(settings: Sequence[Setting], environ: MutableMapping[str, str]) -> None:
    """Set variables, and remember what they were for `restore_process`.

    What a sourced `bigdl-nano-init` has set counts as nano-init's, not as the user's own.

    Args:
        settings: the variables, decided for the user's environment.
        environ: the environment to set them in.
    """
    global _changes
    _take_back(environ)
    _changes = enter(environ, settings).assignments
    for change in _changes:
        if change.after is None:
            environ.pop(change.name, None)
        else:
            environ[change.name] = change.after


def restore_process(environ: MutableMapping[str, str] = os.environ) -> None:
    """Take the variables and the patch out of this process again.

    A variable that has been changed since stays as it is.

    Args:
        environ: the environment that they were set in.
    """
    from nano_init.patch import unpatch_tensorflow

    unpatch_tensorflow()
    _take_back(environ)


def _take_back(environ: MutableMapping[str, str]) -> None:
    global _changes
    before, _ = take_back(environ, _changes)
    _changes = ()
    for name in [name for name in environ if name not in before]:
        del environ[name]
    environ.update({n: v for n, v in before.items() if environ.get(n) != v})
