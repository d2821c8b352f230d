"""What `nano-init` installs when it is asked to: hooks and a Jupyter kernel."""

from __future__ import annotations

import os
import sys

from nano_init.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.run.init_table import InitRequest

__all__ = ["install"]

_PREFIXES = {"conda": "CONDA_PREFIX", "venv": "VIRTUAL_ENV"}


def install(request: InitRequest, environ: Mapping[str, str]) -> str:
    """Install or remove what a request names, and return a line for each file.

    Raises:
        NanoError: it cannot be done; nothing was changed.
    """
    if request.install_kernel or request.remove_kernel:
        return f"{_kernel(request)}\n"
    from nano_init.shells.hooks import install_hook, remove_hook

    kind = request.install_hook or request.remove_hook or ""
    prefix = environ.get(_PREFIXES[kind], "")
    if not prefix:
        raise UsageError(f"no {kind} environment is active ({_PREFIXES[kind]} is not set)")
    if request.install_hook:
        files = install_hook(kind, prefix, _commands())
    else:
        files = remove_hook(kind, prefix)
    return "".join(f"{path}\n" for path in files)


def _kernel(request: InitRequest) -> str:
    from nano_init.launch.kernel import install_kernel, remove_kernel

    if request.remove_kernel:
        return remove_kernel()
    nano_run = os.path.join(_commands(), "nano-run")
    return install_kernel(nano_run, force=request.options.force)


def _commands() -> str:
    """Return the folder that this installation's commands are in."""
    folder = os.path.dirname(os.path.abspath(sys.argv[0]))
    if not os.path.exists(os.path.join(folder, "nano-run")):
        folder = os.path.dirname(sys.executable)
    if not os.path.exists(os.path.join(folder, "nano-run")):
        raise UsageError("nano-run is not installed; install the package first: pip install .")
    return folder
