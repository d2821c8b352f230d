"""A report as one HTML page that loads nothing else. Pure."""

from __future__ import annotations

from html import escape

from nano_init.evidence.report.report_text import run_facts, sample_facts
from nano_init.evidence.report.run_report import advise
from nano_init.evidence.report.svg import Point, Roof, plot_bars, plot_line, plot_roofline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nano_init.evidence.report.run_report import Report, SampledSteps

__all__ = ["HTML_MARK", "render_html"]

# By this a page is known to be a report, which a later one may replace.
HTML_MARK = '<meta name="generator" content="nano-run --report">'

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 800px; padding: 0 1rem;
  color: #1c2330; background: #fff; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #e4e8ee;
  vertical-align: top; overflow-wrap: anywhere; }
td:first-child { white-space: nowrap; color: #55606f; } td.number { text-align: right; }
/* On a narrow screen a plot is scrolled rather than shrunk until nobody can read it. */
figure { margin: 0; overflow-x: auto; } svg { width: 100%; min-width: 600px; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: #333c4a; }
.axis { stroke: #55606f; } .grid { stroke: #e4e8ee; } .line { fill: none; stroke: #2563b0; }
.roof { fill: none; stroke: #55606f; stroke-width: 1.5; } .point { fill: #c2571a; }
.bar { fill: #8a96a8; } .bar.bf16 { fill: #2c8a57; } .bar.f32 { fill: #2563b0; }
.bar.emulated, .bar.reference { fill: #b3261e; }
.key span { margin-right: 1.2rem; white-space: nowrap; display: inline-block; }
.key i { display: inline-block; width: .8em; height: .8em; }
@media (prefers-color-scheme: dark) {
  body { background: #14181f; color: #dde3ec; } td, th { border-color: #303947; }
  svg text { fill: #dde3ec; } .grid { stroke: #303947; } td:first-child { color: #9aa6b6; } }
"""

_KEY = (
    ("#2c8a57", "bfloat16 instructions"),
    ("#2563b0", "float32"),
    ("#b3261e", "emulated or reference kernels"),
    ("#8a96a8", "other"),
)


def render_html(report: Report) -> str:
    """Return a report as an HTML page."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        HTML_MARK,
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>nano-run: {escape(report.run.command)}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(report.run.command)}</h1><p>nano-run: {escape(report.choice)}</p>",
        _table(run_facts(report.run)),
        *_step_plot(report),
        *(_sample(report, report.sampled) if report.sampled else _no_sample(report)),
        *_advice(report),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _step_plot(report: Report) -> Iterator[str]:
    if report.run.step_seconds:
        yield "<h2>Step times</h2>"
        milliseconds = [seconds * 1000 for seconds in report.run.step_seconds]
        yield plot_line(milliseconds, "step", "ms")


def _sample(report: Report, sampled: SampledSteps) -> Iterator[str]:
    yield f"<h2>A sample of {sampled.steps} steps</h2>"
    yield _table(sample_facts(sampled))
    kinds = sampled.onednn.kinds[:12]
    if kinds:
        yield "<h2>oneDNN's time by kind, ms/step</h2>"
        bars = [
            (
                f"{kind.primitive} {kind.dtype} {kind.isa}".strip(),
                kind.milliseconds / sampled.steps,
                _colour(kind.unit, kind.dtype),
            )
            for kind in kinds
        ]
        yield plot_bars(bars, "ms")
        swatches = (
            f'<span><i style="background:{colour}"></i> {escape(name)}</span>'
            for colour, name in _KEY
        )
        yield f'<p class="key">{"".join(swatches)}</p>'
    if sampled.operations:
        yield "<h2>The most expensive operations of TensorFlow, ms/step</h2>"
        top = list(sampled.operations.items())[:10]
        yield plot_bars(
            [
                (
                    name + (" (no bfloat16 kernel)" if name in sampled.unable else ""),
                    milliseconds / sampled.steps,
                    "other",
                )
                for name, milliseconds in top
            ],
            "ms",
        )
    yield from _roofline(report, sampled)


def _roofline(report: Report, sampled: SampledSteps) -> Iterator[str]:
    facts = report.facts
    points = [
        Point(
            f"{kind.primitive} {kind.dtype}",
            kind.operations / kind.bytes,
            kind.operations / kind.milliseconds / 1e6,
        )
        for kind in sampled.onednn.kinds
        if kind.operations and kind.bytes and kind.milliseconds
    ]
    if facts is None or not facts.gflops or not points:
        return
    yield "<h2>Matrix products and convolutions against this machine's measured peaks</h2>"
    roofs = [Roof(name, speed, facts.gigabytes_a_second) for name, speed in facts.gflops]
    yield plot_roofline(roofs, points)
    yield (
        f"<p>The slope is the measured memory speed, {facts.gigabytes_a_second:.1f} GB/s. Small "
        "operations stay in the caches and may lie above it.</p>"
    )


def _no_sample(report: Report) -> Iterator[str]:
    yield f"<h2>No sample of its steps</h2><p>{escape(report.fault)}.</p>"


def _advice(report: Report) -> Iterator[str]:
    sentences = advise(report) or ("Nothing here is worth changing",)
    items = "".join(f"<li>{escape(sentence)}.</li>" for sentence in sentences)
    yield f"<h2>Advice</h2><ul>{items}</ul>"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = (f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{''.join(cells)}</table>"


def _colour(unit: str, dtype: str) -> str:
    if unit in ("emulated", "reference"):
        return unit
    return "bf16" if unit not in ("", "unknown") else "f32" if dtype == "f32" else "other"
