"""Keras with faster paths and without, side by side."""

from __future__ import annotations

import contextlib

import pytest

from nano_init.keras_patch.faster.registry import FASTER_PATHS, faster_path_replacements
from nano_init.keras_patch.ledger import Ledger


@pytest.fixture
def only():
    """Return a context in which one faster path, and no other, is in place."""

    @contextlib.contextmanager
    def with_path(name):
        ledger = Ledger()
        ledger.apply(faster_path_replacements(set(FASTER_PATHS) - {name}))
        assert len(ledger) > 0
        try:
            yield
        finally:
            ledger.restore()

    return with_path


@pytest.fixture
def count_ops():
    """Return a function that counts the ops of one type which a function puts in its graph."""
    import tensorflow as tf

    def count(kind, function, *arguments):
        graph = tf.function(function).get_concrete_function(*arguments).graph
        return sum(op.type == kind for op in graph.get_operations())

    return count
