"""Every test here leaves Keras as it was: unpatched, default policy, no names used.

With `NANO_TEST_BARE_POLICY=1` the `mixed` fixture sets only Keras's policy and does not patch:
the tests of the guards then show the errors of a bare policy.
"""

from __future__ import annotations

import functools
import gc
import os
import sys

import pytest


@pytest.fixture(autouse=True)
def _restored_keras():
    if "keras" in sys.modules:
        # Collections during this test then skip the million objects of TensorFlow's modules. What
        # earlier tests have left is garbage by now, which must not be kept.
        gc.collect()
        gc.freeze()
    yield
    if "keras" not in sys.modules:
        return
    import keras

    from nano_init.keras_patch import unpatch_tensorflow

    unpatch_tensorflow()
    keras.backend.set_floatx("float32")
    keras.backend.clear_session()


@functools.cache
def _parts_aside():
    """Return what steps aside on this Keras, by name, with the reason."""
    from nano_init import active_paths, patch_tensorflow, unpatch_tensorflow
    from nano_init.patch import current_precision

    patch_tensorflow("mixed_bfloat16", lazy_adam=True)
    aside = {part.name: part.reason for part in active_paths().aside}
    if current_precision() != "mixed_bfloat16":
        aside["mixed_bfloat16"] = "it is refused"
    unpatch_tensorflow()
    return aside


@pytest.fixture(autouse=True)
def _skipped_where_parts_step_aside(request):
    """Skip tests of parts that step aside on this Keras, such as one from source."""
    names = [name for mark in request.node.iter_markers("needs_part") for name in mark.args]
    for name in names:
        if name in _parts_aside():
            import keras

            pytest.skip(f"no {name} on Keras {keras.__version__}: {_parts_aside()[name]}")


@pytest.fixture
def mixed():
    """Patch Keras so that new layers are mixed_bfloat16."""
    import keras

    from nano_init import patch_tensorflow
    from nano_init.patch import current_precision

    keras.utils.set_random_seed(7)
    if os.environ.get("NANO_TEST_BARE_POLICY"):
        keras.config.set_dtype_policy("mixed_bfloat16")
    else:
        patch_tensorflow("mixed_bfloat16")
        if current_precision() != "mixed_bfloat16":
            pytest.skip(f"mixed_bfloat16 is refused on Keras {keras.__version__}")


@pytest.fixture
def suppose_precision(monkeypatch):
    """Return a function that lets the processor be one for which a precision is recommended."""
    from nano_init.keras_patch.faster.processor import is_slow_in_bfloat16
    from nano_init.plan.settings import PrecisionChoice

    def suppose(precision):
        choice = PrecisionChoice(precision, "supposed by a test")
        monkeypatch.setattr("nano_init.plan.precision.recommend_precision", lambda *_: choice)
        is_slow_in_bfloat16.cache_clear()

    yield suppose
    is_slow_in_bfloat16.cache_clear()


@pytest.fixture
def slow(suppose_precision, mixed):
    """Suppose a processor that multiplies float32 faster than bfloat16, under the patch."""
    suppose_precision("float32")


@pytest.fixture
def count_ops():
    """Return a function that counts the ops of one type in the graph of a function."""
    import tensorflow as tf

    def count(kind, function, *arguments):
        graph = tf.function(function).get_concrete_function(*arguments).graph
        return sum(op.type == kind for op in graph.get_operations())

    return count
