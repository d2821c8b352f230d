"""Plots as SVG text, for a page that needs nothing else. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Point", "Roof", "plot_bars", "plot_line", "plot_roofline"]

_WIDTH, _HEIGHT = 760, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 44
_MOST_POINTS = 400


@dataclass(frozen=True)
class Point:
    """One kind of work in a roofline plot.

    Args:
        name: its label.
        intensity: operations for each byte.
        gflops: billions of operations a second that were reached.
    """

    name: str
    intensity: float
    gflops: float


@dataclass(frozen=True)
class Roof:
    """What a machine reaches at most: its memory's slope, up to its arithmetic's peak."""

    name: str
    gflops: float
    gigabytes_a_second: float


def plot_line(values: Sequence[float], x_label: str, y_label: str) -> str:
    """Return a line through values, which are thinned out by their medians where many.

    Args:
        values: at least one number, in the order of the axis.
        x_label: what is counted.
        y_label: what the values are.
    """
    size = math.ceil(len(values) / _MOST_POINTS)
    groups = [sorted(values[i : i + size]) for i in range(0, len(values), size)]
    middles = [group[len(group) // 2] for group in groups]
    # The first steps may take a hundred times as long, and would flatten all others.
    top = sorted(middles)[int(0.99 * (len(middles) - 1))] * 1.25 or 1.0
    parts = [*_frame(x_label, y_label), *_grid_y(top)]
    places = [
        f"{_at(i / max(1, len(middles) - 1)):.1f},{_up(min(value / top, 1)):.1f}"
        for i, value in enumerate(middles)
    ]
    parts.append(f'<polyline class="line" points="{" ".join(places)}"/>')
    for share in (0.0, 0.5, 1.0):
        number = 1 + round(share * (len(values) - 1))
        parts.append(_text(_at(share), _HEIGHT - _BOTTOM + 16, f"{number:,}", "middle"))
    return _svg(parts, _HEIGHT)


def plot_bars(bars: Sequence[tuple[str, float, str]], unit: str) -> str:
    """Return horizontal bars.

    Args:
        bars: label, value and class for the colour, such as "bf16", of each.
        unit: the values' unit.
    """
    longest = max((value for _, value, _ in bars), default=0.0) or 1.0
    row, left = 24, 300
    parts = []
    for number, (label, value, kind) in enumerate(bars):
        y = 8 + number * row
        length = (_WIDTH - left - 110) * value / longest
        parts += [
            _text(left - 8, y + 13, label, "end"),
            (
                f'<rect class="bar {escape(kind)}" x="{left}" y="{y}" width="{length:.1f}" '
                f'height="{row - 7}"/>'
            ),
            _text(left + length + 6, y + 13, f"{_three_digits(value)} {unit}", "start"),
        ]
    return _svg(parts, 16 + row * len(bars))


def plot_roofline(roofs: Sequence[Roof], points: Sequence[Point]) -> str:
    """Return a roofline plot: reached speed over intensity, both logarithmic.

    Source: S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance
    model for multicore architectures", CACM 52(4), 2009.

    Args:
        roofs: at least one.
        points: the work that was done.
    """
    across = _Decades([0.1, 1000.0, *(p.intensity for p in points)])
    peaks = [roof.gflops for roof in roofs]
    upward = _Decades([min(peaks) / 100, max(peaks) * 2, *(p.gflops for p in points)])
    parts = _frame("operations for each byte", "GFLOP/s")
    for tick in across.ticks():
        parts.append(_text(_at(across.share(tick)), _HEIGHT - _BOTTOM + 16, f"{tick:g}", "middle"))
    for tick in upward.ticks():
        y = _up(upward.share(tick))
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{tick:g}", "end"))
    for roof in roofs:
        corner = roof.gflops / roof.gigabytes_a_second
        start = max(across.low, upward.low / roof.gigabytes_a_second)
        shape = [
            (start, start * roof.gigabytes_a_second),
            (corner, roof.gflops),
            (across.high, roof.gflops),
        ]
        places = " ".join(
            f"{_at(across.share(x)):.1f},{_up(upward.share(y)):.1f}" for x, y in shape
        )
        parts.append(f'<polyline class="roof" points="{places}"/>')
        label = f"{roof.name}: {roof.gflops:.0f} GFLOP/s"
        parts.append(_text(_WIDTH - _RIGHT - 4, _up(upward.share(roof.gflops)) - 5, label, "end"))
    for point in points:
        x, y = _at(across.share(point.intensity)), _up(upward.share(point.gflops))
        parts.append(f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        parts.append(_text(x + 7, y + 4, point.name, "start"))
    return _svg(parts, _HEIGHT)


class _Decades:
    """A logarithmic axis over whole decades."""

    def __init__(self, values: Sequence[float]) -> None:
        positive = [value for value in values if value > 0]
        self._first = math.floor(math.log10(min(positive)))
        self._last = math.ceil(math.log10(max(positive)))
        self.low, self.high = 10.0**self._first, 10.0**self._last

    def share(self, value: float) -> float:
        place = (math.log10(max(value, self.low)) - self._first) / (self._last - self._first)
        return min(place, 1.0)

    def ticks(self) -> Iterator[float]:
        yield from (10.0**power for power in range(self._first, self._last + 1))


def _at(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _up(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _frame(x_label: str, y_label: str) -> list[str]:
    bottom = _HEIGHT - _BOTTOM
    return [
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>',
        f'<line class="axis" x1="{_LEFT}" x2="{_LEFT}" y1="{_TOP}" y2="{bottom}"/>',
        _text(_at(0.5), _HEIGHT - 8, x_label, "middle"),
        (
            f'<text transform="translate(14 {_up(0.5):.0f}) rotate(-90)" '
            f'text-anchor="middle">{escape(y_label)}</text>'
        ),
    ]


def _grid_y(top: float) -> list[str]:
    parts = []
    step = _round_step(top / 4)
    for number in range(int(top / step) + 1):
        y = round(_up(number * step / top), 1)
        if number:
            ends = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}"'
            parts.append(f'<line class="grid" {ends} y1="{y}" y2="{y}"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{number * step:g}", "end"))
    return parts


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= least)


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: Sequence[str], height: float) -> str:
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" role="img">'
        f"{''.join(parts)}</svg></figure>"
    )
