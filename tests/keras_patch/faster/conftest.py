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
