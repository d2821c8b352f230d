"""Every test here ends with Keras as it began: unpatched, default policy, no names used."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _restored_keras():
    yield
    if "keras" not in sys.modules:
        return
    import keras

    from nano_init.keras_patch import unpatch_tensorflow

    unpatch_tensorflow()
    keras.backend.set_floatx("float32")
    keras.backend.clear_session()
