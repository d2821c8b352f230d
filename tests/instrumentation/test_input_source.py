"""The source of batches is known, and only missing pipeline stages are advised."""

from __future__ import annotations

from typing import Any

import pytest

from nano_init.evidence.report.pipeline_stages import missing_stages
from nano_init.instrumentation.input_source import describe_input

MAP = "map() with num_parallel_calls=tf.data.AUTOTUNE"


def test_arrays_and_python_code_are_not_pipelines() -> None:
    class Batches:  # like keras.utils.PyDataset
        num_batches = 3

    assert describe_input([1, 2]) == describe_input(None) == ["arrays"]
    assert describe_input(iter([1])) == describe_input(Batches()) == ["Python"]
    # Like PyTorch's DataLoader: an iterable that is neither an array nor an iterator.
    assert describe_input(range(3)) == ["Python"]


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("make", "missing"),
    [
        (lambda d: d, ["cache()", "prefetch()"]),
        (lambda d: d.map(lambda x: x), ["cache()", MAP, "prefetch()"]),
        (lambda d: d.map(lambda x: x, num_parallel_calls=2).cache().batch(2).prefetch(1), []),
        (lambda d: d.cache().concatenate(d.map(lambda x: x)).prefetch(1), [MAP]),
    ],
)
def test_missing_pipeline_stages_are_listed(make: Any, missing: list[str]) -> None:
    import tensorflow as tf

    described = describe_input(make(tf.data.Dataset.range(4)))
    assert described[0] == "tf.data"
    assert missing_stages(described) == missing
