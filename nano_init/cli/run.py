"""`nano-run`: run a Python program as fast as this machine allows."""

from __future__ import annotations

import os
import sys

from nano_init.cli.outcome import exit_code_of, write_output
from nano_init.cli.plain import parse_plain
from nano_init.cli.planning import find_library
from nano_init.errors import UsageError
from nano_init.frozen import frozen
from nano_init.launch.command import format_command, prepare_command
from nano_init.launch.execute import execute
from nano_init.machine.probe import probe
from nano_init.message import say
from nano_init.plan.build import read_build
from nano_init.plan.decide import decide, parse_threads
from nano_init.plan.precision import cause_of, check_precision, slow_precision
from nano_init.plan.settings import Options
from nano_init.protocol.patch_options import TrainingOptions, parse_training_options
from nano_init.protocol.target import Target, check_target
from nano_init.shells.transition import original

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nano_init.cli.evidence_options import EvidenceRequest
    from nano_init.cli.job_options import JobOptions
    from nano_init.evidence.tuning.cache import Recalled
    from nano_init.launch.command import Command
    from nano_init.machine.facts import Machine
    from nano_init.plan.build import Build
    from nano_init.plan.configuration import Configuration
    from nano_init.plan.settings import Plan

__all__ = [
    "Prepared",
    "RunRequest",
    "announce",
    "describe_choice",
    "finish",
    "leaves_all_open",
    "main",
    "prepare",
    "run",
]

PROGRAM = "nano-run"

_FLAGS = ("--dry-run", "--quiet", "-q", "--force", "--pin", "--lazy-adam", "-m")
_LISTS = ("--disable",)
_VALUES = ("--precision", "--threads", "--allocator", "--steps-per-execution", *_LISTS)
# Left to click: what may be repeated, what makes a job of the script, and what samples it.
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
    "--sample-steps",
    "--sample-rounds",
    "--sample-seconds",
    "--tune-budget",
)
_PRECISION = "NANO_RUN_PRECISION"


@frozen
class RunRequest:
    """One call of `nano-run`.

    Args:
        target: the program.
        options: what the user asked of the environment and the precision.
        dry_run: print how the program would be run.
        quiet: say nothing about what was chosen.
        keep_float32: patterns of the layers that stay in float32.
        training: what else is asked of training.
        job: what is asked of several workers.
        evidence: what is to be measured.
        use_cache: use and remember what was measured.
        measures_precision: `--precision auto` was given, and not left to be the default.
    """

    target: Target
    options: Options
    dry_run: bool = False
    quiet: bool = False
    keep_float32: tuple[str, ...] = ()
    training: TrainingOptions = TrainingOptions()
    job: JobOptions | None = None
    evidence: EvidenceRequest | None = None
    use_cache: bool = True
    measures_precision: bool = False


@frozen
class Prepared:
    """All that was decided for a request.

    Args:
        machine: the computer.
        plan: the environment's variables.
        asked: the precision that was asked for.
        precision: the one that was chosen.
        command: the process to become.
        environ: this process's environment without what nano-init set in it before.
        training: what else was asked of training.
        tuned: how the choice was measured, in a phrase; "" if it was not.
    """

    machine: Machine
    plan: Plan
    asked: str
    precision: str
    command: Command
    environ: Mapping[str, str]
    training: TrainingOptions
    tuned: str = ""


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
    is_job = request.job is not None and request.job.is_asked
    if request.evidence is not None and request.evidence.measures:
        from nano_init.run.measure import gather

        if is_job:
            raise UsageError("a sample is of one process; leave out either it or the workers")
        return gather(request, request.evidence, environ)
    if request.job is not None and is_job:
        status = _run_job(request, request.job, environ)
        if status is not None:
            return status
    return finish(request, prepare(request, environ))


def finish(request: RunRequest, prepared: Prepared) -> int:
    """Become a program, or print how that would be done.

    Raises:
        NanoError: the program cannot be started.
    """
    command = prepared.command
    is_job = request.job is not None and request.job.is_asked
    if prepared.environ.get("TF_CONFIG") and not is_job:
        from nano_init.run.cluster_member import join_cluster

        command = join_cluster(command, prepared.environ, request.job)
    if request.dry_run:
        write_output(os.fsencode(_explain(prepared) + format_command(command)))
        return 0
    if not request.quiet:
        announce(prepared)
    if request.training.warning:
        say(PROGRAM, f"warning: {request.training.warning}")
    return execute(command, prepared.environ)


def prepare(
    request: RunRequest, environ: Mapping[str, str], chosen: Configuration | None = None
) -> Prepared:
    """Decide how the program of a request is run.

    Args:
        request: the program, and what the user asked for.
        environ: this process's environment.
        chosen: the configuration to run it in; None for the one that was measured to be the
            fastest for this script, if there is one, or else what fits the machine.

    Raises:
        NanoError: the program cannot be started as asked.
    """
    asked = check_precision(request.options.precision)
    _check_patterns(request.keep_float32)
    check_target(request.target)
    # What a sourced bigdl-nano-init has set is ours to decide anew, not the user's own.
    theirs, _ = original(environ)
    machine, build = probe(environ=theirs), read_build()
    tuned = signature = ""
    if chosen is None and leaves_all_open(request):
        found = _recall(request, machine, build, theirs)
        chosen, tuned, signature = found.configuration, found.note, found.signature
    options, training = request.options, request.training
    if chosen is not None:
        options, training = chosen.options(options), chosen.training(training)
    plan = _plan(request, options, chosen, machine, build, theirs)
    precision = plan.precision.recommended if options.precision == "auto" else options.precision
    kept, python = request.keep_float32, sys.executable
    command = prepare_command(
        request.target, plan, precision, theirs, python, keep_float32=kept, training=training
    )
    if signature:
        command = _expecting(command, signature)
    return Prepared(machine, plan, asked, precision, command, theirs, training, tuned)


