"""A comparison is fair, and says "no difference" if it finds none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nano_init.evidence.sampling.comparison import (
    Comparison,
    comparison_to_json,
    format_comparison,
    sample_in_turn,
)
from nano_init.evidence.sampling.sample import Sample

Run = Callable[..., Any]


def sample(milliseconds: float, **more: Any) -> Sample:
    plain = Sample((milliseconds / 1000,) * 9, (2.0, 1.0), 4.0, 32, 700 * 1024, "[]")
    return replace(plain, **more)


def compared(plain: list[float], ours: list[float], **more: Any) -> Comparison:
    return Comparison(
        tuple(map(sample, plain)),
        tuple(sample(each, **more) for each in ours),
        "float32: as requested",
    )


def test_the_order_alternates_every_round() -> None:
    order: list[str] = []

    def take(name: str) -> Callable[[int], Sample]:
        return lambda number: order.append(f"{name}{number}") or sample(1)  # type: ignore[func-returns-value]

    plain, ours = sample_in_turn(take("p"), take("n"), 3, lambda: order.append("."))
    assert "".join(order) == "p0.n0.n1.p1.p2.n2."
    assert len(plain) == len(ours) == 3


def test_a_faster_step_is_reported() -> None:
    text = format_comparison(compared([10, 11, 10.5], [5, 5.6, 5.2]))
    assert "Verdict: a step under nano-run is 1.99 times as fast as under python" in text
    assert "step time, ms" in text
    assert "10.5 (10.0-11.0)" in text


def test_a_slower_step_is_reported() -> None:
    text = format_comparison(compared([5, 5.6, 5.2], [10, 11, 10.5]))
    assert "Verdict: a step under nano-run is 1.99 times as slow as under python" in text


def test_noise_is_reported_as_no_difference() -> None:
    text = format_comparison(compared([10, 12, 10], [11, 10, 12]))
    assert "Verdict: no difference in step time that 3 rounds can distinguish from noise" in text


def test_missing_quantities_are_left_out() -> None:
    text = format_comparison(compared([10, 12, 10], [11, 10, 12], batch=None, peak_kb=None))
    assert "throughput" not in text
    assert "peak memory" not in text


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("plain", "ours", "words"),
    [
        (1.0, 1.0, "within the spread of the rounds"),
        (1.0, 1.5, "+50.0% beyond the spread of the rounds"),
        (-2.0, -1.0, "+50.0% beyond the spread of the rounds"),
        (-2.0, -3.0, "-50.0% beyond the spread of the rounds"),
        (0.0, 0.25, "+0.25 beyond the spread of the rounds"),
        (0.0, -0.25, "-0.25 beyond the spread of the rounds"),
        (0.0, 0.0, "within the spread of the rounds"),
        (1.0, 0.0, "-100.0% beyond the spread of the rounds"),
        (1.0, NAN, "not finite under nano-run"),
        (1.0, -INF, "not finite under nano-run"),
        (NAN, 1.0, "not finite under python"),
        (INF, 1.0, "not finite under python"),
        (NAN, INF, "not finite in both"),
    ],
)
def test_losses_are_judged_by_the_spread(plain: float, ours: float, words: str) -> None:
    first, second = (
        tuple(sample(10, losses=(2.0, loss)) for _ in range(3)) for loss in (plain, ours)
    )
    (line,) = (
        line
        for line in format_comparison(Comparison(first, second, "float32")).splitlines()
        if line.startswith("loss after 2 steps")
    )
    assert line.endswith(f"  {words}")


def test_a_single_loss_that_is_not_finite_is_reported() -> None:
    """NaN compares as false with everything, so its position among the rounds must not matter."""
    some = [sample(10, losses=(loss,)) for loss in (1.0, NAN, 2.0)]
    all_ = [sample(10, losses=(1.5,))] * 3
    for plain, ours, words in (
        (some, all_, "not finite under python"),
        (all_, some, "not finite under nano-run"),
    ):
        for order in (1, -1):
            text = format_comparison(Comparison(tuple(plain[::order]), tuple(ours), "float32"))
            assert f"  {words}\n" in text


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    compared_ = compared([10, 12, 10], [11, 10, 12], losses=(NAN, INF))
    found = json.loads(json.dumps(comparison_to_json(compared_), allow_nan=False))
    assert found["loss"] == {"python": [1, 1, 1], "nano_run": [None, None, None]}


def test_json_contains_every_round() -> None:
    found = json.loads(json.dumps(comparison_to_json(compared([10, 12, 10], [5, 6, 5]))))
    step = found["quantities"]["step_time"]
    assert step["python"] == pytest.approx([10, 12, 10])
    assert step["is_real"]
    assert found["loss"]["nano_run"] == [1, 1, 1]
    assert found["verdict"].startswith("a step under nano-run is 2.00 times as fast")


SCRIPT = """
import sys, keras, numpy as np
open("log.txt", "a").write("ran")
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
# Shuffled, so that the losses depend on the order of the batches.
model.fit(np.random.rand(64, 8), np.random.rand(64, 1), batch_size=4, epochs=int(sys.argv[1]))
"""


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_script_is_compared_and_its_files_are_not_touched(nano_run: Run, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(SCRIPT)
    options = ("--compare", "--json", "--sample-steps", "12", "--sample-rounds", "3")
    result = nano_run(*options, "--precision", "float32", "s.py", "3")
    if "copy-on-write" in result.stderr:
        pytest.skip(result.stderr)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["rounds"] == 3
    assert set(found["quantities"]) == {
        "step_time",
        "throughput",
        "peak_memory",
        "time_to_first_step",
    }
    # Each round has its own seed, which both of its samples share.
    losses = found["loss"]
    assert losses["python"] == pytest.approx(losses["nano_run"], rel=1e-3)
    assert len(set(losses["python"])) == 3
    assert os.listdir(tmp_path) == ["s.py"]


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message", "code"),
        [
            (
                ("--json", "s.py"),
                "--json needs --compare",
                2,
            ),
            (
                ("--compare", "--dry-run", "s.py"),
                "--dry-run runs nothing and cannot be combined with --compare, --tune or --report",
                2,
            ),
            (("--compare", "no.py"), "script not found: 'no.py'; check the path", 2),
            (
                ("--compare", "-"),
                "a program on stdin can be read only once; save it to a file to measure it",
                1,
            ),
            (
                ("--compare", "--sample-rounds", "2", "s.py"),
                (
                    "invalid value for '--sample-rounds': 2 is not in the range 3<=x<=100; "
                    "see 'nano-run --help'"
                ),
                2,
            ),
        ],
    )
    def test_one_sentence(
        self, nano_run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str, code: int
    ) -> None:
        (tmp_path / "s.py").write_text("")
        result = nano_run(*arguments)
        assert (result.stdout, result.returncode) == ("", code)
        assert result.stderr == f"nano-run: {message}\n"

    def test_a_script_that_trains_nothing_is_reported(self, nano_run: Run, tmp_path: Path) -> None:
        (tmp_path / "s.py").write_text("print('nothing')")
        result = nano_run("--compare", "-q", "s.py")
        if "copy-on-write" in result.stderr:
            pytest.skip(result.stderr)
        assert (result.stdout, result.returncode) == ("", 1)
        assert result.stderr.startswith("nano-run: under python: no training was seen")
        assert "--precision" not in result.stderr
