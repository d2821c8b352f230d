"""`nano-run --report`: run the program, then tell what really happened."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from shlex import join

from nano_init.cli.run import PROGRAM, announce, describe_choice
from nano_init.errors import SampleError
from nano_init.evidence.doctor.tensorflow_facts import examine_tensorflow
from nano_init.evidence.report.counters import Threads, read_counters, used_between
from nano_init.evidence.report.locality import Locality
from nano_init.evidence.report.report_file import check_report_file, write_report
from nano_init.evidence.report.report_text import format_report
from nano_init.evidence.report.run_report import Report, Run, read_sample, step_times
from nano_init.evidence.sampling.sample import Request, main_marks, take_sample
from nano_init.evidence.sampling.signal_cleanup import ending_in_order
from nano_init.evidence.sampling.unnamed_file import open_unnamed_file
from nano_init.instrumentation.isolation_main import STARTED_VARIABLE
from nano_init.instrumentation.watch import WARM_UP, WATCH_VARIABLE
from nano_init.launch.command import Command
from nano_init.launch.foreground_child import end_like, supervise
from nano_init.launch.locale_coercion import without_coercion
from nano_init.message import say
from nano_init.protocol.sample_record import describe_record_file, parse_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nano_init.cli.evidence_options import EvidenceRequest
    from nano_init.cli.run import Prepared, RunRequest
    from nano_init.evidence.doctor.tensorflow_facts import TensorFlowFacts
    from nano_init.evidence.report.counters import Usage
    from nano_init.evidence.report.run_report import SampledSteps
    from nano_init.launch.foreground_child import Outcome

__all__ = ["run_with_report"]


def run_with_report(request: RunRequest, evidence: EvidenceRequest, prepared: Prepared) -> int:
    """Run the program, write the report, and end as the program has ended.

    Args:
        request: the program.
        evidence: where the report goes, and how long its sample is.
        prepared: how the program is run.

    Raises:
        NanoError: the report could not be written, or the program not be started; it was not.
    """
    path = evidence.report or ""
    if path:
        check_report_file(path)
    if not request.quiet:
        announce(prepared)
    _flush()
    seen = _run(prepared)
    outcome = seen.outcome
    try:
        run = _describe(prepared, seen)
        _write(path, _complete(request, evidence, prepared, run))
    except KeyboardInterrupt:
        say(PROGRAM, "the report was interrupted")
    except Exception as error:  # noqa: BLE001 - whatever it is, the program's end is kept
        say(PROGRAM, f"there is no report ({type(error).__name__}: {error})")
    return end_like(outcome)


def _complete(
    request: RunRequest, evidence: EvidenceRequest, prepared: Prepared, run: Run
) -> Report:
    """Return the report on a run, with a sample if one can be taken."""
    try:
        with ending_in_order():
            sampled, fault, facts = _sample(request, evidence, prepared, run)
    except KeyboardInterrupt:
        sampled, fault, facts = None, "it was interrupted", None
    return Report(run, describe_choice(prepared), prepared.precision, sampled, fault, facts)


@dataclass(frozen=True)
class _Seen:
    """What was seen of the program from outside, and the record that it has written."""

    outcome: Outcome
    record: bytes
    usage: Usage
    threads: Threads
    locality: Locality


def _run(prepared: Prepared) -> _Seen:
    quota_source = prepared.machine.limits.cpu_quota_source
    threads, locality = Threads(), Locality(prepared.machine.topology.nodes)

    def look(process: int) -> None:
        threads.look(process)
        locality.look(process)

    with open_unnamed_file("nano-run-record") as file:
        os.set_inheritable(file.fileno(), True)
        watch = {
            WATCH_VARIABLE: json.dumps(describe_record_file(file.fileno())),
            STARTED_VARIABLE: repr(time.monotonic()),
        }
        command = Command(prepared.command.argv, {**prepared.command.variables, **watch})
        before = read_counters(quota_source)
        outcome = supervise(command, without_coercion(prepared.environ), look)
        usage = used_between(before, read_counters(quota_source))
        file.seek(0)
        text = file.read()
    return _Seen(outcome, text, usage, threads, locality)


def _describe(prepared: Prepared, seen: _Seen) -> Run:
    record, unseen = None, ""
    outcome, threads = seen.outcome, seen.threads
    try:
        record = parse_record(seen.record)
    except SampleError as error:
        unseen = str(error)
        say(PROGRAM, unseen)
    marks = main_marks(record["marks"]) if record else []
    used = outcome.usage
    return Run(
        command=join(prepared.command.argv[1:]),
        status=outcome.status,
        seconds=outcome.seconds,
        cpu_seconds=used.ru_utime + used.ru_stime,
        step_seconds=step_times(marks),
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
    )


def _sample(
    request: RunRequest, evidence: EvidenceRequest, prepared: Prepared, run: Run
) -> tuple[SampledSteps | None, str, TensorFlowFacts | None]:
    if not run.step_seconds:
        return None, "the run made no steps that could be seen", None
    if run.status < 0:
        return None, "the run was ended by a signal", None
    if request.target.is_stdin:
        return None, "a program on stdin can be read once only", None
    if not request.quiet:
        say(PROGRAM, f"sampling {evidence.steps} steps for the report")
    environ = without_coercion(prepared.environ)
    wanted = Request(
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
            say(PROGRAM, f"the report cannot be written to {path}: {error.strerror or error}")
        else:
            kept = f"{path} was written meanwhile and is no report; " if written != path else ""
            say(PROGRAM, f"{kept}the report is in {written}")
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(format_report(report))
        sys.stderr.flush()
    except (OSError, UnicodeError):
        return  # a reader that has gone must not change the program's status


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
