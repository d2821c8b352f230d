"""`nano-run`: run a Python program as fast as this machine allows."""

from __future__ import annotations

import os
import sys

from nano_init.cli.message import say
from nano_init.cli.outcome import exit_code_of, write_output
from nano_init.cli.plain import parse_plain
from nano_init.cli.planning import find_library
from nano_init.frozen import frozen
from nano_init.launch.command import format_command, prepare_command
from nano_init.launch.execute import execute
from nano_init.launch.target import Target, check_target
from nano_init.launch.training_options import TrainingOptions, parse_training_options
from nano_init.machine.probe import probe
from nano_init.plan.build import read_build
from nano_init.plan.decide import decide, parse_threads
from nano_init.plan.precision import cause_of, check_precision, slow_precision
from nano_init.plan.settings import Options
from nano_init.shells.transition import original

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nano_init.cli.job_options import JobOptions
    from nano_init.plan.settings import Plan

__all__ = ["RunRequest", "main", "run"]

PROGRAM = "nano-run"

_FLAGS = ("--dry-run", "--quiet", "-q", "--force", "--pin", "--lazy-adam", "-m")
_LISTS = ("--disable",)
_VALUES = ("--precision", "--threads", "--allocator", "--steps-per-execution", *_LISTS)
# Left to click: what may be repeated, and what makes a job of the script.
_LEFT = (
    "--keep-float32",
    "--nproc-per-node",
    "--nproc_per_node",
    "--nnodes",
    "--node-rank",
    "--node_rank",
    "--master-addr",
    "--master_addr",
    "--master-port",
    "--master_port",
    "--start-timeout",
    "--start_timeout",
    "--max-restarts",
    "--max_restarts",
    "--log-dir",
    "--log_dir",
    "--sysroot",
)
_PRECISION = "NANO_RUN_PRECISION"


@frozen
class RunRequest:
    """One call of `nano-run`."""

    target: Target
    options: Options
    dry_run: bool = False
    quiet: bool = False
    keep_float32: tuple[str, ...] = ()
    training: TrainingOptions = TrainingOptions()
    job: JobOptions | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and become the program that it names.

    Args:
        argv: the arguments; the process's own by default.

    Returns:
        The exit code where no program is started.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return exit_code_of(PROGRAM, lambda: _answer(arguments))


def run(request: RunRequest, environ: Mapping[str, str] = os.environ) -> int:
    """Become the program of a request, or print how that would be done.

    Raises:
        NanoError: the program cannot be started as asked.
    """
    asked = check_precision(request.options.precision)
    _check_patterns(request.keep_float32)
    check_target(request.target)
    # What a sourced bigdl-nano-init has set is ours to decide anew, not the user's own.
    theirs, _ = original(environ)
    is_job = request.job is not None and request.job.is_asked
    if request.job is not None and is_job:
        from nano_init.cli.job import run_workers

        status = run_workers(request, request.job, theirs)
        if status is not None:
            return status
    library = find_library(request.options.allocator, theirs)
    plan = decide(probe(environ=theirs), theirs, request.options, read_build(), library)
    precision = plan.precision.recommended if asked == "auto" else asked
    command = prepare_command(
        request.target,
        plan,
        precision,
        theirs,
        sys.executable,
        keep_float32=request.keep_float32,
        training=request.training,
    )
    if theirs.get("TF_CONFIG") and not is_job:
        from nano_init.cli.cluster import join_cluster

        command = join_cluster(command, theirs, request.job)
    choice = "; ".join([_choice(plan, asked, precision), *request.training.describe()])
    if request.dry_run:
        lines = _explain(plan, choice, request.training.warning)
        write_output(os.fsencode(lines + format_command(command)))
        return 0
    if not request.quiet:
        _announce(plan, choice)
    if request.training.warning:
        say(PROGRAM, f"warning: {request.training.warning}")
    return execute(command, theirs)


def _answer(arguments: list[str]) -> int:
    arguments = _split_module(arguments)
    request = _parse_plain_request(arguments, os.environ)
    if request is not None:
        return run(request)
    from nano_init.cli.command import run_command
    from nano_init.cli.run_options import PYTHON_OPTIONS, nano_run

    return run_command(nano_run, arguments, PROGRAM, PYTHON_OPTIONS)


def _split_module(arguments: list[str]) -> list[str]:
    """Let `-mMODULE` stand for `-m MODULE`, as it does for Python."""
    for position, argument in enumerate(arguments):
        if argument[:2] == "-m" != argument:
            return [*arguments[:position], "-m", argument[2:], *arguments[position + 1 :]]
        is_value = position > 0 and arguments[position - 1] in (*_VALUES, *_LEFT)
        if not is_value and (argument in ("-", "--") or not argument.startswith("-")):
            break
    return arguments


def _parse_plain_request(argv: Sequence[str], environ: Mapping[str, str]) -> RunRequest | None:
    # The one twin that `nano-init --precision` leaves in a shell; click reads the others.
    if any(name.startswith("NANO_RUN_") and name != _PRECISION for name in environ):
        return None
    parsed = parse_plain(argv, _FLAGS, _VALUES, _LISTS)
    if parsed is None or not parsed[1]:
        return None
    options, (name, *arguments) = parsed
    threads = options.get("--threads")
    return RunRequest(
        Target(name, tuple(arguments), is_module="-m" in options),
        Options(
            threads=None if threads is None else parse_threads(threads),
            precision=options.get("--precision", environ.get(_PRECISION) or "auto"),
            allocator=options.get("--allocator", "none"),
            pin="--pin" in options,
            force="--force" in options,
        ),
        dry_run="--dry-run" in options,
        quiet="--quiet" in options or "-q" in options,
        training=parse_training_options(
            [options.get("--disable", "")],
            lazy_adam="--lazy-adam" in options,
            steps=options.get("--steps-per-execution"),
        ),
    )


def _check_patterns(patterns: tuple[str, ...]) -> None:
    if patterns:
        from nano_init.keras_patch.kept_layers import parse_keep_float32

        parse_keep_float32(patterns)


def _announce(plan: Plan, choice: str) -> None:
    say(PROGRAM, f"{choice}; threads {plan.threads.reason}")
    for warning in plan.warnings:
        say(PROGRAM, f"warning: {warning}")


def _choice(plan: Plan, asked: str, precision: str) -> str:
    if asked == "auto":
        return f"{precision}: {cause_of(plan.precision)}"
    slow = slow_precision(precision, plan.precision)
    return f"{precision}, as asked" + (f"; warning: {slow}" if slow else "")


def _explain(plan: Plan, choice: str, warning: str | None) -> str:
    lines = [choice, f"threads {plan.threads.reason}"]
    lines += [f"{s.name}: {s.reason}" for s in plan.settings]
    warnings = [*plan.warnings, *([warning] if warning else [])]
    lines += [f"warning: {sentence}" for sentence in warnings]
    return "".join(f"# {line}\n" for line in lines)
