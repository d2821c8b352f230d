"""Fixtures to compare Keras with and without faster paths."""

from __future__ import annotations

import concurrent.futures
import contextlib

import numpy as np
import pytest

from nano_init.keras_patch.faster import deferred, xla_fusion
from nano_init.keras_patch.faster.registry import path_replacements
from nano_init.keras_patch.ledger import Ledger


@pytest.fixture
def only():
    """Return a context in which only some faster paths are active, installed in their order."""

    @contextlib.contextmanager
    def with_paths(*names):
        ledger = Ledger()
        for name in names:
            before = len(ledger)
            ledger.apply(path_replacements(name))
            assert len(ledger) > before
        try:
            yield
        finally:
            ledger.restore()

    return with_paths


@pytest.fixture(autouse=True)
def _no_sizes_yet(monkeypatch):
    """Let each test compile as in a fresh process."""
    monkeypatch.setattr(xla_fusion, "_sizes_at_once", {})


@pytest.fixture
def count_islands():
    """Return a function that counts the compiled islands in the graph of a function."""
    import tensorflow as tf

    def islands_in(nodes, functions):
        count = 0
        for node in nodes:
            if "_XlaMustCompile" in node.attr and node.attr["_XlaMustCompile"].b:
                count += 1
            else:
                called = {value.func.name for value in node.attr.values() if value.func.name}
                count += sum(islands_in(functions[name].node_def, functions) for name in called)
        return count

    def count(function, *arguments):
        graph = tf.function(function).get_concrete_function(*arguments).graph.as_graph_def()
        functions = {each.signature.name: each for each in graph.library.function}
        return islands_in(graph.node, functions)

    return count


@pytest.fixture
def assert_close():
    """Return a function that compares arrays with a tolerance relative to the largest number."""

    def check(found, expected, tolerance=1e-5):
        assert len(found) == len(expected)
        for mine, keras_own in zip(found, expected, strict=True):
            assert mine.shape == keras_own.shape
            scale = max(1.0, np.abs(keras_own).max(initial=0.0))
            np.testing.assert_allclose(mine, keras_own, rtol=0, atol=tolerance * scale)

    return check


@pytest.fixture
def one_call():
    """Return a function that returns output and gradients of one call of a layer.

    The call runs in a graph of known shape, with unknown batch or unknown sizes, eagerly, as a
    whole under XLA, in a replica of a strategy, or in several threads.
    """
    return _one_call


def _one_call(make, shape, *, way="graph", training=True, scale=1.0):
    import tensorflow as tf

    rng = np.random.default_rng(2)
    layer = make()
    layer.build((None, *shape[1:]))
    for weight in layer.trainable_weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    dtype = "bfloat16" if layer.compute_dtype == "bfloat16" else "float32"
    inputs = tf.cast(scale * rng.standard_normal(shape).astype("float32"), dtype)

    def call(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = layer(inputs, training=training)
            score = tf.reduce_sum(tf.sin(tf.cast(output, tf.float32)))
        weights = [variable.value for variable in layer.trainable_variables]
        return [output, *tape.gradient(score, [inputs, *weights])]

    found = _run(way, call, inputs, shape)
    return [tf.cast(part, tf.float32).numpy() for part in found]


def _run(way, call, inputs, shape):
    import tensorflow as tf

    if way == "eager":
        return call(inputs)
    if way == "compiled":
        return tf.function(call, jit_compile=True)(inputs)
    unknown = {"unknown batch": (None, *shape[1:]), "unknown sizes": (None,) * len(shape)}
    spec = tf.TensorSpec(unknown.get(way, shape), inputs.dtype)
    graph = tf.function(call, input_signature=[spec])
    if way == "replica":
        cpus = [cpu.name for cpu in tf.config.list_logical_devices("CPU")]
        strategy = tf.distribute.MirroredStrategy(cpus)
        return strategy.experimental_local_results(strategy.run(graph, (inputs,)))[0]
    if way == "threads":
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return list(pool.map(graph, [inputs] * 8))[-1]
    return graph(inputs)


@pytest.fixture(params=["kernels", "ops"])
def ten_steps(request, monkeypatch):
    """Return a function that trains a model for ten steps and returns its weights.

    Islands are compiled on their first run, or never.
    """
    before = {"kernels": 0, "ops": 2**62}[request.param]
    monkeypatch.setattr(deferred, "ELEMENTS_BEFORE", before)

    def train(build, inputs, targets, loss="mse"):
        import keras

        keras.utils.set_random_seed(5)
        model = build()
        model.compile(keras.optimizers.SGD(0.05), loss)
        model.fit(inputs, targets, len(inputs) // 10, shuffle=False, verbose=0)
        return model, [np.array(weight) for weight in model.trainable_weights]

    return train
