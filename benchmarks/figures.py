"""The figures of a benchmark run: as tables and as a plot."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["Result", "format_means", "format_results", "format_summary", "plot_results"]


@dataclass
class Result:
    """One model in one configuration; the lists have one entry a round.

    Args:
        model: The model's key.
        configuration: The configuration's key.
        title: What the table calls the configuration.
        medians: Milliseconds a step, median of a process.
        fastest_fifths: Milliseconds a step, 20th percentile of a process.
        first_steps: Milliseconds until the first step was done, with building the model.
        peaks_mb: Peak memory of the process.
        losses: The loss after the last step.
        failure: Why it did not run, if it did not.
    """

    model: str
    configuration: str
    title: str
    medians: list[float] = field(default_factory=list)
    fastest_fifths: list[float] = field(default_factory=list)
    first_steps: list[float] = field(default_factory=list)
    peaks_mb: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    failure: str = ""

    def add(self, figures: Mapping[str, Any]) -> None:
        """Add what one process printed."""
        steps = sorted(figures["steps"])
        self.medians.append(statistics.median(steps))
        self.fastest_fifths.append(steps[len(steps) // 5])
        self.first_steps.append(figures["first"])
        self.peaks_mb.append(figures["peak_mb"])
        self.losses.append(figures["loss"])

    def extend(self, later: Result) -> None:
        """Add the rounds of a later run."""
        for name in ("medians", "fastest_fifths", "first_steps", "peaks_mb", "losses"):
            getattr(self, name).extend(getattr(later, name))


def format_results(title: str, results: Sequence[Result]) -> str:
    """Return the table of one model in Markdown; ratios are against the first row by round."""
    stock = results[0]
    lines = [
        f"\n### {title}\n",
        "| | ms a step | 20th percentile | faster (spread) | first step | peak memory | loss |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        if result.failure:
            lines.append(f"| {result.title} | failed: {result.failure} | | | | | |")
            continue
        ratios = _ratios(stock, result)
        lines.append(
            f"| {result.title} | {statistics.median(result.medians):.2f} "
            f"| {statistics.median(result.fastest_fifths):.2f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {statistics.median(result.first_steps) / 1000:.1f} s "
            f"| {statistics.median(result.peaks_mb):.0f} MB "
            f"| {statistics.median(result.losses):.4f} |"
        )
    return "\n".join(lines)


def format_summary(titles: Mapping[str, str], results: Sequence[Result]) -> str:
    """Return one row a model: stock's milliseconds, and how much faster each configuration is.

    Args:
        titles: What the table calls each model.
        results: All results of a run.
    """
    columns = {r.configuration: r.title for r in results if r.configuration != "stock"}
    lines = [
        "\n### All models: times as fast as stock float32\n",
        f"| model | stock, ms a step | {' | '.join(columns.values())} |",
        f"| --- | --- |{' --- |' * len(columns)}",
    ]
    for stock in (r for r in results if r.configuration == "stock"):
        rows = {r.configuration: r for r in results if r.model == stock.model}
        cells = [
            f"{statistics.median(_ratios(stock, rows[key])):.2f}"
            if key in rows and not rows[key].failure
            else "fails"
            if key in rows
            else ""
            for key in columns
        ]
        fastest = statistics.median(stock.fastest_fifths)
        lines.append(f"| {titles[stock.model]} | {fastest:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def format_means(results: Sequence[Result]) -> str:
    """Return the geometric mean of each configuration's ratios; the models it lacks are told."""
    stocks = {r.model: r for r in results if r.configuration == "stock"}
    nano = {r.model: r for r in results if r.configuration == "nano"}
    lines = [
        "\n### Geometric mean over the models\n",
        "| | faster than stock | slowest | fastest | memory | first step | models |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key, title in {r.configuration: r.title for r in results}.items():
        # Where an option has nothing to do, nano-run without it stands in.
        own = {r.model: r for r in results if r.configuration == key and not r.failure}
        stands_in = nano if key in ("lazy", "steps", "both") else {}
        rows = [own.get(name) or stands_in.get(name) for name in stocks]
        pairs = [(stocks[r.model], r) for r in rows if r is not None]
        if not pairs:
            continue
        ratios = [statistics.median(_ratios(stock, result)) for stock, result in pairs]
        memory = [statistics.median(r.peaks_mb) / statistics.median(s.peaks_mb) for s, r in pairs]
        first = [
            statistics.median(r.first_steps) / statistics.median(s.first_steps) for s, r in pairs
        ]
        lines.append(
            f"| {title} | {_mean(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} "
            f"| {_mean(memory):.2f} | {_mean(first):.2f} | {len(pairs)} |"
        )
    return "\n".join(lines)


def plot_results(results: Sequence[Result], path: str, machine: str) -> None:
    """Draw how many times as fast as stock each configuration trains each model.

    Args:
        results: All results of a run.
        path: The PNG file to write.
        machine: What the title calls the processor.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = ("bare", "rewrite", "bigdl", "float32", "nano", "both", "steps")
    models = list(dict.fromkeys(r.model for r in results))
    stocks = {r.model: r for r in results if r.configuration == "stock"}
    keys = [k for k in shown if any(r.configuration == k and not r.failure for r in results)]
    figure, axes = plt.subplots(figsize=(12, 5))
    width = 0.8 / max(len(keys), 1)
    for place, key in enumerate(keys):
        rows = {r.model: r for r in results if r.configuration == key and not r.failure}
        heights = [
            statistics.median(_ratios(stocks[m], rows[m])) if m in rows else 0.0 for m in models
        ]
        title = next(r.title for r in results if r.configuration == key)
        axes.bar([i + place * width for i in range(len(models))], heights, width, label=title)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks([i + 0.4 - width / 2 for i in range(len(models))], models)
    axes.set_ylabel("times as fast as stock float32")
    axes.set_title(f"Training steps on {machine}")
    axes.legend(ncols=3, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _ratios(stock: Result, result: Result) -> list[float]:
    return [a / b for a, b in zip(stock.fastest_fifths, result.fastest_fifths, strict=False)]


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
