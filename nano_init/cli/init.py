"""`nano-init`: show, or print as shell code or data, the environment that fits here."""

from __future__ import annotations

import os
import sys

from nano_init.cli.message import say
from nano_init.cli.plain import parse_plain
from nano_init.errors import NanoError, UsageError
from nano_init.frozen import frozen
from nano_init.machine.probe import probe
from nano_init.plan.build import read_build
from nano_init.plan.decide import decide, thread_cap
from nano_init.plan.settings import Options, Plan, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nano_init.machine.facts import Machine
    from nano_init.plan.build import Build

__all__ = ["InitRequest", "init", "main"]

PROGRAM = "nano-init"

_FLAGS = ("--print", "--unset", "--force", "--pin", "-v", "--verbose")
_VALUES = ("--shell", "--sysroot", "--format")


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
    """

    shell: str | None = None
    unset: bool = False
    output: str = "table"
    sysroot: str = "/"
    options: Options = Options()
    verbose: bool = False
    explain: str | None = None
    record: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments; the process's own by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = _with_sourced_arguments(arguments, os.environ)
        request = _parse_plain_request(arguments)
        if request is not None:
            return init(request)
    except NanoError as error:
        say(PROGRAM, str(error))
        return error.exit_code
    except BrokenPipeError:
        return _close_stdout()
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as a shell reports it
    from nano_init.cli.command import run_command
    from nano_init.cli.init_options import nano_init_command

    return run_command(nano_init_command, arguments, PROGRAM)


def init(request: InitRequest, environ: Mapping[str, str] = os.environ) -> int:
    """Do what a request asks, and return the exit code.

    Raises:
        NanoError: it cannot be done.
    """
    if request.shell or request.unset:
        sys.stdout.write(_shell_code(request, environ))
    elif request.record is not None:
        from nano_init.machine.record import record

        record(request.record, request.sysroot, force=request.options.force)
        say(PROGRAM, f"recorded; to replay: nano-init --print --sysroot {request.record}")
    elif request.explain is not None:
        sys.stdout.write(_explained(request, request.explain, environ))
    else:
        sys.stdout.write(_shown(request, environ))
    sys.stdout.flush()
    return 0


def _with_sourced_arguments(arguments: list[str], environ: Mapping[str, str]) -> list[str]:
    """Add the options that a sourcing shell passes in NANO_INIT_ARGS."""
    text = environ.get("NANO_INIT_ARGS", "")
    if not text.strip() or "--shell" not in arguments or "--unset" in arguments:
        return arguments
    import shlex

    try:
        return arguments + shlex.split(text)
    except ValueError as error:
        raise UsageError(
            f"NANO_INIT_ARGS is {text!r}: {str(error).lower()}; close the quotes"
        ) from error


def _parse_plain_request(argv: Sequence[str]) -> InitRequest | None:
    parsed = parse_plain(argv, _FLAGS, _VALUES)
    if parsed is None or parsed[1] or "_NANO_INIT_COMPLETE" in os.environ:
        return None
    options = parsed[0]
    if options.get("--format", "table") not in ("table", "json"):
        return None
    if "--print" in options and ("--shell" in options or "--unset" in options):
        return None
    return InitRequest(
        shell=options.get("--shell"),
        unset="--unset" in options,
        output=options.get("--format", "table"),
        sysroot=options.get("--sysroot", "/"),
        options=Options(pin="--pin" in options, force="--force" in options),
        verbose="-v" in options or "--verbose" in options,
    )


def _plan(request: InitRequest, environ: Mapping[str, str]) -> tuple[Machine, Plan, Build | None]:
    build = _build(request)
    machine = probe(request.sysroot, environ)
    plan = decide(machine, environ, request.options, build)
    if request.options.precision != "auto":
        wish = Setting(
            "NANO_RUN_PRECISION", request.options.precision, "the precision that you asked for"
        )
        plan = Plan(plan.threads, plan.precision, (*plan.settings, wish), plan.warnings)
    return machine, plan, build


def _shown(request: InitRequest, environ: Mapping[str, str]) -> str:
    from nano_init.cli.table import format_plan, plan_to_json

    machine, plan, build = _plan(request, _their_environment(request, environ))
    if request.output == "table":
        return format_plan(machine, plan, _name_tensorflow(request, build))
    for warning in plan.warnings:
        say(PROGRAM, f"warning: {warning}")
    if request.output == "json":
        import json

        return json.dumps(plan_to_json(machine, plan), indent=2, ensure_ascii=False) + "\n"
    from nano_init.shells.formats import render_data

    return render_data(request.output, plan.settings)


def _explained(request: InitRequest, name: str, environ: Mapping[str, str]) -> str:
    from nano_init.cli.explanation import explain_name, explanation_to_json, format_explanation
    from nano_init.machine.probe import probe_with_log

    theirs = _their_environment(request, environ)
    machine, log = probe_with_log(request.sysroot, theirs)
    plan = decide(machine, theirs, request.options, _build(request))
    cap = thread_cap(request.options, theirs)
    explanation = explain_name(name, machine, log, theirs, plan, cap)
    if request.output == "json":
        import json

        return json.dumps(explanation_to_json(explanation), indent=2, ensure_ascii=False) + "\n"
    return format_explanation(explanation)


def _their_environment(request: InitRequest, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment to decide for, without what nano-init set in it.

    A recorded machine is answered for as its own shell would be, not this one.
    """
    from nano_init.shells.transition import original

    return original(environ)[0] if request.sysroot == "/" else {}


def _build(request: InitRequest) -> Build | None:
    return read_build() if request.sysroot == "/" else None


def _name_tensorflow(request: InitRequest, build: Build | None) -> str:
    if request.sysroot != "/":
        return "not known of a recorded machine"
    return str(build) if build else "not installed beside nano-init"


def _shell_code(request: InitRequest, environ: Mapping[str, str]) -> str:
    from nano_init.shells.render import render
    from nano_init.shells.transition import enter, leave, original

    shell = request.shell or "sh"
    if request.unset:
        transition = leave(environ)
    else:
        machine, plan, build = _plan(request, original(environ)[0])
        transition = enter(environ, plan.settings)
        if request.verbose:
            from nano_init.cli.table import format_plan

            sys.stderr.write(format_plan(machine, plan, _name_tensorflow(request, build)))
    code = render(shell, transition.assignments)
    for note in transition.notes:
        say(PROGRAM, note)
    return code


def _close_stdout() -> int:
    """Leave quietly when the reader has gone (https://docs.python.org/3/library/signal.html)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
