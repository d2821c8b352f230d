"""`nano-run` with an option that measures: compare, tune or report."""

from __future__ import annotations

import json
import os
import sys
import tempfile

from nano_init.errors import SampleError, UsageError
from nano_init.evidence.report.report_file import check_report_file
from nano_init.evidence.sampling.comparison import (
    Comparison,
    comparison_to_json,
    format_comparison,
    sample_in_turn,
)
from nano_init.evidence.sampling.sample import SampleRequest, take_sample
from nano_init.evidence.sampling.signal_cleanup import cleanup_on_signals
from nano_init.launch.command import prepare_plain_command
from nano_init.launch.locale_coercion import without_locale_coercion
from nano_init.message import NANO_RUN, write_output
from nano_init.run.progress import show_progress
from nano_init.run.report_run import run_with_report
from nano_init.run.single_run import become, describe_choice, prepare
from nano_init.run.tune import tuned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nano_init.evidence.sampling.sample import Sample
    from nano_init.launch.command import Command
    from nano_init.run.request import EvidenceRequest, RunRequest
    from nano_init.run.single_run import RunPlan
    from nano_init.survey import Surroundings

__all__ = ["measure"]


def measure(request: RunRequest, surroundings: Surroundings) -> int:
    """Measure what a request asks for, and return the exit code.

    Args:
        request: the program, how it is run, and what to measure.
        surroundings: what was read for the request.

    Raises:
        NanoError: it cannot be measured; the program was not run.
    """
    evidence = request.evidence
    if request.dry_run:
        raise UsageError(
            "--dry-run runs nothing and cannot be combined with --compare, --tune or --report"
        )
    if evidence.report:
        check_report_file(evidence.report)
    if evidence.tune:
        with cleanup_on_signals():
            prepared = tuned(request, surroundings)
    else:
        prepared = prepare(request, surroundings)
    if evidence.report is not None:
        return run_with_report(request, prepared)
    if evidence.tune:
        return become(request, prepared)
    if request.target.is_stdin:
        raise SampleError(
            "a program on stdin can be read only once; save it to a file to measure it"
        )
    _check_temporary_folder()
    with cleanup_on_signals():
        return _compare(request, prepared)


def _check_temporary_folder() -> None:
    """Raise at once where no sample can be taken, and nothing is run but samples."""
    try:
        tempfile.gettempdir()
    except OSError as error:
        raise UsageError(
            f"--compare needs a temporary folder ({error.strerror or error}); set TMPDIR to one "
            "that can be written to"
        ) from error


def _compare(request: RunRequest, prepared: RunPlan) -> int:
    evidence = request.evidence
    environ = without_locale_coercion(prepared.surroundings.user_environ)
    plain = prepare_plain_command(request.target, environ, sys.executable)
    rounds = evidence.rounds
    label = f"{NANO_RUN}: {rounds} rounds of python and nano-run"
    with show_progress(label, 2 * rounds, quiet=request.quiet) as progress:
        first, second = sample_in_turn(
            _sampler(plain, environ, evidence, "python"),
            _sampler(prepared.command, environ, evidence, NANO_RUN, _way_out(prepared)),
            rounds,
            lambda: progress.update(1),
        )
    comparison = Comparison(first, second, describe_choice(prepared))
    if evidence.as_json:
        text = json.dumps(comparison_to_json(comparison), indent=2, allow_nan=False) + "\n"
    else:
        text = format_comparison(comparison)
    write_output(os.fsencode(text))
    return 0


def _sampler(
    command: Command,
    environ: Mapping[str, str],
    evidence: EvidenceRequest,
    name: str,
    way_out: str = "",
) -> Callable[[int], Sample]:
    def take(number: int) -> Sample:
        # Both ways of a round start from the same random numbers, and each round from others.
        wanted = SampleRequest(steps=evidence.steps, seconds=evidence.seconds, seed=number)
        try:
            return take_sample(command.argv, command.environment(environ), wanted)
        except SampleError as error:
            raise SampleError(f"under {name}: {error}{way_out}") from error

    return take


def _way_out(prepared: RunPlan) -> str:
    """Return what to try if a sample fails under nano-run; python's is the first of all."""
    precision = prepared.patch.precision
    if precision == "float32":
        return ""
    return f"; under python it did not, so {precision} may be the cause: try --precision float32"
