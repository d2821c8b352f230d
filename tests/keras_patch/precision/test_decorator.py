"""`nano_bf16` casts floating arguments to bfloat16 and leaves everything else unchanged."""

from __future__ import annotations

import threading
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_init import nano_bf16, patch_tensorflow
from nano_init.errors import PrecisionError
from nano_init.keras_patch.precision import autocast

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

Pair = namedtuple("Pair", "x y")
WAYS = {
    "above": lambda f: nano_bf16(tf.function(f)),
    "below": lambda f: tf.function(nano_bf16(f)),
    "eager": nano_bf16,
    "arguments": lambda f: nano_bf16()(tf.function(f)),
    "xla": lambda f: nano_bf16(tf.function(f, jit_compile=True)),
}


@pytest.fixture(params=sorted(WAYS))
def decorate(request):
    return WAYS[request.param]


def dtypes_inside(decorate, *args, **kwargs):
    seen = []

    def look(*args, **kwargs):
        flat = tf.nest.flatten((args, kwargs))
        seen.append([getattr(leaf, "dtype", type(leaf)) for leaf in flat])
        return tf.constant(0)

    decorate(look)(*args, **kwargs)
    return seen[0]


def test_floats_become_bfloat16_and_other_arguments_stay_unchanged(decorate):
    seen = dtypes_inside(
        decorate,
        tf.ones(2),
        np.ones(2, "float16"),
        [tf.constant([1, 2]), {"mask": tf.constant(True), "x": np.ones(1, "float32")}],
        Pair(tf.ones(1, tf.float64), tf.ones(1)),
        label=np.array([3]),
    )
    b = tf.bfloat16
    assert seen == [b, b, tf.int32, tf.bool, b, tf.float64, b, seen[-1]]
    assert seen[-1] == np.int64


def test_strings_variables_and_models_stay_unchanged():
    variable, model = tf.Variable(1.0), keras.Sequential([keras.layers.Dense(1)])
    seen = dtypes_inside(WAYS["above"], tf.constant("text"), variable)
    assert seen == [tf.string, tf.float32]
    assert nano_bf16(lambda m: m)(model) is model


def test_sparse_and_ragged_tensors_keep_their_structure(decorate):
    sparse = tf.sparse.from_dense([[0.0, 1.5]])
    ragged = tf.ragged.constant([[1.5], [2.5, 3.5]])
    if decorate is WAYS["xla"]:
        pytest.skip("XLA takes no ragged tensors")
    seen = decorate(lambda s, r: (tf.sparse.to_dense(s), r.to_tensor(), r.row_splits))
    dense, padded, splits = seen(sparse, ragged)
    assert (dense.dtype, padded.dtype, splits.dtype) == (tf.float32, tf.float32, tf.int64)
    assert padded.numpy().tolist() == [[1.5, 0], [2.5, 3.5]]


def test_outputs_are_float32_unless_output_dtype_is_given():
    def double(x, n):
        return {"x": x * 2, "n": (n, "text")}

    outputs = nano_bf16(double)(tf.ones(2), tf.constant(1))
    assert (outputs["x"].dtype, outputs["n"][0].dtype) == (tf.float32, tf.int32)
    narrow = nano_bf16(output_dtype="bfloat16")(double)(tf.ones(2), tf.constant(1))
    assert narrow["x"].dtype == tf.bfloat16


def test_an_unknown_output_dtype_is_rejected_at_decoration():
    with pytest.raises(PrecisionError, match="output_dtype 'half' is unknown; use 'float32' or"):
        nano_bf16(output_dtype="half")


def test_name_and_docstring_are_kept():
    @nano_bf16
    def step(x):
        """Train."""
        return x

    assert (step.__name__, step.__doc__) == ("step", "Train.")


@pytest.mark.parametrize("way", ["above", "below", "xla"])
def test_a_function_is_traced_once_per_signature(way):
    traces = []

    def step(x, y):
        traces.append(1)
        return tf.reduce_sum(x) + tf.cast(tf.reduce_sum(y), x.dtype)

    decorated = WAYS[way](step)
    for _ in range(4):
        decorated(np.ones((2, 2), "float32"), y=np.ones(2, "int32"))
    assert len(traces) == 1


def test_an_input_signature_of_float32_still_fits():
    @nano_bf16
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def double(x):
        return x * 2

    assert double(tf.ones(3)).numpy().tolist() == [2, 2, 2]


def test_autograph_still_converts_the_function(decorate):
    if decorate is WAYS["eager"]:
        pytest.skip("no AutoGraph outside tf.function")

    def count(x):
        n = tf.constant(0)
        while tf.reduce_sum(x) > 1:
            x = x / 2
            n += 1
        return n

    assert int(decorate(count)(tf.constant([8.0]))) == 3


class Trainer:
    """A trainer with every kind of method as a step."""

    scale = 2.0

    @nano_bf16
    @tf.function
    def above(self, x):
        return x * self.scale

    @tf.function
    @nano_bf16
    def below(self, x):
        return x * self.scale

    @nano_bf16
    def eager(self, x):
        return x * self.scale

    @nano_bf16
    @staticmethod
    def static(x):
        return x * 2

    @classmethod
    @nano_bf16
    def of_class(cls, x):
        return x * cls.scale


@pytest.mark.parametrize("name", ["above", "below", "eager", "static", "of_class"])
def test_methods_of_every_kind_can_be_decorated(name):
    for scale in (2.0, 3.0):
        trainer = Trainer()
        trainer.scale = scale
        expected = 4.5 if name in ("static", "of_class") else 2.25 * scale
        assert float(getattr(trainer, name)(tf.constant(2.25))) == expected


