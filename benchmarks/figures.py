"""The figures of a benchmark run, as tables and as a plot."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from record import Column, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from record import Cell

__all__ = ["Result", "means_table", "models_table", "peers_tables", "plot_results", "summary_table"]


@dataclass
class Result:
    """One model in one configuration; the lists have one entry per round.

    Args:
        model: The model's key.
        configuration: The configuration's key.
        title: The name of the configuration in the table.
        medians: Milliseconds per step, median of a process.
        fastest_fifths: Milliseconds per step, 20th percentile of a process.
        first_steps: Milliseconds until the end of the first step, including building the model.
        peaks_mb: Peak memory of the process.
        losses: The loss after the last step.
        failure: Why it failed, or "".
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
        """Add the output of one process."""
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


def models_table(titles: Mapping[str, str], results: Sequence[Result], unit: str) -> Table:
    """Return one row per model and configuration; ratios to stock are computed per round.

    Args:
        titles: What the table calls each model.
        results: All results of a run.
        unit: The unit of a step's time, in the column's heading.
    """
    columns = (
        Column("model"),
        Column("configuration"),
        Column(unit, 2),
        Column(f"20th percentile, {unit}", 2),
        Column("times as fast as stock (spread)", 2),
        Column("first step, s", 1),
        Column("peak memory, MB"),
        Column("loss", 4),
    )
    stocks = {r.model: r for r in results if r.configuration == "stock"}
    rows = tuple(_model_row(titles[r.model], stocks[r.model], r) for r in results)
    return Table("models", "Each model in each configuration", columns, rows)


def _model_row(title: str, stock: Result, result: Result) -> tuple[Cell, ...]:
    if result.failure:
        return (title, result.title, f"fails: {result.failure}", *[None] * 5)
    ratios = _ratios(stock, result)
    return (
        title,
        result.title,
        statistics.median(result.medians),
        statistics.median(result.fastest_fifths),
        (statistics.median(ratios), min(ratios), max(ratios)),
        statistics.median(result.first_steps) / 1000,
        statistics.median(result.peaks_mb),
        statistics.median(result.losses),
    )


def summary_table(titles: Mapping[str, str], results: Sequence[Result], unit: str) -> Table:
    """Return one row per model: stock's milliseconds, and the speedup of the others.

    Args:
        titles: What the table calls each model.
        results: All results of a run.
        unit: The unit of a step's time, in the column's heading.
    """
    names = {r.configuration: r.title for r in results if r.configuration != "stock"}
    rows = []
    for stock in (r for r in results if r.configuration == "stock"):
        own = {r.configuration: r for r in results if r.model == stock.model}
        cells = [_gain(stock, own.get(key)) for key in names]
        rows.append((titles[stock.model], statistics.median(stock.fastest_fifths), *cells))
    columns = (
        Column("model"),
        Column(f"stock Keras, {unit}", 2),
        *(Column(name, 2) for name in names.values()),
    )
    return Table("summary", "Times as fast as stock Keras in float32", columns, tuple(rows))


def _gain(stock: Result, result: Result | None) -> Cell:
    if result is None:
        return None
    return "fails" if result.failure else statistics.median(_ratios(stock, result))


def means_table(results: Sequence[Result]) -> Table:
    """Return the geometric mean of each configuration's ratios over its models."""
    stocks = {r.model: r for r in results if r.configuration == "stock"}
    nano = {r.model: r for r in results if r.configuration == "nano"}
    table_rows = []
    for key, title in {r.configuration: r.title for r in results}.items():
        # Where an option does not apply, nano-run without it is used.
        own = {r.model: r for r in results if r.configuration == key and not r.failure}
        stands_in = nano if key in ("lazy", "steps", "both") else {}
        rows = [own.get(name) or stands_in.get(name) for name in stocks]
        pairs = [(stocks[r.model], r) for r in rows if r is not None and not r.failure]
        if not pairs:
            continue
        ratios = [statistics.median(_ratios(stock, result)) for stock, result in pairs]
        memory = [statistics.median(r.peaks_mb) / statistics.median(s.peaks_mb) for s, r in pairs]
        first = [
            statistics.median(r.first_steps) / statistics.median(s.first_steps) for s, r in pairs
        ]
        spread = (_mean(ratios), min(ratios), max(ratios))
        table_rows.append((title, *spread, _mean(memory), _mean(first), len(pairs)))
    names = ("faster than stock", "slowest", "fastest", "memory", "first step")
    columns = (Column("configuration"), *(Column(name, 2) for name in names), Column("models"))
    return Table("means", "Geometric mean over the models", columns, tuple(table_rows))


_BFLOAT16_PEERS = ("torch_bfloat16", "torch_compile_bfloat16", "jax_bfloat16")

# The name of a table, what nano-run is in it, and what a user would switch to. On a processor where
# nano-run chooses float32, it has to be told to use bfloat16.
_COMPARED = (
    ("peers", "float32", ("torch", "torch_compile", "jax")),
    ("peers-bfloat16", "nano", _BFLOAT16_PEERS),
    ("peers-bfloat16-forced", "forced", _BFLOAT16_PEERS),
)


def peers_tables(titles: Mapping[str, str], results: Sequence[Result], unit: str) -> list[Table]:
    """Return a table for each precision in which peers ran: nano-run and the fastest of them.

    Args:
        titles: What the table calls each model.
        results: All results of a run.
        unit: The unit of a step's time, in the column's headings.
    """
    tables = []
    for name, own, peers in _COMPARED:
        keys = ("stock", own, *peers)
        used = {r.configuration: r.title for r in results if r.configuration in keys}
        if own in used and any(key in used for key in peers):
            shown = {key: used[key] for key in keys if key in used}
            tables.append(_peers_table(name, own, shown, titles, results, unit))
    return tables


def _peers_table(
    name: str,
    own: str,
    shown: Mapping[str, str],
    titles: Mapping[str, str],
    results: Sequence[Result],
    unit: str,
) -> Table:
    by_place = {(r.model, r.configuration): r for r in results}
    models = list(dict.fromkeys(r.model for r in results))
    rows = []
    for model in models:
        found = {key: by_place.get((model, key)) for key in shown}
        peers = [r for key, r in found.items() if r is not None and key not in ("stock", own)]
        best = _fastest([r for r in peers if not r.failure])
        nano = found[own]
        gain = _gain(best, nano) if best is not None else None
        times = [_time(result) for result in found.values()]
        rows.append((titles[model], *times, best.title if best is not None else None, gain))
    columns = (
        Column("model"),
        *(Column(f"{title}, {unit}", 2) for title in shown.values()),
        Column("fastest peer"),
        Column("nano-run, times as fast as it", 2),
    )
    return Table(name, "nano-run and what a user would switch to", columns, tuple(rows))


def _fastest(results: Sequence[Result]) -> Result | None:
    return min(results, key=lambda r: statistics.median(r.fastest_fifths), default=None)


def _time(result: Result | None) -> Cell:
    if result is None:
        return None
    return "fails" if result.failure else statistics.median(result.fastest_fifths)


def plot_results(results: Sequence[Result], path: str, machine: str) -> None:
    """Plot the speedup of each configuration over stock for each model.

    Args:
        results: All results of a run.
        path: The PNG file to write.
        machine: The name of the processor in the title.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    peers = dict.fromkeys(key for _, _, keys in _COMPARED for key in keys)
    shown = ("bare", "rewrite", "bigdl", "float32", "nano", "both", "steps", *peers)
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
