"""Plots of a report have round numbers on their axes and stay within their frames."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.evidence.report.svg import Point, Roof, plot_bars, plot_line, plot_roofline

POSITIVE = st.floats(1e-6, 1e6)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.030, 0.040], ["0", "0.01", "0.02", "0.03"]),
        ([63.0] * 9, ["0", "20", "40", "60"]),
        ([0.0, 0.0], ["0", "0.5", "1"]),
    ],
)
def test_an_axis_is_labelled_with_round_numbers(values: list[float], ticks: list[str]) -> None:
    svg = plot_line(values, "step", "ms")
    assert re.findall(r'text-anchor="end">([^<]*)<', svg) == ticks


def test_bar_labels_have_at_least_three_digits() -> None:
    svg = plot_bars([("a", 1234.5, "f32"), ("b", 19.0, "f32"), ("c", 0.0581, "f32")], "ms")
    assert re.findall(r"([\d.,]+) ms", svg) == ["1,234", "19.0", "0.0581"]


@given(st.lists(POSITIVE, min_size=1, max_size=2000), POSITIVE, POSITIVE, st.text())
def test_plots_stay_in_their_frame(
    values: list[float], gflops: float, bandwidth: float, name: str
) -> None:
    svgs = (
        plot_line(values, "step", "ms"),
        plot_bars([(name, value, "bf16") for value in values[:20]], "ms"),
        plot_roofline([Roof(name, gflops, bandwidth)], [Point(name, values[0], values[-1])]),
    )
    for svg in svgs:
        numbers = re.findall(r' (?:x|y|x1|x2|y1|y2|cx|cy)="([^"]*)"', svg)
        numbers += [n for p in re.findall(r'points="([^"]*)"', svg) for n in re.split("[ ,]", p)]
        assert all(-20 <= float(number) <= 780 for number in numbers)
        assert svg.count("<") == svg.count(">")
