"""`nano-init`: show, or print as shell code or data, the environment that fits here."""

from __future__ import annotations

import os
import sys

from nano_init.cli.outcome import exit_code_of, write_output
from nano_init.cli.plain import parse_plain
from nano_init.errors import UsageError
from nano_init.frozen import frozen
from nano_init.message import say
from nano_init.plan.settings import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["InitRequest", "init", "main"]

PROGRAM = "nano-init"

_FLAGS = ("--print", "--unset", "--force", "--pin", "-v", "--verbose")
_VALUES = ("--shell", "--sysroot", "--format")
_HELP = frozenset(["-h", "--help", "--version"])


@frozen
class InitRequest:
    """One call of `nano-init`.

    Args:
        shell: the shell to print code for, or None to show the plan.
        unset: print the way back instead of the way in.
        output: how to show the plan: "table", "json" or the name of a data format.
        sysroot: the root of the machine to answer for.
        options: what the user asked for.
        verbose: with a shell, show the table on stderr too.
        explain: the fact or variable to explain, or None.
        record: the file to record the machine in, or None.
        install_hook: "conda" or "venv": hook into that environment.
        remove_hook: likewise, and out of it.
        install_kernel: install the Jupyter kernel.
        remove_kernel: remove it.
        doctor: examine the machine and the environment.
        why_not: the precision to answer about, or None.
    """

    shell: str | None = None
    unset: bool = False
    output: str = "table"
    sysroot: str = "/"
    options: Options = Options()
    verbose: bool = False
    explain: str | None = None
    record: str | None = None
    install_hook: str | None = None
    remove_hook: str | None = None
    install_kernel: bool = False
    remove_kernel: bool = False
    doctor: bool = False
    why_not: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments; the process's own by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return exit_code_of(PROGRAM, lambda: _answer(arguments))


def init(request: InitRequest, environ: Mapping[str, str] = os.environ) -> int:
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
        say(PROGRAM, f"recorded; to replay: nano-init --print --sysroot {request.record}")
    elif _is_installation(request):
        from nano_init.run.install import install

        write_output(_encode(install(request, environ)))
    elif request.explain is not None:
        write_output(_encode(explained(request, request.explain, environ)))
    else:
        write_output(_encode(shown(request, environ)))
    return 0


def _answer(arguments: list[str]) -> int:
    arguments = _with_sourced_arguments(arguments, os.environ)
    request = _parse_plain_request(arguments)
    return _run_with_click(arguments) if request is None else init(request)


def _is_installation(request: InitRequest) -> bool:
    return bool(
        request.install_hook
        or request.remove_hook
        or request.install_kernel
        or request.remove_kernel
    )


def _with_sourced_arguments(arguments: list[str], environ: Mapping[str, str]) -> list[str]:
    """Add the options that a sourcing shell passes in NANO_INIT_ARGS; given ones win."""
    text = environ.get("NANO_INIT_ARGS", "")
    if not text.strip() or "--shell" not in arguments or "--unset" in arguments:
        return arguments
    import shlex

    from nano_init.cli.click_command import check_options
    from nano_init.cli.init_options import nano_init_command

    try:
        sourced = shlex.split(text)
        check_options(nano_init_command, sourced)
    except ValueError as error:
        why = str(error)
        raise UsageError(
            f"NANO_INIT_ARGS is {text!r}: {why[:1].lower()}{why[1:].rstrip('.')}; correct it"
        ) from error
    return sourced + arguments


def _parse_plain_request(argv: Sequence[str]) -> InitRequest | None:
    parsed = parse_plain(argv, _FLAGS, _VALUES)
    if parsed is None or parsed[1] or "_NANO_INIT_COMPLETE" in os.environ:
        return None
    options = parsed[0]
    sourced = "--shell" in options or "--unset" in options
    if options.get("--format", "table") not in ("table", "json"):
        return None
    if sourced and ("--print" in options or "--format" in options):
        return None
    return InitRequest(
        shell=options.get("--shell"),
        unset="--unset" in options,
        output=options.get("--format", "table"),
        sysroot=options.get("--sysroot", "/"),
        options=Options(pin="--pin" in options, force="--force" in options),
        verbose="-v" in options or "--verbose" in options,
    )


def _run_with_click(arguments: list[str]) -> int:
    from contextlib import nullcontext, redirect_stdout

    from nano_init.cli.click_command import run_command
    from nano_init.cli.init_options import nano_init_command

    # What a shell is about to evaluate must not be a help text.
    is_sourced_help = "--shell" in arguments and not _HELP.isdisjoint(arguments)
    with redirect_stdout(sys.stderr) if is_sourced_help else nullcontext():
        return run_command(nano_init_command, arguments, PROGRAM)


def _encode(text: str) -> bytes:
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    return text.encode(encoding, "replace")
