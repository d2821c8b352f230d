"""A kernel is compiled for a size only when it pays off, and only for few sizes."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster import deferred, xla_fusion

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def counted(monkeypatch):
    """Return a function that returns the sizes, of some in order, for which the kernel ran.

    A size pays off after a thousand elements.
    """
    import tensorflow as tf

    names = iter(range(10**6))
    monkeypatch.setattr(deferred, "ELEMENTS_BEFORE", 1000)

    def make():
        name = f"{__name__}.{id(monkeypatch)}.{next(names)}"
        function = deferred.Deferred(tf.zeros_like, tf.ones_like)

        @tf.function(input_signature=[tf.TensorSpec([None])])
        def call(vector):
            return function(deferred.pays(name, vector), vector)

        def run(*sizes):
            return [size for size in sizes if not call(tf.fill([size], 5.0)).numpy().any()]

        return run

    return make


def test_a_size_gets_a_kernel_after_enough_elements(counted):
    run = counted()
    assert run(*[100] * 10) == []
    assert run(*[100] * 3) == [100] * 3


def test_a_smaller_last_batch_gets_its_own_kernel_later(counted):
    run = counted()
    epoch = [100] * 9 + [40]
    ran = run(*epoch * 60)
    assert ran.count(100) > 500
    assert ran.count(40) > 20


def test_sizes_that_hardly_repeat_get_no_kernel(counted):
    assert counted()(*range(50, 450), *range(450, 50, -1)) == []


def test_a_kernel_is_compiled_for_at_most_four_sizes(counted):
    run = counted()
    ran = run(*(size for size in range(100, 112) for _ in range(30)))
    assert set(ran) == {100, 101, 102, 103}


def test_an_empty_batch_gets_no_kernel(counted):
    run = counted()
    assert run(*[100] * 12) == [100, 100]
    import tensorflow as tf

    function = deferred.Deferred(tf.zeros_like, tf.ones_like)
    granted = tf.function(lambda x: deferred.pays("an empty batch", x))
    assert not any(bool(granted(tf.zeros([0]))) for _ in range(3))
    assert function(tf.constant(False), tf.zeros([0])).shape == (0,)


def test_the_kernels_of_a_process_are_limited(counted, monkeypatch):
    import tensorflow as tf

    everywhere = int(deferred._stored(deferred._find(tf.constant(deferred._ALL, tf.int64)))[-1])
    monkeypatch.setattr(deferred, "_MOST_KERNELS", everywhere + 1)
    deferred._counting.cache_clear()
    deferred._deciding.cache_clear()
    try:
        assert counted()(*[100] * 12) == [100, 100]
        assert counted()(*[100] * 40) == []
    finally:
        deferred._counting.cache_clear()
        deferred._deciding.cache_clear()


def test_a_size_gets_a_kernel_after_clear_session(counted):
    """The graph asks Python whether XLA compiles, and Keras clears the default graph."""
    import gc

    import keras

    for cached in (deferred._asking, deferred._counting, deferred._deciding):
        cached.cache_clear()
    run = counted()
    assert run(*[100] * 5) == []
    keras.backend.clear_session()
    gc.collect()
    assert run(*[100] * 7) == [100, 100]


def test_no_size_gets_a_kernel_if_xla_does_not_compile(counted, monkeypatch):
    monkeypatch.setattr(deferred, "compiles", lambda: False)
    assert counted()(*[100] * 20) == []


def test_the_names_of_inputs_are_valid(counted, caplog):
    """TensorFlow would warn of others on standard error."""
    for each in (deferred._always, deferred._deciding, deferred._counting, deferred._asking):
        each.cache_clear()
    with caplog.at_level("WARNING", logger="tensorflow"):
        counted()(600, 600, 600)
    assert not caplog.records


def test_a_kernel_that_is_the_plain_function_is_also_compiled():
    import tensorflow as tf

    def double(tensor):
        return 2.0 * tensor

    function = deferred.Deferred(double, double)
    traced = tf.function(lambda x: function(tf.constant(True), x)).get_concrete_function(tf.ones(3))
    nodes = [
        node
        for each in traced.graph.as_graph_def().library.function
        for node in each.node_def
        if node.attr["_XlaMustCompile"].b
    ]
    assert len(nodes) == 1
    assert traced(tf.ones(3)).numpy().tolist() == [2.0, 2.0, 2.0]


def test_a_kernel_is_traced_once_for_all_widths(only):
    import tensorflow as tf

    traces = []

    def kernel(tensor):
        traces.append(tensor.shape)
        return 2.0 * tensor

    function = deferred.Deferred(kernel, lambda tensor: 2.0 * tensor)
    for width in (3, 4, 5):
        tf.function(lambda x: function(tf.constant(True), x))(tf.ones((2, width)))
    assert [tuple(shape) for shape in traces] == [(None, None)]


def _model(width):
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(width, activation="gelu"),
            layers.LayerNormalization(),
            layers.Dropout(0.1),
            layers.Dense(width, activation="silu"),
            layers.Dense(3),
        ]
    )


def _kernels():
    import tensorflow as tf

    row = deferred._find(tf.constant(deferred._ALL, tf.int64))
    return int(deferred._stored(row[deferred._COMPILED]))


def _fit(sizes, width=256):
    import keras

    keras.utils.set_random_seed(3)
    model = _model(width)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)

    def batches():
        for size in sizes:
            yield rng.standard_normal((size, 8)).astype("float32"), rng.integers(0, 3, size)

    model.fit(batches(), steps_per_epoch=len(sizes), shuffle=False, verbose=0)
    return [np.array(weight) for weight in model.trainable_weights]


@pytest.fixture
def patched():
    from nano_init.keras_patch import patch_tensorflow, unpatch_tensorflow

    patch_tensorflow()
    yield
    unpatch_tensorflow()


def test_fit_with_a_different_size_per_batch_compiles_nothing(patched):
    before = _kernels()
    _fit(range(200, 1000, 50))
    assert _kernels() == before


def test_small_models_in_a_loop_compile_nothing(patched):
    import keras

    before = _kernels()
    for width in (256, 272, 288):
        keras.backend.clear_session()
        _fit([64] * 20, width)
    assert _kernels() == before


def test_a_long_fit_compiles(patched, monkeypatch):
    monkeypatch.setattr(deferred, "ELEMENTS_BEFORE", 2**18)
    before = _kernels()
    _fit([128] * 12, 320)
    assert _kernels() > before


def test_a_fit_gives_the_weights_of_keras_before_and_after_it_compiles(
    patched, monkeypatch, assert_close
):
    from nano_init.keras_patch import unpatch_tensorflow

    monkeypatch.setattr(deferred, "ELEMENTS_BEFORE", 2**17)
    sizes = [128, 96, 128, 128, 33] * 4
    found = _fit(sizes, 336)
    unpatch_tensorflow()
    assert_close(found, _fit(sizes, 336), 1e-5)


def test_a_custom_loop_compiles_at_once_for_two_sizes(only, count_islands):
    import tensorflow as tf

    with only("activations"):
        model = _model(512)

        def islands(size):
            return count_islands(lambda x: model(x, training=True), tf.ones((size, 8)))

        assert [islands(size) > 0 for size in (64, 48, 40, 64, 80)] == [
            True,
            True,
            False,
            True,
            False,
        ]


def test_the_number_of_shapes_compiled_at_once_is_limited(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(xla_fusion, "_MOST_SHAPES_AT_ONCE", 3)
    answers = [
        xla_fusion._may_be_compiled_at_once(tf.float32, tf.TensorShape([8, width]))
        for width in (16, 17, 18, 19, 16)
    ]
    assert answers == [True, True, True, False, True]
