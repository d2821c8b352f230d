"""What really happened in a run, put together from its record, the kernel and a sample. Pure."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

from nano_init.evidence.onednn.primitive_kinds import summarize
from nano_init.evidence.onednn.verbose_log import parse_verbose
from nano_init.evidence.report.pipeline_stages import missing_stages
from nano_init.protocol.sample_record import PIPELINE, PYTHON
from nano_init.protocol.step_marks import find_step_marks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from nano_init.evidence.doctor.tensorflow_facts import TensorFlowFacts
    from nano_init.evidence.onednn.primitive_kinds import Summary
    from nano_init.evidence.report.counters import Usage
    from nano_init.evidence.sampling.sample import Sample

__all__ = ["Report", "Run", "SampledSteps", "advise", "read_sample", "report_to_json"]

# Below these shares a number is no reason to change anything.
_WORTH = 0.05
_MUCH = 0.10

# Nor is what could be won of a step, unless it is a millisecond or such a share of the step.
_LEAST_MS = 1.0
_LEAST_SHARE = 0.25


@dataclass(frozen=True)
class Run:
    """The run itself.

    Args:
        command: the program with its arguments.
        status: its exit status, or minus a signal.
        seconds: how long it ran.
        cpu_seconds: processor time that it used.
        step_seconds: the time of each step that was seen, the first one left out.
        steps: how many steps were made.
        first_step_seconds: from its start to the end of its first step; None without one.
        batch: samples in a step, or None.
        waited_seconds: how long a loop in Python waited for batches.
        peak_kb: the most memory that it had resident.
        minor_faults: pages that were mapped without reading.
        major_faults: pages that were read from a disk.
        usage: what else the machine did meanwhile.
        most_threads: the largest number of its threads.
        processors: how often a working thread was seen on each hardware thread.
        nodes: for each NUMA node its share of the memory, and of what the threads worked; {} with
            one node, or where that is not known.
        unseen: why its steps are not known though it may have made some; "" otherwise.
        input: what its batches came from, as `describe_input` says; () where that is unknown.
        precision: the one that the patch was in as it ended; "" where that is unknown.
    """

    command: str
    status: int
    seconds: float
    cpu_seconds: float
    step_seconds: tuple[float, ...]
    steps: int
    first_step_seconds: float | None
    batch: int | None
    waited_seconds: float
    peak_kb: int
    minor_faults: int
    major_faults: int
    usage: Usage
    most_threads: int
    processors: Mapping[int, int]
    nodes: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    unseen: str = ""
    input: tuple[str, ...] = ()
    precision: str = ""

    @property
    def step_time(self) -> float | None:
        """Return the median step time in seconds, or None without steps."""
        return statistics.median(self.step_seconds) if self.step_seconds else None


@dataclass(frozen=True)
class SampledSteps:
    """What a sample of steps spent its time on.

    Args:
        steps: how many steps.
        step_time: the mean step time in the sample, in seconds, as all that is added up and
            shared out here is; printing and profiling make it longer than that of the run.
        onednn: the primitives of oneDNN.
        operations: milliseconds of TensorFlow's operations, by type, most expensive first.
        unable: types of them that have no bfloat16 kernel.
        get_next_ms: how long the steps waited for their batches.
    """

    steps: int
    step_time: float
    onednn: Summary
    operations: Mapping[str, float]
    unable: tuple[str, ...]
    get_next_ms: float


@dataclass(frozen=True)
class Report:
    """A run, and the evidence about it.

    Args:
        run: the run itself.
        choice: what nano-run chose, with the reason.
        precision: the precision that it trained in.
        sampled: what a sample showed, or None.
        fault: why there is no sample; "" if there is one.
        facts: what this TensorFlow can do here at most; None if it was not examined.
        is_widened: whether the processor multiplies bfloat16 slowly, so that products are of
            float32.
    """

    run: Run
    choice: str
    precision: str
    sampled: SampledSteps | None = None
    fault: str = ""
    facts: TensorFlowFacts | None = None
    is_widened: bool = False


def read_sample(sample: Sample, warm_up: int) -> SampledSteps:
    """Return what a sample under ONEDNN_VERBOSE and TensorFlow's profiler spent its time on.

    Args:
        sample: the sample.
        warm_up: after how many of its steps to begin.
    """
    lines = sample.output.decode(errors="replace").splitlines()
    marks = find_step_marks(lines)
    begin, first = next((mark for mark in marks if mark[1] >= warm_up), (0, 0))
    # oneDNN prints its version before the first step.
    header = [line for line in lines[:begin] if ",info," in line]
    log = parse_verbose([*header, *lines[begin:]])
    profile = sample.profile or {}
    return SampledSteps(
        steps=max(1, marks[-1][1] - first) if marks else 1,
        step_time=statistics.fmean(sample.step_seconds),
        onednn=summarize(log),
        operations=profile.get("operations", {}),
        unable=tuple(profile.get("unable", ())),
        get_next_ms=profile.get("get_next_ms", 0.0),
    )


def advise(report: Report) -> tuple[str, ...]:
    """Return what could be done, each sentence with the number that supports it."""
    return (
        *_advise_on_run(report.run),
        *_advise_on_input(report),
        *_advise_on_sample(report),
    )


def _advise_on_run(run: Run) -> Iterable[str]:
    usage = run.usage
    if usage.throttled is not None and usage.throttled > _WORTH:
        yield (
            f"the CPU quota stopped the run in {usage.throttled:.0%} of its periods: raise the "
            "quota, or use fewer threads (--threads)"
        )
    if usage.steal is not None and usage.steal > _WORTH:
        yield (
            f"the hypervisor gave {usage.steal:.0%} of the processor time to others: step times "
            "depend on the neighbours more than on the script"
        )
    if usage.numa_miss is not None and usage.numa_miss > _MUCH:
        yield (
            f"{usage.numa_miss:.0%} of the pages came from another NUMA node: keep the process "
            "on one, for example with numactl --cpunodebind=0 --membind=0"
        )
    if run.seconds and run.major_faults / run.seconds > 100:
        yield (
            f"{run.major_faults} pages were read from a disk during the run: memory is short, or "
            "the data is read through mmap for the first time"
        )


def _advise_on_input(report: Report) -> Iterable[str]:
    """Give advice on waiting for data, where what the data comes from can be made faster."""
    run, sampled = report.run, report.sampled
    # A loop in Python waits where the run sees it, `fit` where the sample's profile does.
    seen = []
    if run.step_seconds and run.steps:
        seen.append((run.waited_seconds / run.steps, statistics.fmean(run.step_seconds)))
    if sampled is not None:
        seen.append((sampled.get_next_ms / sampled.steps / 1000, sampled.step_time))
    shares = [
        waited / step
        for waited, step in seen
        if waited > _MUCH * step and _is_worth(waited * 1000, step)
    ]
    if not shares:
        return
    words = f"steps waited {min(1.0, max(shares)):.0%} of their time for data"
    kind, missing = run.input[:1], missing_stages(list(run.input))
    if kind == (PIPELINE,) and missing:
        yield f"{words}; their tf.data pipeline could use {', '.join(missing)}"
    elif kind == (PYTHON,):
        yield (
            f"{words} that Python produces: use a keras.utils.PyDataset with workers or a "
            "tf.data pipeline, which produce batches in parallel"
        )


def _is_worth(milliseconds: float, step: float) -> bool:
    """Say whether so much of a step is worth advice.

    Args:
        milliseconds: what a step could win at most.
        step: its time in seconds.
    """
    return milliseconds >= min(_LEAST_MS, _LEAST_SHARE * step * 1000)


def _advise_on_sample(report: Report) -> Iterable[str]:
    sampled = report.sampled
    if sampled is None:
        return
    onednn = sampled.onednn
    if _can_win(sampled, onednn.emulated_ms):
        yield (
            f"{onednn.emulated_ms / max(onednn.contraction_ms, 1e-9):.0%} of the time in matrix "
            "products was emulated bfloat16: use --precision float32"
        )
    if onednn.reference_ms > _WORTH * onednn.milliseconds and _can_win(
        sampled, onednn.reference_ms
    ):
        yield (
            f"{onednn.reference_ms / onednn.milliseconds:.0%} of oneDNN's time was in its "
            "reference kernels (ref), which are slow: try other shapes or layers there"
        )
    if report.precision == "mixed_bfloat16":
        yield from _advise_on_bfloat16(sampled)
        if not report.is_widened:
            yield from _advise_on_dtypes(sampled)


def _advise_on_bfloat16(sampled: SampledSteps) -> Iterable[str]:
    total = sum(sampled.operations.values())
    casts = sampled.operations.get("Cast", 0.0)
    if casts > _MUCH * total and _can_win(sampled, casts):
        yield (
            f"{casts / total:.0%} of the operations' time was in casts: compare with float32, "
            "nano-run --compare --precision float32"
        )
    unable = sum(sampled.operations[name] for name in sampled.unable)
    if unable > _MUCH * total and _can_win(sampled, unable):
        names = ", ".join(sampled.unable[:3])
        yield (
            f"{unable / total:.0%} of the operations' time was in operations without a bfloat16 "
            "kernel "
            f"({names}): their layers gain nothing from bfloat16"
        )


def _advise_on_dtypes(sampled: SampledSteps) -> Iterable[str]:
    onednn, total = sampled.onednn, sum(sampled.operations.values())
    share = onednn.bf16_share
    # bfloat16 takes half the time at best.
    gain = (onednn.contraction_ms - onednn.bf16_ms) / 2
    if share is None or not total or not _can_win(sampled, gain):
        return
    if share < 0.5 and onednn.contraction_ms > 0.2 * onednn.milliseconds:
        yield (
            f"only {share:.0%} of the time in matrix products was bfloat16: look for layers with "
            "their own dtype"
        )


def _can_win(sampled: SampledSteps, milliseconds: float) -> bool:
    """Say whether so much of all the sampled steps is worth advice."""
    return _is_worth(milliseconds / sampled.steps, sampled.step_time)


def report_to_json(report: Report) -> dict[str, Any]:
    """Return a report as plain values; "nano_run_report" is the version of their form."""
    run, sampled, facts = report.run, report.sampled, report.facts
    return {
        "nano_run_report": 1,
        "choice": report.choice,
        "precision": report.precision,
        "run": {
            **{name: getattr(run, name) for name in _RUN_NAMES},
            "step_time": run.step_time,
            "step_seconds": list(run.step_seconds),
            "steal": run.usage.steal,
            "throttled": run.usage.throttled,
            "numa_miss": run.usage.numa_miss,
            "processors": {str(cpu): seen for cpu, seen in sorted(run.processors.items())},
            "nodes": {
                str(node): {"memory": memory, "work": work}
                for node, (memory, work) in sorted(run.nodes.items())
            },
        },
        "sample": None if sampled is None else _sample_to_json(sampled),
        "no_sample_because": report.fault or None,
        "peaks": None
        if facts is None or facts.fault
        else {"gflops": dict(facts.gflops), "gigabytes_a_second": facts.gigabytes_a_second},
        "advice": list(advise(report)),
    }


_RUN_NAMES = (
    *("command", "status", "seconds", "cpu_seconds", "steps", "first_step_seconds", "batch"),
    *("waited_seconds", "peak_kb", "minor_faults", "major_faults", "most_threads"),
    "input",
)


def _sample_to_json(sampled: SampledSteps) -> dict[str, Any]:
    onednn = sampled.onednn
    names = ("milliseconds", "contraction_ms", "bf16_ms", "emulated_ms", "reference_ms")
    return {
        "steps": sampled.steps,
        "step_time": sampled.step_time,
        "onednn": {
            **{name: getattr(onednn, name) for name in (*names, "cast_ms", "layout_ms")},
            "bf16_share": onednn.bf16_share,
            "kinds": [
                {name: _finite(value) for name, value in vars(kind).items()}
                for kind in onednn.kinds
            ],
        },
        "operations": dict(sampled.operations),
        "without_bfloat16_kernel": list(sampled.unable),
        "get_next_ms": sampled.get_next_ms,
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
