"""`nano-run --tune`: search, say what was found, and remember it."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from functools import partial

from nano_init.errors import SampleError, ScriptError, UsageError
from nano_init.evidence.sampling.sample import SILENCED, SampleRequest, adopting
from nano_init.evidence.tuning.cache import describe_key, remember
from nano_init.evidence.tuning.clock import Clock
from nano_init.evidence.tuning.decision import trial_to_json
from nano_init.evidence.tuning.fork_server import ForkServer, start_process
from nano_init.evidence.tuning.local_trial_runner import LocalTrialRunner
from nano_init.evidence.tuning.pausable_training import PausableTraining
from nano_init.evidence.tuning.search import search
from nano_init.evidence.tuning.search_space import Choices, first_candidates
from nano_init.frozen import replace
from nano_init.launch.locale_coercion import without_locale_coercion
from nano_init.message import NANO_RUN, say
from nano_init.plan.configuration import Configuration
from nano_init.run.progress import show_progress
from nano_init.run.single_run import may_use_tuned_choice, prepare
from nano_init.survey import with_allocator
from nano_init.text import count_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psutil

    from nano_init.evidence.tuning.fork_server import Process, TrainingCommand
    from nano_init.evidence.tuning.search import Found
    from nano_init.run.request import RunRequest
    from nano_init.run.single_run import RunPlan
    from nano_init.survey import Surroundings

__all__ = ["choices_of", "precisions_of", "search_configuration", "trial_runner", "tuned"]

_ALLOCATORS = ("jemalloc", "tcmalloc")

# Every later run prints an entry's note in its first line.
_NOTE = "{configuration}: {gain}, measured on this script by --tune on {date}"


def tuned(request: RunRequest, surroundings: Surroundings) -> RunPlan:
    """Return how the program is run fastest; where it cannot be sampled, how it is run at all.

    Args:
        request: the program, what the user asked for, and how long a search may be.
        surroundings: what was read for the request.

    Raises:
        NanoError: the program cannot be started as asked.
    """
    _check_nothing_is_decided(request)
    for allocator in _ALLOCATORS:
        surroundings = with_allocator(surroundings, allocator)
    plain = prepare(_without_cache(request), surroundings)
    if request.target.is_stdin:
        return _untuned(request, surroundings, "a program on stdin can be read only once")
    try:
        found = search_configuration(request, plain)
    except SampleError as error:
        if isinstance(error.__cause__, ScriptError):
            return _in_float32(request, plain, error)
        return _untuned(request, surroundings, str(error))
    if not request.quiet:
        _report_trials(found)
    gain = f"{found.gain:.2f} times as fast as the default"
    if found.gain < 1.005:
        gain = "no other configuration with float32's loss was faster"
    note = _NOTE.format(configuration=found.winner, gain=gain, date=time.strftime("%Y-%m-%d"))
    if may_use_tuned_choice(request):
        _remember(request, plain, found, note)
    return replace(prepare(request, surroundings, found.winner), tuned=note)


def search_configuration(request: RunRequest, plain: RunPlan) -> Found:
    """Train the program of a request in several configurations, with a progress bar.

    Args:
        request: the program, and how long the search may be.
        plain: how the program would be run without tuning.

    Raises:
        SampleError: it cannot be sampled.
    """
    choices, budget = choices_of(request, plain), request.evidence.tune_budget
    clock = Clock(budget, time.monotonic, plain.plan.threads.usable_cores)
    label = f"{NANO_RUN}: tuning, {budget:.0f} s at most"
    length = round(budget)
    with show_progress(label, length, quiet=request.quiet) as progress:

        def tick() -> None:
            progress.update(length - round(max(0.0, clock.left())) - progress.pos)

        with trial_runner(request, plain, clock, tick) as runner:
            return search(
                first_candidates(precisions_of(plain), choices.steps, choices.environ),
                Configuration(plain.patch.precision, steps=choices.steps),
                choices.beside,
                runner,
                clock,
            )


def precisions_of(plain: RunPlan) -> tuple[str, ...]:
    """Return the precisions to try, "float32" first."""
    if plain.plan.precision.recommended == "mixed_bfloat16":
        return ("float32", "mixed_bfloat16")
    return ("float32",)


def choices_of(request: RunRequest, plain: RunPlan) -> Choices:
    """Return what may be varied for a request."""
    known = plain.surroundings
    allocators = tuple(name for name in _ALLOCATORS if known.libraries.get(name))
    steps = str(request.patch.steps_per_execution or "")
    return Choices(plain.plan.threads.usable_cores, allocators, steps, known.user_environ)


@contextmanager
def trial_runner(
    request: RunRequest,
    plain: RunPlan,
    clock: Clock,
    tick: Callable[[], None] = lambda: None,
) -> Iterator[LocalTrialRunner]:
    """Give what trains the program of a request in any configuration; then end all of it.

    Args:
        request: the program.
        plain: how the program would be run without tuning.
        clock: the time that there is.
        tick: called whenever something has taken a while.
    """
    left_alone = _without_cache(request)

    def launch(configuration: Configuration, seed: int, may_share: bool) -> PausableTraining:
        argv, environ = _process_of(prepare(left_alone, plain.surroundings, configuration))
        start: Callable[[TrainingCommand], Process] = start_process
        if may_share and fork_server.suits(environ):
            start = partial(fork_server.fork, seconds=clock.patience())
        return PausableTraining(argv, environ, SampleRequest(seed=seed), start)

    with adopting():
        fork_server = ForkServer(sys.executable, _process_of(plain)[1])
        try:
            cores = plain.plan.threads.usable_cores
            limit = plain.surroundings.machine.limits.memory_bytes
            yield LocalTrialRunner(launch, cores, lambda: _free_bytes(limit), clock.patience, tick)
        finally:
            fork_server.close()


def _process_of(prepared: RunPlan) -> tuple[tuple[str, ...], dict[str, str]]:
    environ = without_locale_coercion(prepared.surroundings.user_environ)
    return prepared.command.argv, {**prepared.command.environment(environ), **SILENCED}


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
    for option, is_given in (
        ("--precision", request.patch.precision != "auto"),
        ("--allocator", request.options.allocator != "none"),
    ):
        if is_given:
            raise UsageError(f"--tune chooses the value of {option} and cannot be combined with it")


def _without_cache(request: RunRequest) -> RunRequest:
    return replace(request, use_cache=False, measures_precision=False)


def _untuned(request: RunRequest, surroundings: Surroundings, why: str) -> RunPlan:
    """Return how it is run without a search: as remembered, or as the matmul benchmark favours."""
    say(NANO_RUN, f"not tuned: {why}")
    return prepare(replace(request, measures_precision=True), surroundings)


def _in_float32(request: RunRequest, plain: RunPlan, error: SampleError) -> RunPlan:
    """Return how it is run where it fails in the default and not in float32."""
    say(NANO_RUN, f"not tuned: {error}")
    remembered = prepare(request, plain.surroundings)
    if remembered.tuned and remembered.patch.precision == "float32":
        return remembered
    configuration = Configuration("float32", steps=choices_of(request, plain).steps)
    prepared = prepare(request, plain.surroundings, configuration)
    return replace(prepared, tuned=f"float32: in {plain.patch.precision} {error.__cause__}")


def _remember(request: RunRequest, plain: RunPlan, found: Found, note: str) -> None:
    known = plain.surroundings
    key = describe_key(request.target, known, lazy_adam=request.patch.lazy_adam)
    if key is None:
        say(
            NANO_RUN,
            "the choice applies to this run only: the script cannot be identified in later runs",
        )
        return
    trials = [trial_to_json(trial) for trial in found.trials]
    fault = remember(key, found.winner, note, found.signature, known.user_environ, trials)
    if fault:
        say(NANO_RUN, fault)


def _report_trials(found: Found) -> None:
    for trial in found.trials:
        name = str(trial.configuration)
        if not trial.runs:
            say(NANO_RUN, f"tried {name}: {trial.fault or 'not measured: time ran out'}")
            continue
        reason = "" if trial.is_sound else f"; {found.objection}"
        say(
            NANO_RUN,
            f"tried {name}: {trial.step_seconds * 1000:.2f} ms/step, {1 / trial.ratio:.2f} "
            f"times as fast as the default ({count_of(trial.rounds, 'round')}){reason}",
        )