def _plan(
    request: RunRequest,
    options: Options,
    chosen: Configuration | None,
    machine: Machine,
    build: Build | None,
    theirs: Mapping[str, str],
) -> Plan:
    """Return the plan for the machine, changed by what was measured on it."""
    plan = decide(machine, theirs, options, build, find_library(options.allocator, theirs))
    if chosen is not None:
        from nano_init.plan.configuration import with_configuration

        return with_configuration(plan, chosen, theirs)
    if request.measures_precision:
        from nano_init.run.measured_precision import with_measured_precision

        return with_measured_precision(request, plan, machine, build, theirs)
    return plan


def _run_job(request: RunRequest, job: JobOptions, environ: Mapping[str, str]) -> int | None:
    """Run the program on several workers; return None where it turns out to be one process."""
    from nano_init.run.job_workers import run_workers

    check_precision(request.options.precision)
    _check_patterns(request.keep_float32)
    check_target(request.target)
    theirs, _ = original(environ)
    return run_workers(request, job, theirs)


def leaves_all_open(request: RunRequest) -> bool:
    """Say whether the user left to nano-run what a tuned choice decides."""
    given = request.options
    return (
        request.use_cache
        and (given.precision, given.allocator, given.threads) == ("auto", "none", None)
        and not (given.pin or request.keep_float32 or request.training.disable)
    )


def _recall(
    request: RunRequest, machine: Machine, build: Build | None, environ: Mapping[str, str]
) -> Recalled:
    from nano_init.evidence.tuning.cache import Recalled, describe_key, has_entries, recall

    if not has_entries(environ):
        return Recalled()
    lazy_adam = request.training.lazy_adam
    key = describe_key(request.target, machine, build, environ, lazy_adam=lazy_adam)
    found = recall(key, environ)
    if found.fault and not request.quiet:
        say(PROGRAM, found.fault)
    if found.configuration is None or not request.training.steps_per_execution:
        return found
    steps = str(request.training.steps_per_execution)  # what is asked for now comes first
    return Recalled(found.configuration.with_steps(steps), found.note, "", found.signature)


def _expecting(command: Command, signature: str) -> Command:
    """Let the program say if its model is not the one that the choice was measured on."""
    from nano_init.instrumentation.model_check import SIGNATURE_VARIABLE
    from nano_init.launch.command import Command
    from nano_init.protocol.model_signature import digest_signature

    return Command(
        command.argv, {**command.variables, SIGNATURE_VARIABLE: digest_signature(signature)}
    )


def announce(prepared: Prepared) -> None:
    """Say in one line on stderr what was chosen, and what the user should be warned of."""
    say(PROGRAM, f"{describe_choice(prepared)}; threads {prepared.plan.threads.reason}")
    for warning in prepared.plan.warnings:
        say(PROGRAM, f"warning: {warning}")


def describe_choice(prepared: Prepared) -> str:
    """Return the chosen precision with its reason, and what else changes how it trains."""
    return "; ".join([_describe_precision(prepared), *prepared.training.describe()])


def _describe_precision(prepared: Prepared) -> str:
    choice = prepared.plan.precision
    if prepared.tuned:
        return prepared.tuned
    if prepared.asked == "auto":
        return f"{prepared.precision}: {cause_of(choice)}"
    slow = slow_precision(prepared.precision, choice)
    return f"{prepared.precision}, as asked" + (f"; warning: {slow}" if slow else "")


def _answer(arguments: list[str]) -> int:
    arguments = _split_module(_split_report(arguments))
    request = _parse_plain_request(arguments, os.environ)
    if request is not None:
        return run(request)
    from nano_init.cli.click_command import run_command
    from nano_init.cli.run_options import PYTHON_OPTIONS, nano_run

    return run_command(nano_run, arguments, PROGRAM, PYTHON_OPTIONS)


def _split_module(arguments: list[str]) -> list[str]:
    """Let `-mMODULE` stand for `-m MODULE`, as it does for Python."""
    for position, argument in _own(arguments):
        if argument[:2] == "-m" != argument:
            return [*arguments[:position], "-m", argument[2:], *arguments[position + 1 :]]
    return arguments


def _split_report(arguments: list[str]) -> list[str]:
    """Let `--report` without a file be `--report=`, or click would take the script for it."""
    for position, argument in _own(arguments):
        if argument == "--report":
            return [*arguments[:position], "--report=", *arguments[position + 1 :]]
    return arguments


def _own(arguments: list[str]) -> Iterator[tuple[int, str]]:
    """Give the arguments that stand before the program's, with their positions."""
    values = (*_VALUES, *_LEFT)
    for position, argument in enumerate(arguments):
        is_value = position > 0 and arguments[position - 1] in values
        if not is_value and (argument in ("-", "--") or not argument.startswith("-")):
            return
        yield position, argument


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
        measures_precision=options.get("--precision", environ.get(_PRECISION)) == "auto",
    )


def _check_patterns(patterns: tuple[str, ...]) -> None:
    if patterns:
        from nano_init.keras_patch.kept_layers import parse_keep_float32

        parse_keep_float32(patterns)


def _explain(prepared: Prepared) -> str:
    plan = prepared.plan
    lines = [describe_choice(prepared), f"threads {plan.threads.reason}"]
    lines += [f"{s.name}: {s.reason}" for s in plan.settings]
    warning = prepared.training.warning
    warnings = [*plan.warnings, *([warning] if warning else [])]
    lines += [f"warning: {sentence}" for sentence in warnings]
    return "".join(f"# {line}\n" for line in lines)
