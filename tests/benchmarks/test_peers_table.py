"""The table of peers shows each of them, also where it is faster than nano-run."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

TITLES = {"cnn": "CNN", "tiny": "tiny MLP"}


def result(figures, model: str, key: str, *milliseconds: float, failure: str = ""):
    found = figures.Result(model, key, f"title of {key}", failure=failure)
    for each in milliseconds:
        found.add({"steps": [each], "first": 1.0, "peak_mb": 1.0, "loss": 0.5})
    return found


@pytest.fixture
def figures(benchmarks: Path):
    return importlib.import_module("figures")


def peers_tables(figures, *results):
    return figures.peers_tables(TITLES, results, "ms/step")


def test_a_row_has_the_times_of_all_and_the_ratio_to_the_fastest_peer(figures) -> None:
    (table,) = peers_tables(
        figures,
        result(figures, "cnn", "stock", 600.0),
        result(figures, "cnn", "float32", 500.0),
        result(figures, "cnn", "torch", 450.0),
        result(figures, "cnn", "torch_compile", 480.0),
        result(figures, "cnn", "jax", 900.0),
    )
    assert table.rows == (("CNN", 600.0, 500.0, 450.0, 480.0, 900.0, "title of torch", 0.9),)
    assert [column.name for column in table.columns][-2:] == [
        "fastest peer",
        "nano-run, times as fast as it",
    ]


def test_the_ratio_is_taken_within_a_round(figures) -> None:
    """A machine that is half as fast in a round slows both alike."""
    (table,) = peers_tables(
        figures,
        result(figures, "cnn", "stock", 4.0, 8.0, 4.0),
        result(figures, "cnn", "float32", 1.0, 2.0, 1.0),
        result(figures, "cnn", "torch", 2.0, 4.0, 2.0),
    )
    assert table.rows[0][-1] == 2.0


def test_a_peer_that_fails_or_does_not_apply_leaves_the_others_in_the_row(figures) -> None:
    (table,) = peers_tables(
        figures,
        result(figures, "cnn", "stock", 4.0),
        result(figures, "cnn", "float32", 2.0),
        result(figures, "cnn", "torch", failure="not done"),
        result(figures, "cnn", "jax", 3.0),
        result(figures, "tiny", "stock", 4.0),
        result(figures, "tiny", "float32", 2.0),
        result(figures, "tiny", "torch", 1.0),
    )
    assert table.rows == (
        ("CNN", 4.0, 2.0, "fails", 3.0, "title of jax", 1.5),
        ("tiny MLP", 4.0, 2.0, 1.0, None, "title of torch", 0.5),
    )


def test_bfloat16_is_compared_with_bfloat16(figures) -> None:
    tables = peers_tables(
        figures,
        result(figures, "cnn", "stock", 8.0),
        result(figures, "cnn", "float32", 6.0),
        result(figures, "cnn", "nano", 2.0),
        result(figures, "cnn", "torch", 5.0),
        result(figures, "cnn", "torch_bfloat16", 3.0),
    )
    assert [table.name for table in tables] == ["peers", "peers-bfloat16"]
    assert tables[1].rows == (("CNN", 8.0, 2.0, 3.0, "title of torch_bfloat16", 1.5),)


def test_where_nano_run_has_to_be_told_to_use_bfloat16_that_is_compared(figures) -> None:
    tables = peers_tables(
        figures,
        result(figures, "cnn", "stock", 8.0),
        result(figures, "cnn", "forced", 4.0),
        result(figures, "cnn", "torch_bfloat16", 6.0),
    )
    assert [table.name for table in tables] == ["peers-bfloat16-forced"]
    assert tables[0].rows == (("CNN", 8.0, 4.0, 6.0, "title of torch_bfloat16", 1.5),)


def test_without_peers_there_is_no_such_table(figures) -> None:
    assert not peers_tables(
        figures, result(figures, "cnn", "stock", 8.0), result(figures, "cnn", "float32", 6.0)
    )


def test_an_earlier_record_without_peers_can_be_joined(figures) -> None:
    """`--add` reads files in which no peer ran."""
    stock = result(figures, "cnn", "stock", 8.0)
    table = figures.summary_table(
        TITLES, [stock, result(figures, "cnn", "torch", 4.0)], "processor ms/step"
    )
    assert [column.name for column in table.columns] == [
        "model",
        "stock Keras, processor ms/step",
        "title of torch",
    ]
    assert table.rows == (("CNN", 8.0, 2.0),)
