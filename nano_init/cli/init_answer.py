"""Answer a request of `nano-init`: what it prints, in which form."""

from __future__ import annotations

import os
import sys

from nano_init.message import NANO_INIT, say, write_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.run.init_table import InitRequest

__all__ = ["answer"]


def answer(request: InitRequest, environ: Mapping[str, str] = os.environ) -> int:
    """Do what a request asks, and return the exit code.

    Raises:
        NanoError: it cannot be done.
    """
    if request.shell or request.unset:
        from nano_init.cli.shell_code import shell_code

        write_output(os.fsencode(shell_code(request, environ)))
        return 0
    if request.doctor or request.why_not:
        from nano_init.cli.doctor import examination

        text, code = examination(request, environ)
        write_output(_encode(text))
        return code
    from nano_init.cli.show import explained, shown

    if request.record is not None:
        from nano_init.machine.record import record

        record(request.record, request.sysroot, force=request.options.force)
        say(NANO_INIT, f"recorded; replay it with: nano-init --print --sysroot {request.record}")
    elif _is_installation(request):
        from nano_init.run.install import install

        write_output(_encode(install(request, environ)))
    elif request.explain is not None:
        write_output(_encode(explained(request, request.explain, environ)))
    else:
        write_output(_encode(shown(request, environ)))
    return 0


def _is_installation(request: InitRequest) -> bool:
    return bool(
        request.install_hook
        or request.remove_hook
        or request.install_kernel
        or request.remove_kernel
    )


def _encode(text: str) -> bytes:
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    return text.encode(encoding, "replace")
