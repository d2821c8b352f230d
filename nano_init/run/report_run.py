"""`nano-run --report`: run the program, then report what happened."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from shlex import join

from nano_init.errors import SampleError
from nano_init.evidence.doctor.tensorflow_facts import examine_tensorflow
from nano_init.evidence.report.counters import Threads, read_counters, used_between
from nano_init.evidence.report.locality import Locality
from nano_init.evidence.report.report_file import check_report_file, write_report
from nano_init.evidence.report.report_text import format_report
from nano_init.evidence.report.run_report import Report, Run, read_sample
from nano_init.evidence.sampling.sample import SampleRequest, take_sample
from nano_init.evidence.sampling.signal_cleanup import cleanup_on_signals
from nano_init.evidence.sampling.unnamed_file import open_unnamed_file
from nano_init.frozen import replace
from nano_init.launch.foreground_child import end_like, run_in_foreground
from nano_init.launch.locale_coercion import without_locale_coercion
from nano_init.message import NANO_RUN, flush_output, say
from nano_init.plan.precision import slow_precision
from nano_init.protocol.sample_record import describe_record_file, parse_record
from nano_init.protocol.sample_rules import WARM_UP
from nano_init.protocol.step_marks import main_marks, step_seconds
from nano_init.protocol.variables import STARTED_VARIABLE, WATCH_VARIABLE
from nano_init.run.single_run import announce, describe_choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nano_init.evidence.doctor.tensorflow_facts import TensorFlowFacts
    from nano_init.evidence.report.counters import Usage
    from nano_init.evidence.report.run_report import SampledSteps
    from nano_init.launch.foreground_child import ChildOutcome
    from nano_init.run.request import RunRequest
    from nano_init.run.single_run import RunPlan

__all__ = ["run_with_report"]


def run_with_report(request: RunRequest, prepared: RunPlan) -> int:
    """Run the program, write the report, and end as the program has ended.

    Args:
        request: the program, where the report goes, and how long its sample is.
        prepared: how the program is run.

    Raises:
        NanoError: the report could not be written, or the program not be started; it was not.
    """
    path = request.evidence.report or ""
    if path:
        check_report_file(path)
    if not request.quiet:
        announce(prepared)
    flush_output()
    seen = _run(prepared)
    outcome = seen.outcome
    try:
        run = _describe(prepared, seen)
        _write(path, _complete(request, prepared, run))
    except KeyboardInterrupt:
        say(NANO_RUN, "the report was interrupted")
    except Exception as error:  # noqa: BLE001 - whatever it is, the program's end is kept
        say(NANO_RUN, f"no report ({type(error).__name__}: {error})")
    return end_like(outcome)


def _complete(request: RunRequest, prepared: RunPlan, run: Run) -> Report:
    """Return the report on a run, with a sample if one can be taken."""
    try:
        with cleanup_on_signals():
            sampled, fault, facts = _sample(request, prepared, run)
    except KeyboardInterrupt:
        sampled, fault, facts = None, "it was interrupted", None
    # A Keras that bfloat16 cannot be guarded on, as the program has found, trains in float32.
    precision = run.precision or prepared.patch.precision
    is_widened = slow_precision(precision, prepared.plan.precision) is not None
    return Report(run, describe_choice(prepared), precision, sampled, fault, facts, is_widened)


@dataclass(frozen=True)
class _Seen:
    """What was seen of the program from outside, and the record that it has written."""

    outcome: ChildOutcome
    record: bytes
    usage: Usage
    threads: Threads
    locality: Locality


def _run(prepared: RunPlan) -> _Seen:
    machine = prepared.surroundings.machine
    quota_source = machine.limits.cpu_quota_source
    threads, locality = Threads(), Locality(machine.topology.nodes)

    def look(process: int) -> None:
        threads.look(process)
        locality.look(process)

    with open_unnamed_file("nano-run-record") as file:
        os.set_inheritable(file.fileno(), True)
        watch = {
            WATCH_VARIABLE: json.dumps(describe_record_file(file.fileno())),
            STARTED_VARIABLE: repr(time.monotonic()),
        }
        variables = {**prepared.command.variables, **watch}
        command = replace(prepared.command, variables=variables)
        before = read_counters(quota_source)
        outcome = run_in_foreground(
            command, without_locale_coercion(prepared.surroundings.user_environ), look
        )
        usage = used_between(before, read_counters(quota_source))
        file.seek(0)
        text = file.read()
    return _Seen(outcome, text, usage, threads, locality)


def _describe(prepared: RunPlan, seen: _Seen) -> Run:
    record, unseen = None, ""
    outcome, threads = seen.outcome, seen.threads
    try:
        record = parse_record(seen.record)
    except SampleError as error:
        unseen = str(error)
        say(NANO_RUN, unseen)
    marks = main_marks(record["marks"]) if record else []
    used = outcome.usage
    return Run(
        command=join(prepared.command.argv[1:]),
        status=outcome.status,
        seconds=outcome.seconds,
        cpu_seconds=used.ru_utime + used.ru_stime,
        step_seconds=step_seconds(marks),
        steps=marks[-1][2] - marks[0][2] + 1 if marks else 0,
        first_step_seconds=marks[0][0] - record["started"] if record and marks else None,
        batch=record["batch"] if record else None,
        waited_seconds=record["waited"] if record else 0.0,
        input=tuple(record.get("input", ())) if record else (),
        # The kernel's own number counts the largest of the program and its children.
        peak_kb=(record and record["peak_kb"]) or used.ru_maxrss,
        minor_faults=used.ru_minflt,
        major_faults=used.ru_majflt,
        usage=seen.usage,
        most_threads=threads.most,
        processors=threads.processors,
        nodes=seen.locality.shares(threads.processors),
        unseen=unseen,
        precision=str((record or {}).get("precision") or ""),
    )


def _sample(
    request: RunRequest, prepared: RunPlan, run: Run
) -> tuple[SampledSteps | None, str, TensorFlowFacts | None]:
    evidence = request.evidence
    if not run.step_seconds:
        return None, "no training step was seen in the run", None
    if run.status < 0:
        return None, "the run was ended by a signal", None
    if request.target.is_stdin:
        return None, "a program on stdin can be read only once", None
    if not request.quiet:
        say(NANO_RUN, f"sampling {evidence.steps} steps for the report")
    environ = without_locale_coercion(prepared.surroundings.user_environ)
    wanted = SampleRequest(
        steps=evidence.steps, seconds=evidence.seconds, loss=False, verbose=True, profile=True
    )
    try:
        sample = take_sample(prepared.command.argv, prepared.command.environment(environ), wanted)
    except SampleError as error:
        return None, str(error), None
    return read_sample(sample, WARM_UP), "", examine_tensorflow(environ)


def _write(path: str, report: Report) -> None:
    if path:
        try:
            written = write_report(path, report)
        except OSError as error:
            say(NANO_RUN, f"the report cannot be written to {path}: {error.strerror or error}")
        else:
            kept = (
                f"{path} was written during the run and is not a report; "
                if written != path
                else ""
            )
            say(NANO_RUN, f"{kept}the report is in {written}")
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(format_report(report))
        sys.stderr.flush()
    except (OSError, UnicodeError):
        return  # a reader that has gone must not change the program's status
