"""A Jupyter kernel that runs under `nano-run`, so that its environment fits the machine."""

from __future__ import annotations

import os

from nano_init.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["KERNEL_NAME", "install_kernel", "kernel_spec", "remove_kernel"]

KERNEL_NAME = "nano-init"


def kernel_spec(nano_run: str) -> dict[str, Any]:
    """Return the kernel spec for Jupyter (its documentation, "Kernel specs").

    Args:
        nano_run: the command's full path. It is replaced by the kernel with the same process
            id, so that Jupyter's interrupts and restarts work as usual.
    """
    return {
        "argv": [nano_run, "--quiet", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3 (nano-init)",
        "language": "python",
        "metadata": {"debugger": True},
    }


def install_kernel(nano_run: str, *, force: bool = False) -> str:
    """Install the kernel for the user's Jupyter, and return its folder.

    Args:
        nano_run: the command's full path.
        force: replace an existing kernel of the same name.

    Raises:
        LaunchError: ipykernel is not installed, or a kernel of that name exists.
    """
    import json
    import tempfile

    manager = _manager()
    present = manager.find_kernel_specs().get(KERNEL_NAME)
    if present and not force:
        raise LaunchError(f"a kernel exists in {present} already; --force replaces it")
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "kernel.json"), "w", encoding="utf-8") as file:
            json.dump(kernel_spec(nano_run), file, indent=2)
        try:
            return str(manager.install_kernel_spec(folder, KERNEL_NAME, user=True))
        except OSError as error:
            raise LaunchError(f"the kernel cannot be installed: {error}") from error


def remove_kernel() -> str:
    """Remove the kernel from the user's Jupyter, and return the folder it was in.

    Raises:
        LaunchError: it is not installed.
    """
    manager = _manager()
    if KERNEL_NAME not in manager.find_kernel_specs():
        raise LaunchError(f"no kernel {KERNEL_NAME!r} is installed; there is nothing to remove")
    return str(manager.remove_kernel_spec(KERNEL_NAME))


def _manager() -> Any:
    from importlib.util import find_spec

    # Only the kernel needs it; Jupyter itself may be installed elsewhere.
    if find_spec("ipykernel") is None:
        raise LaunchError("ipykernel is not installed here: pip install ipykernel")
    from jupyter_client.kernelspec import KernelSpecManager

    return KernelSpecManager()
