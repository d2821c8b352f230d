"""`nano-run --tune`: search, say what was found, and remember it."""

from __future__ import annotations

import time

from nano_init.cli.message import say
from nano_init.cli.planning import find_library
from nano_init.cli.progress import show_progress
from nano_init.cli.run import PROGRAM, leaves_all_open, prepare
from nano_init.errors import SampleError, UsageError
from nano_init.evidence.cache import describe_key, remember
from nano_init.evidence.configuration import Configuration, first_candidates, neighbours
from nano_init.evidence.sample import Request, take_sample
from nano_init.evidence.search import Clock, search
from nano_init.evidence.tensorflow_facts import examine_tensorflow
from nano_init.frozen import frozen
from nano_init.launch.coercion import without_coercion
from nano_init.plan.build import read_build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.cli.evidence_options import EvidenceRequest
    from nano_init.cli.run import Prepared, RunRequest
    from nano_init.evidence.sample import Sample
    from nano_init.evidence.search import Found

__all__ = ["search_configuration", "tuned"]

# A unit must multiply this much faster than float32 before bfloat16 is taken unsampled.
_LEAST_GAIN = 1.1

_MORE_STEPS = 10

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
    if request.target.name == "-" and not request.target.is_module:
        return _untuned(request, environ, plain, "a program on stdin can be read once only")
    try:
        found = search_configuration(request, evidence, environ, plain)
    except SampleError as error:
        return _untuned(request, environ, plain, str(error))
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


@frozen
class _Taker:
    """Takes samples of a request's program in any configuration."""

    request: RunRequest
    evidence: EvidenceRequest
    environ: Mapping[str, str]

    def __call__(self, configuration: Configuration, seed: int, bound: float | None) -> Sample:
        prepared = prepare(self.request, self.environ, configuration)
        wanted = Request(
            # Most of a sample is its start: more steps cost little, up to a share of the budget.
            steps=_MORE_STEPS * self.evidence.steps,
            seconds=min(self.evidence.seconds, self.evidence.tune_budget / 30),
            start_seconds=max(30.0, self.evidence.tune_budget),
            seed=seed,
            bound=bound,
        )
        theirs = without_coercion(prepared.environ)
        return take_sample(prepared.command.argv, prepared.command.environment(theirs), wanted)


def search_configuration(
    request: RunRequest, evidence: EvidenceRequest, environ: Mapping[str, str], plain: Prepared
) -> Found:
    """Sample the program of a request in several configurations, with a progress bar.

    Args:
        request: the program.
        evidence: how long the search and its samples may be.
        environ: this process's environment.
        plain: how the program would be run without tuning.

    Raises:
        SampleError: it cannot be sampled.
    """
    theirs = plain.environ
    precisions: tuple[str, ...] = ("float32",)
    if plain.plan.precision.recommended == "mixed_bfloat16":
        precisions += ("mixed_bfloat16",)
    allocators = tuple(n for n in ("jemalloc", "tcmalloc") if find_library(n, theirs))
    clock = Clock(evidence.tune_budget, time.monotonic)
    taker = _Taker(_without_cache(request), evidence, environ)
    label = f"{PROGRAM}: tuning, {evidence.tune_budget:.0f} s at most"
    length = round(evidence.tune_budget)
    with show_progress(label, length, quiet=request.quiet) as progress:

        def take(configuration: Configuration, seed: int, bound: float | None) -> Sample:
            begun = time.monotonic()
            try:
                return taker(configuration, seed, bound)
            finally:
                progress.update(round(time.monotonic() - begun))

        return search(
            first_candidates(precisions, theirs),
            Configuration(plain.precision),
            lambda best: neighbours(best, plain.plan.threads.usable_cores, allocators, theirs),
            take,
            clock,
        )


def _check_nothing_is_decided(request: RunRequest) -> None:
    given = request.options
    for option, is_given in (
        ("--precision", given.precision != "auto"),
        ("--allocator", given.allocator != "none"),
    ):
        if is_given:
            raise UsageError(f"--tune chooses what {option} decides; give one")


def _without_cache(request: RunRequest) -> RunRequest:
    values = {**vars(request), "use_cache": False}
    return type(request)(**values)


def _untuned(
    request: RunRequest, environ: Mapping[str, str], plain: Prepared, why: str
) -> Prepared:
    """Return the plan without samples, its precision held against a short measurement."""
    say(PROGRAM, f"not tuned: {why}")
    if plain.precision != "mixed_bfloat16":
        return plain
    gain = examine_tensorflow(without_coercion(plain.environ)).bf16_gain
    if gain is None:
        return plain
    measured = f"matrix products measured {gain:.2f} times as fast in bfloat16 as in float32 here"
    precision = "mixed_bfloat16" if gain >= _LEAST_GAIN else "float32"
    prepared = prepare(_without_cache(request), environ, Configuration(precision))
    return _with_note(prepared, f"{precision}: {measured}")


def _with_note(prepared: Prepared, note: str) -> Prepared:
    return type(prepared)(**{**vars(prepared), "tuned": note})


def _remember(request: RunRequest, plain: Prepared, found: Found, note: str) -> None:
    key = describe_key(request.target, plain.machine, read_build(), plain.environ)
    if key is None:
        say(PROGRAM, "the choice is for this run: only a script in a file is known again")
        return
    fault = remember(key, found.winner, note, found.signature, plain.environ)
    if fault:
        say(PROGRAM, fault)


def _tell(found: Found) -> None:
    for trial in found.trials:
        name = str(trial.configuration)
        if trial.fault:
            say(PROGRAM, f"tried {name}: {trial.fault}")
            continue
        reason = (
            "; its loss departs from float32's" if trial.configuration in found.rejected else ""
        )
        samples = f"{len(trial.samples)} sample{'' if len(trial.samples) == 1 else 's'}"
        say(PROGRAM, f"tried {name}: {trial.step_time * 1000:.2f} ms a step ({samples}){reason}")
