"""Adam updates a weight of some thousand elements by ops in a graph, another by its kernel."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

BY_OPS = (400, 4096, 8192)
BY_KERNEL = (1, 399, 8193)


def steps(size, kind="Adam", rate=0.01, **options):
    """Return a weight after three steps of an optimizer in a graph, and the ops of a step."""
    optimizer = getattr(keras.optimizers, kind)(rate, **options)
    weight = keras.Variable(np.linspace(-1, 1, size, dtype="float32"))
    optimizer.build([weight])

    @tf.function
    def step(gradient):
        optimizer.apply([gradient])

    for seed in range(3):
        rng = np.random.default_rng(seed)
        step(tf.constant(rng.standard_normal(size), tf.float32))
    graph = step.get_concrete_function(tf.zeros([size])).graph
    return weight.numpy(), {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("size", [*BY_OPS, *BY_KERNEL])
def test_the_size_decides(only, size):
    with only("adam", "step_scalars"):
        _, ops = steps(size)
    assert ("ResourceApplyAdam" in ops) == (size in BY_KERNEL)


@pytest.mark.parametrize("size", BY_OPS)
@pytest.mark.parametrize(
    "options",
    [{}, {"beta_1": 0.5, "epsilon": 1e-3}, {"weight_decay": 0.1}, {"clipnorm": 0.5}],
    ids=str,
)
def test_ops_give_keras_numbers(only, size, options):
    expected, _ = steps(size, **options)
    with only("adam", "step_scalars"):
        found, _ = steps(size, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_a_schedule_of_the_learning_rate_is_followed(only, kind):
    rate = keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)
    expected, _ = steps(4096, kind, rate)
    with only("adam", "step_scalars"):
        found, ops = steps(4096, kind, rate)
    assert "ResourceApplyAdam" not in ops
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_ops_and_kernel_share_scalars_that_are_computed_once(only):
    with only("adam", "step_scalars"):
        optimizer = keras.optimizers.Adam(0.01)
        sizes = (1024, 4, 2048, 1024)
        weights = [keras.Variable(np.ones(size, "float32")) for size in sizes]
        optimizer.build(weights)
        step = tf.function(lambda *gradients: optimizer.apply(gradients))
        graph = step.get_concrete_function(*(tf.zeros([size]) for size in sizes)).graph
    assert sum(operation.type == "Pow" for operation in graph.get_operations()) == 2


def test_eager_updates_use_the_kernel(only, monkeypatch):
    called = []
    kernel = tf.raw_ops.ResourceApplyAdam
    monkeypatch.setattr(
        tf.raw_ops, "ResourceApplyAdam", lambda **given: (called.append(1), kernel(**given))
    )
    with only("adam"):
        optimizer = keras.optimizers.Adam(0.01)
        weight = keras.Variable(np.ones(4096, "float32"))
        optimizer.build([weight])
        optimizer.apply([tf.ones([4096])])
    assert called == [1]
