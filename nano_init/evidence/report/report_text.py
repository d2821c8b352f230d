"""A report as text for the terminal. Pure."""

from __future__ import annotations

import statistics

from nano_init.evidence.report.run_report import advise
from nano_init.text import align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nano_init.evidence.report.run_report import Report, Run, SampledSteps

__all__ = ["format_report", "run_facts", "sample_facts"]


def format_report(report: Report) -> str:
    """Return a report as lines of text."""
    rows = [*run_facts(report.run)]
    lines = [f"Report on {report.run.command}", f"nano-run: {report.choice}", "", *align(rows)]
    if report.sampled is None:
        lines += ["", f"No sample of its steps: {report.fault}."]
    else:
        lines += ["", f"A sample of {report.sampled.steps} steps, after the warm-up:"]
        lines += align(list(sample_facts(report.sampled)))
        lines += ["", *_kinds(report.sampled), "", *_operations(report.sampled)]
    advice = advise(report)
    lines += ["", *(f"Advice: {sentence}." for sentence in advice)]
    if not advice:
        lines.append("Advice: nothing here is worth changing.")
    return "\n".join(lines) + "\n"


def run_facts(run: Run) -> Iterator[tuple[str, str]]:
    """Give what is known of a run, as names and texts."""
    ended = f"exit status {run.status}" if run.status >= 0 else f"signal {-run.status}"
    yield "run", f"{run.seconds:.1f} s, {run.cpu_seconds:.1f} s of processor time, {ended}"
    if run.step_time is not None:
        yield "steps", f"{run.steps}, median {run.step_time * 1000:.2f} ms{_spread(run)}"
        if run.batch:
            yield (
                "throughput",
                f"{run.batch / run.step_time:,.0f} samples/s (batches of {run.batch})",
            )
    else:
        nothing = "no Keras optimizer made two steps in the script's own process"
        yield "steps", f"none seen: {run.unseen or nothing}"
    if run.first_step_seconds is not None:
        yield "first step", f"after {run.first_step_seconds:.1f} s"
    yield "peak memory", f"{run.peak_kb / 1024:,.0f} MB"
    yield "page faults", f"{run.minor_faults:,} minor, {run.major_faults:,} major (read from disk)"
    seen = sum(run.processors.values())
    where = ", ".join(
        f"{cpu}: {count / seen:.0%}" for cpu, count in sorted(run.processors.items())[:16]
    )
    yield "threads", f"at most {run.most_threads}; on hardware threads {where or 'unknown'}"
    if run.nodes:
        yield (
            "NUMA nodes",
            "; ".join(
                f"{node}: {memory:.0%} of the memory, {work:.0%} of the threads' work"
                for node, (memory, work) in sorted(run.nodes.items())
            ),
        )
    usage = run.usage
    for name, share in (
        ("throttled periods", usage.throttled),
        ("steal", usage.steal),
        ("pages from another node", usage.numa_miss),
    ):
        if share is not None:
            yield name, f"{share:.1%}"


def sample_facts(sampled: SampledSteps) -> Iterator[tuple[str, str]]:
    """Give what a sample shows, as names and texts."""
    onednn, step = sampled.onednn, sampled.steps * sampled.step_time * 1000
    yield (
        "step time",
        f"{sampled.step_time * 1000:.2f} ms on average, with the cost of log and profiler",
    )
    share = onednn.bf16_share
    if share is None:
        yield "matrix products", "none by oneDNN"
    else:
        units = sorted({kind.unit for kind in onednn.kinds if kind.unit} - {"reference"})
        by = f" ({', '.join(units)})" if units else ""
        yield "matrix products", f"{share:.0%} of their time in bfloat16 instructions{by}"
        yield "share of the step", f"{onednn.contraction_ms / step:.0%} of this step time"
    yield "oneDNN total", f"{onednn.milliseconds / sampled.steps:.2f} ms/step"
    casts, layouts = onednn.cast_ms / sampled.steps, onednn.layout_ms / sampled.steps
    cast = sampled.operations.get("Cast", 0.0) / sampled.steps
    text = f"{casts:.3f} and {layouts:.3f} ms/step in oneDNN, {cast:.3f} ms in TensorFlow's casts"
    yield "casts and reorders", text
    yield "waiting for data", f"{sampled.get_next_ms / sampled.steps:.2f} ms/step"
    if sampled.unable:
        yield "no bfloat16 kernel", ", ".join(sampled.unable[:12])


def _spread(run: Run) -> str:
    if len(run.step_seconds) < 4:
        return ""
    low, *_, high = statistics.quantiles(run.step_seconds, n=10)
    return f" (middle 80 %: {low * 1000:.2f} to {high * 1000:.2f})"


def _kinds(sampled: SampledSteps) -> list[str]:
    rows = [("ms/step", "oneDNN primitive", "of", "unit", "kernel's ISA")]
    for kind in sampled.onednn.kinds[:10]:
        milliseconds = f"{kind.milliseconds / sampled.steps:.3f}"
        rows.append((milliseconds, kind.primitive, kind.dtype, kind.unit or "-", kind.isa or "-"))
    return align(rows)


def _operations(sampled: SampledSteps) -> list[str]:
    total = sum(sampled.operations.values())
    rows = [("ms/step", "share", "TensorFlow operation")]
    for name, milliseconds in list(sampled.operations.items())[:10]:
        mark = " (no bfloat16 kernel)" if name in sampled.unable else ""
        each = f"{milliseconds / sampled.steps:.3f}"
        rows.append((each, f"{milliseconds / total:.0%}", f"{name}{mark}"))
    return align(rows)
