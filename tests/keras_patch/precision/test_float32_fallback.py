"""A layer that fails only in bfloat16 runs in float32; other failures stay unchanged."""

from __future__ import annotations

import traceback

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from nano_init.keras_patch import notice

pytestmark = [pytest.mark.tensorflow, pytest.mark.usefixtures("mixed")]

X = np.ones((2, 3), "float32")


class Picky(layers.Layer):
    """Rejects bfloat16 like a library that checks dtypes itself."""

    calls = 0

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 2), name="w")

    def call(self, x):
        self.calls += 1
        if x.dtype == tf.bfloat16:
            raise TypeError("expected float32, got bfloat16")
        return x @ self.w


@pytest.fixture(autouse=True)
def _no_notices_yet(monkeypatch):
    monkeypatch.setattr(notice, "_said", set())


def test_a_failing_layer_runs_in_float32_from_then_on_with_one_notice(capsys):
    layer = Picky(name="picky")
    for _ in range(2):
        assert layer(X).shape == (2, 2)
    assert layer.compute_dtype == "float32"
    assert layer.calls == 3
    said = [line for line in capsys.readouterr().err.splitlines() if "picky" in line]
    expected = "nano-init: layer 'picky' (Picky) runs in float32, because it fails in bfloat16: "
    assert said == [expected + "expected float32, got bfloat16"]


def test_only_the_innermost_failing_layer_is_changed():
    model = keras.Sequential([layers.Dense(3), Picky(), layers.Dense(1)])
    model(X)
    assert [layer.compute_dtype for layer in model.layers] == ["bfloat16", "float32", "bfloat16"]


def test_sublayers_of_the_failing_layer_become_float32():
    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(3)

        def call(self, x):
            y = self.inner(x)
            if y.dtype == tf.bfloat16:
                raise ValueError("no kernel for bfloat16")
            return y

    outer = Outer()
    outer(X)
    assert outer.inner.compute_dtype == "float32"


def test_a_failed_build_leaves_no_weights_behind():
    class Building(layers.Layer):
        def build(self, shape):
            self.first = self.add_weight(shape=(3,), name="first")
            if self.compute_dtype == "bfloat16":
                raise TypeError("cannot build for bfloat16")
            self.second = self.add_weight(shape=(3,), name="second")

        def call(self, x):
            return x + self.first + self.second

    layer = Building()
    layer(X)
    assert [w.name for w in layer.weights] == ["first", "second"]


def test_a_functional_model_with_a_failing_layer_is_built_and_trained():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(1)(Picky()(layers.Dense(3)(inputs))))
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit(X, X[:, :1], verbose=0).history["loss"][0])


def test_losses_of_the_failed_call_are_dropped():
    class Losing(layers.Layer):
        def call(self, x):
            self.add_loss(tf.reduce_sum(x) * 0 + 1.0)
            if x.dtype == tf.bfloat16:
                raise TypeError("bfloat16")
            return x

    layer = Losing()
    layer(X)
    assert [float(loss) for loss in layer.losses] == [1.0]


@pytest.mark.parametrize(
    "error",
    [ValueError("needs 3 features"), KeyError("x"), MemoryError("bfloat16"), ZeroDivisionError()],
    ids=repr,
)
def test_an_error_of_the_script_is_raised_once_and_unchanged(error):
    calls = []

    class Failing(layers.Layer):
        def call(self, x):
            calls.append(x)
            raise error

    layer = Failing()
    with pytest.raises(type(error)):
        layer(X)
    assert len(calls) == 1
    assert layer.compute_dtype == "bfloat16"


def test_a_layer_that_also_fails_in_float32_keeps_its_policy_and_error():
    class Failing(layers.Layer):
        def call(self, x):
            raise TypeError(f"got {x.dtype.name}")

    layer = Failing()
    with pytest.raises(TypeError, match="got float32") as caught:
        layer(X)
    assert "bfloat16" not in "".join(traceback.format_exception(caught.value))
    assert layer.compute_dtype == "bfloat16"


def test_a_layer_without_super_init_raises_the_error_of_keras():
    class Bare(layers.Layer):
        def __init__(self):
            pass

    with pytest.raises(RuntimeError, match=r"super\(\)\.__init__"):
        Bare()(X)


def test_an_interrupt_is_not_caught():
    class Interrupted(layers.Layer):
        def call(self, x):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Interrupted()(X)
