"""`nano-run --tune`: search, say what was found, and remember it."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from functools import partial

from nano_init.cli.planning import find_library
from nano_init.cli.run import PROGRAM, leaves_all_open, prepare
from nano_init.errors import SampleError, ScriptError, UsageError
from nano_init.evidence.sampling.sample import SILENCED, Request, adopting
from nano_init.evidence.tuning.cache import describe_key, remember
from nano_init.evidence.tuning.clock import Clock
from nano_init.evidence.tuning.decision import trial_to_json
from nano_init.evidence.tuning.fork_server import Nursery, start_process
from nano_init.evidence.tuning.local_trial_runner import MachineStage
from nano_init.evidence.tuning.pausable_training import LiveTraining
from nano_init.evidence.tuning.search import search
from nano_init.launch.locale_coercion import without_coercion
from nano_init.message import say
from nano_init.plan.build import read_build
from nano_init.plan.configuration import Choices, Configuration, first_candidates
from nano_init.run.progress import show_progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import psutil

    from nano_init.cli.evidence_options import EvidenceRequest
    from nano_init.cli.run import Prepared, RunRequest
    from nano_init.evidence.tuning.fork_server import Process, Wanted
    from nano_init.evidence.tuning.search import Found

__all__ = ["search_configuration", "tuned"]

# An entry's note stands in the line that every later run prints.
_NOTE = "{configuration}: {gain}, measured on this script by --tune on {date}"


def tuned(request: RunRequest, evidence: EvidenceRequest, environ: Mapping[str, str]) -> Prepared:
    """Return how the program is run fastest; where it cannot be sampled, how it is run at all.

    Args:
        request: the program, and what the user asked for.
        evidence: how long a search and its samples may be.
        environ: this process's environment.

    Raises:
        NanoError: the program cannot be started as asked.
    """
    _check_nothing_is_decided(request)
    plain = prepare(_without_cache(request), environ)
    if request.target.is_stdin:
        return _untuned(request, environ, "a program on stdin can be read once only")
    try:
        found = search_configuration(request, evidence, environ, plain)
    except SampleError as error:
        if isinstance(error.__cause__, ScriptError):
            return _in_float32(request, environ, plain, error)
        return _untuned(request, environ, str(error))
    if not request.quiet:
        _tell(found)
    gain = f"{found.gain:.2f} times as fast as by default"
    if found.gain < 1.005:
        gain = "no other whose loss is float32's was faster"
    note = _NOTE.format(configuration=found.winner, gain=gain, date=time.strftime("%Y-%m-%d"))
    if evidence.use_cache and leaves_all_open(request):
        _remember(request, plain, found, note)
    prepared = prepare(request, environ, found.winner)
    return _with_note(prepared, note)


def search_configuration(
    request: RunRequest, evidence: EvidenceRequest, environ: Mapping[str, str], plain: Prepared
) -> Found:
    """Train the program of a request in several configurations, with a progress bar.

    Args:
        request: the program.
        evidence: how long the search may be.
        environ: this process's environment.
        plain: how the program would be run without tuning.

    Raises:
        SampleError: it cannot be sampled.
    """
    choices = choices_of(request, plain)
    clock = Clock(evidence.tune_budget, time.monotonic, plain.plan.threads.usable_cores)
    label = f"{PROGRAM}: tuning, {evidence.tune_budget:.0f} s at most"
    length = round(evidence.tune_budget)
    with show_progress(label, length, quiet=request.quiet) as progress:

        def tick() -> None:
            progress.update(length - round(max(0.0, clock.left())) - progress.pos)

        with staged(request, environ, plain, clock, tick) as stage:
            return search(
                first_candidates(precisions_of(plain), choices.steps, plain.environ),
                Configuration(plain.precision, steps=choices.steps),
                choices.beside,
                stage,
                clock,
            )


def precisions_of(plain: Prepared) -> tuple[str, ...]:
    """Return the precisions to try, "float32" first."""
    if plain.plan.precision.recommended == "mixed_bfloat16":
        return ("float32", "mixed_bfloat16")
    return ("float32",)


def choices_of(request: RunRequest, plain: Prepared) -> Choices:
    """Return what may be varied for a request."""
    allocators = tuple(n for n in ("jemalloc", "tcmalloc") if find_library(n, plain.environ))
    steps = str(request.training.steps_per_execution or "")
    return Choices(plain.plan.threads.usable_cores, allocators, steps, plain.environ)


@contextmanager
def staged(
    request: RunRequest,
    environ: Mapping[str, str],
    plain: Prepared,
    clock: Clock,
    tick: Callable[[], None] = lambda: None,
) -> Iterator[MachineStage]:
    """Give where the program of a request is trained in any configuration; then end all of it.

    Args:
        request: the program.
        environ: this process's environment.
        plain: how the program would be run without tuning.
        clock: the time that there is.
        tick: called whenever something has taken a while.
    """
    left_alone = _without_cache(request)

    def launch(configuration: Configuration, seed: int, may_share: bool) -> LiveTraining:
        argv, theirs = _process_of(prepare(left_alone, environ, configuration))
        start: Callable[[Wanted], Process] = start_process
        if may_share and nursery.suits(theirs):
            start = partial(nursery.fork, seconds=clock.patience())
        return LiveTraining(argv, theirs, Request(seed=seed), start)

    with adopting():
        nursery = Nursery(sys.executable, _process_of(plain)[1])
        try:
            cores = plain.plan.threads.usable_cores
            limit = plain.machine.limits.memory_bytes
            yield MachineStage(launch, cores, lambda: _free_bytes(limit), clock.patience, tick)
        finally:
            nursery.close()


def _process_of(prepared: Prepared) -> tuple[tuple[str, ...], dict[str, str]]:
    theirs = prepared.command.environment(without_coercion(prepared.environ))
    return prepared.command.argv, {**theirs, **SILENCED}


def _free_bytes(limit: int | None) -> float:
    """Return the memory that is free, of the machine's and of a container's."""
    import psutil

    memory = psutil.virtual_memory()
    if limit is None:
        return float(memory.available)
    children = psutil.Process().children(recursive=True)
    return float(min(memory.available, limit - sum(map(_resident, children))))


def _resident(process: psutil.Process) -> int:
    from psutil import Error

    try:
        return int(process.memory_info().rss)
    except Error:  # it has just ended
        return 0


def _check_nothing_is_decided(request: RunRequest) -> None:
    given = request.options
    for option, is_given in (
        ("--precision", given.precision != "auto"),
        ("--allocator", given.allocator != "none"),
    ):
        if is_given:
            raise UsageError(f"--tune chooses what {option} decides; give one")


def _without_cache(request: RunRequest) -> RunRequest:
    values = {**vars(request), "use_cache": False, "measures_precision": False}
    return type(request)(**values)


def _untuned(request: RunRequest, environ: Mapping[str, str], why: str) -> Prepared:
    """Return how it is run without a search: as remembered, or as matrix products speak for."""
    say(PROGRAM, f"not tuned: {why}")
    values = {**vars(request), "measures_precision": True}
    return prepare(type(request)(**values), environ)


def _in_float32(
    request: RunRequest, environ: Mapping[str, str], plain: Prepared, error: SampleError
) -> Prepared:
    """Return how it is run where it fails in the default and not in float32."""
    say(PROGRAM, f"not tuned: {error}")
    remembered = prepare(request, environ)
    if remembered.tuned and remembered.precision == "float32":
        return remembered
    steps = choices_of(request, plain).steps
    prepared = prepare(request, environ, Configuration("float32", steps=steps))
    return _with_note(prepared, f"float32: in {plain.precision} {error.__cause__}")


def _with_note(prepared: Prepared, note: str) -> Prepared:
    return type(prepared)(**{**vars(prepared), "tuned": note})


def _remember(request: RunRequest, plain: Prepared, found: Found, note: str) -> None:
    lazy_adam = request.training.lazy_adam
    key = describe_key(
        request.target, plain.machine, read_build(), plain.environ, lazy_adam=lazy_adam
    )
    if key is None:
        say(PROGRAM, "the choice is for this run: its file cannot be known again")
        return
    trials = [trial_to_json(trial) for trial in found.trials]
    fault = remember(key, found.winner, note, found.signature, plain.environ, trials)
    if fault:
        say(PROGRAM, fault)


def _tell(found: Found) -> None:
    for trial in found.trials:
        name = str(trial.configuration)
        if not trial.heats:
            say(PROGRAM, f"tried {name}: {trial.fault or 'the time was over before a round'}")
            continue
        reason = "" if trial.is_sound else f"; {found.objection}"
        say(
            PROGRAM,
            f"tried {name}: {trial.step_seconds * 1000:.2f} ms a step, {1 / trial.ratio:.2f} "
            f"times as fast as the default ({_count(trial.rounds, 'round')}){reason}",
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