def small_model(head_dtype):
    inputs = keras.Input((8,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, "softmax", dtype=head_dtype)(hidden))


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", None])
@pytest.mark.parametrize("head_dtype", ["float32", None])
@pytest.mark.parametrize("way", ["above", "below", "eager"])
def test_the_custom_loop_of_the_tutorial_trains(precision, head_dtype, way):
    keras.utils.set_random_seed(3)
    if precision:
        patch_tensorflow(precision)
    else:
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = small_model(head_dtype)
    optimizer = keras.optimizers.Adam(0.05)

    @WAYS[way]
    def train_step(x, y):
        with tf.GradientTape() as tape:
            predictions = model(x)
            loss = keras.losses.SparseCategoricalCrossentropy()(y, predictions)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    x = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
    losses = [train_step(x, np.array([0, 1, 2, 0, 1, 2])) for _ in range(5)]
    assert losses[0].dtype == tf.float32
    assert float(losses[-1]) < float(losses[0])


@pytest.mark.parametrize("head_dtype", ["float32", None])
def test_a_raw_loss_uses_exact_targets(decorate, head_dtype):
    """bfloat16 rounds 1001 to 1000, but the difference must still be one."""
    patch_tensorflow("mixed_bfloat16")
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Activation("linear", dtype=head_dtype)]
    )
    loss = decorate(lambda x, y: tf.reduce_mean(tf.square(y - model(x))))
    assert float(loss(tf.constant([[1000.0]]), tf.constant([[1001.0]]))) == 1.0


@pytest.mark.parametrize("way", ["above", "below", "xla"])
def test_a_column_of_the_targets_is_exact_in_a_graph(way):
    loss = WAYS[way](lambda x, y: tf.reduce_mean(tf.square(y[:, 0] - tf.cast(x, tf.float32))))
    assert float(loss(tf.constant([1000.0]), tf.constant([[1001.0, 3.0]]))) == 1.0


@pytest.mark.parametrize("loss", ["mse", keras.losses.MeanSquaredError()])
def test_keras_losses_use_exact_targets(decorate, loss):
    patch_tensorflow("mixed_bfloat16")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Activation("linear")])
    loss = keras.losses.get(loss)
    value = decorate(lambda x, y: tf.reduce_mean(loss(y, model(x))))
    assert float(value(tf.constant([[1000.0]]), tf.constant([[1001.0]]))) == 1.0


def test_raw_variables_multiply_in_bfloat16_and_train(decorate):
    weight, bias = tf.Variable(tf.ones((4, 1))), tf.Variable([0.5])
    dtypes = []

    def step(x, y):
        with tf.GradientTape() as tape:
            product = x @ weight
            dtypes.append(product.dtype)
            loss = tf.reduce_mean(tf.square(y - tf.nn.bias_add(product, bias)))
        return [loss, *tape.gradient(loss, [weight, bias])]

    loss, *gradients = decorate(step)(tf.ones((3, 4)), tf.constant([[5.0]] * 3))
    assert dtypes[0] == tf.bfloat16
    assert float(loss) == pytest.approx(0.25)
    assert [g.dtype for g in gradients] == [tf.float32, tf.float32]
    assert float(gradients[1][0]) == pytest.approx(-1.0, rel=0.01)


def test_a_watched_argument_has_a_gradient(decorate):
    """As in adversarial training, also if a float32 layer reads the original digits."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    kernel = model.layers[0].kernel

    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x)
        return tape.gradient(y, x)

    answer = decorate(slope)(tf.constant([[1.0, 2.0]])).numpy()
    np.testing.assert_allclose(answer[0], kernel.value.numpy()[:, 0], rtol=0.01)


def test_errors_of_the_user_are_raised_unchanged():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?i)incompatible|matrix"):
        nano_bf16(lambda x: x @ x)(tf.ones((2, 3)))
    with pytest.raises(ZeroDivisionError):
        nano_bf16(lambda x: 1 / 0)(1)
    assert autocast._running == 0


def test_other_threads_and_later_code_are_not_affected():
    inside, leave, errors = threading.Event(), threading.Event(), []

    @nano_bf16
    def wait(x):
        inside.set()
        leave.wait(20)
        return x

    thread = threading.Thread(target=wait, args=(tf.ones(1),))
    thread.start()
    inside.wait(20)
    try:
        tf.ones(1) - tf.ones(1, tf.bfloat16)
    except tf.errors.InvalidArgumentError as error:
        errors.append(error)
    leave.set()
    thread.join()
    assert len(errors) == 1
    assert len(autocast._LEDGER) == 0


SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
KINDS = st.sampled_from(["float32", "float16", "float64", "int32", "uint8", "bool", "bfloat16"])


@given(st.lists(st.tuples(SHAPES, KINDS, st.booleans()), max_size=4))
@settings(max_examples=40, deadline=None)
def test_shapes_are_kept_and_only_float32_and_float16_change(specs):
    leaves = [
        np.ones(shape, kind)
        if is_array and kind != "bfloat16"
        else tf.ones(shape, tf.as_dtype(kind))
        if kind != "bool"
        else tf.fill(shape, True)
        for shape, kind, is_array in specs
    ]
    seen = []
    nano_bf16(lambda nest: seen.extend(nest["leaves"]))({"leaves": leaves})
    for (shape, kind, _), leaf in zip(specs, seen, strict=True):
        expected = "bfloat16" if kind in ("float32", "float16") else kind
        assert (tuple(leaf.shape), tf.as_dtype(leaf.dtype).name) == (shape, expected)
