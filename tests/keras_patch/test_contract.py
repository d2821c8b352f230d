"""The contract of every part of the patch, in tiny models; `scripts/test-matrix` runs it too.

A faster path gives Keras's numbers within its tolerance, eagerly, in a graph and under XLA, in
training and inference, with masks, in ten steps, in saved files and in threads, and steps aside for
unsupported layers and optimizers. Other parts do not change a float32 training. Unpatching restores
Keras completely.
"""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from nano_init import active_paths, patch_tensorflow, unpatch_tensorflow
from nano_init.keras_patch.faster import convolution, deferred, optimizer_update, xla_fusion
from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.protocol.faster_paths import FASTER_PATHS, PATH_RECORDS
from nano_init.protocol.patch_parts import ALL_RECORDS
from nano_init.protocol.patch_record import GUARD, WORKER

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:.*does not support masking"),
]

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

RECORDS = {record.name: record for record in PATH_RECORDS}
WAYS = ("eager", "graph", "compiled")

# For numbers that were rounded to bfloat16, such as the inputs of the path `depthwise`.
BFLOAT16_TOLERANCE = 2e-2


@dataclass(frozen=True)
class Case:
    """A model that trains through a faster path.

    Args:
        layers: Makes the layers between the input and a dense head.
        shape: The shape of one input.
        unsupported: Makes layers that the path does not support; None if it supports all.
        optimizer: Makes the optimizer.
        unsupported_optimizer: Makes an optimizer that the path does not support.
        ids: The inputs are ids below this number.
        is_mixed: The path is for layers in mixed_bfloat16.
        ways: The ways of running in which the path is taken.
    """

    layers: Callable[[], list[Any]] = list
    shape: tuple[int, ...] = (6,)
    unsupported: Callable[[], list[Any]] | None = None
    optimizer: Callable[[], Any] = lambda: keras.optimizers.SGD(0.1)
    unsupported_optimizer: Callable[[], Any] | None = None
    ids: int = 0
    is_mixed: bool = False
    ways: tuple[str, ...] = ("graph",)


def _activations():
    return [keras.layers.Activation(n) for n in ("gelu", "silu", "relu6", "hard_silu")]


class SelfAttention(keras.layers.Layer):
    """Attention of a sequence to itself, as in an encoder."""

    def __init__(self, **options):
        super().__init__()
        self.supports_masking = True
        self.attention = keras.layers.MultiHeadAttention(2, 4, **options)

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, x):
        return self.attention(x, x)


def _normalizations():
    more = [keras.layers.RMSNormalization()] if hasattr(keras.layers, "RMSNormalization") else []
    return [keras.layers.LayerNormalization(), *more]


def _depthwise(strides=2):
    return [
        keras.layers.DepthwiseConv2D(3, strides, padding="same"),
        keras.layers.SeparableConv2D(4, 3, strides, padding="same"),
    ]


def _convolutions():
    pointwise = [L.Conv2D(3, 1, use_bias=False), L.Conv2D(4, 1, 2)]
    return [*pointwise, L.Conv2D(4, 3, padding="same"), L.Reshape((16, 4)), L.Conv1D(4, 5, 3)]


SEQUENCE = (4, 6)
IMAGE = (8, 8, 4)
L = keras.layers

CASES = {
    "activations": Case(_activations, SEQUENCE),
    "adadelta": Case(
        optimizer=lambda: keras.optimizers.Adadelta(0.5),
        ways=WAYS,
    ),
    "adafactor": Case(optimizer=lambda: keras.optimizers.Adafactor(0.1)),
    "adagrad": Case(optimizer=lambda: keras.optimizers.Adagrad(0.01)),
    "adam": Case(
        optimizer=lambda: keras.optimizers.Adam(0.01),
        unsupported_optimizer=lambda: keras.optimizers.Adam(0.01, amsgrad=True),
        ways=WAYS,
    ),
    "adamax": Case(optimizer=lambda: keras.optimizers.Adamax(0.01), ways=WAYS),
    "array_passes": Case(),
    "attention": Case(lambda: [SelfAttention()], SEQUENCE),
    "batch_norm": Case(
        lambda: [L.BatchNormalization()],
        IMAGE,
        lambda: [L.BatchNormalization(1)],
        ways=("eager", "graph"),
    ),
    "convolution": Case(
        _convolutions,
        IMAGE,
        lambda: [L.Conv2D(4, 1, groups=2)],
        ways=WAYS,
    ),
    "cross_entropy": Case(),
    "depthwise": Case(_depthwise, IMAGE, lambda: _depthwise(1), is_mixed=True, ways=WAYS),
    "dropout": Case(
        lambda: [L.Dropout(0.5, seed=3)], SEQUENCE, lambda: [L.Dropout(0.5, (None, 1, 6), seed=3)]
    ),
    "einsum_dense": Case(
        lambda: [L.EinsumDense("abc,cde->abde", (4, 3, 2), bias_axes="d")],
        SEQUENCE,
        lambda: [L.EinsumDense("abc,cb->ab", 4)],
        ways=WAYS,
    ),
    "embedding": Case(
        lambda: [L.Embedding(9, 5, mask_zero=True), L.LSTM(3)], (4,), ids=9, ways=WAYS
    ),
    "fit_stall": Case(),
    "flat_step": Case(),
    "ftrl": Case(
        optimizer=lambda: keras.optimizers.Ftrl(0.1, l1_regularization_strength=0.01),
        unsupported_optimizer=lambda: keras.optimizers.Ftrl(0.1, learning_rate_power=-0.4),
    ),
    "grouped_convolution": Case(
        lambda: [L.Conv2D(8, 3, groups=2, padding="same"), L.Conv2D(8, 3, groups=8)],
        IMAGE,
        lambda: [L.Conv2D(4, 1)],
        ways=("eager", "graph"),
    ),
    "gru": Case(
        lambda: [L.GRU(3, return_sequences=True)],
        SEQUENCE,
        lambda: [L.GRU(3, activation="relu")],
        ways=("graph", "compiled"),
    ),
    "lamb": Case(optimizer=lambda: keras.optimizers.Lamb(0.01)),
    "layer_norm": Case(_normalizations, SEQUENCE, lambda: [L.LayerNormalization(1)]),
    "lion": Case(optimizer=lambda: keras.optimizers.Lion(0.01)),
    "lstm": Case(
        lambda: [L.LSTM(3, return_sequences=True)],
        SEQUENCE,
        lambda: [L.LSTM(3, recurrent_dropout=0.2, seed=1)],
        ways=("graph", "compiled"),
    ),
    "nadam": Case(optimizer=lambda: keras.optimizers.Nadam(0.01)),
    "one_trace": Case(),
    "replica_reduction": Case(),
    "rmsprop": Case(
        optimizer=lambda: keras.optimizers.RMSprop(0.01, momentum=0.5),
        unsupported_optimizer=lambda: keras.optimizers.RMSprop(0.01, centered=True),
        ways=WAYS,
    ),
    "sgd": Case(optimizer=lambda: keras.optimizers.SGD(0.1, 0.9, nesterov=True), ways=WAYS),
    "step_call": Case(),
    "step_scalars": Case(optimizer=lambda: keras.optimizers.Adam(0.01)),
}

# Paths that change how `fit` runs, what is traced or what is imported, not what a layer computes.
AROUND = (
    "array_passes",
    "fit_stall",
    "flat_step",
    "one_trace",
    "replica_reduction",
    "step_call",
    "step_scalars",
)

# Keras 3.3 and 3.4 have no such optimizer.
if not hasattr(keras.optimizers, "Lamb"):
    del CASES["lamb"]

# Paths that act on the import have no targets; test_lazy_imports_process.py tests them, and
# test_legacy_contract.py those for Keras 2.
NAMES = [r.name for r in PATH_RECORDS if r.targets and "keras" in r.keras_packages]
if "lamb" not in CASES:
    NAMES.remove("lamb")

# `step_call` traces the step that `flat_step` makes; `step_scalars` applies only to fused updates.
TOGETHER = {"flat_step": ("step_call",), "step_scalars": ("adam",)}


def _data(case, masked=False):
    rng = np.random.default_rng(2)
    inputs = rng.standard_normal((20, *case.shape)).astype("float32")
    if case.ids:
        inputs = rng.integers(0, case.ids, inputs.shape)
    elif masked:
        inputs[:, -2:] = 0.0
    return inputs, rng.integers(0, 3, 20)


def _build(case, *, masked=False, supported=True):
    """Return a model of a case with the same initial weights every time."""
    keras.utils.set_random_seed(5)
    policy = keras.config.dtype_policy()
    try:
        if case.is_mixed:
            keras.config.set_dtype_policy("mixed_bfloat16")
        middle = case.layers() if supported or case.unsupported is None else case.unsupported()
        first = [L.Masking()] if masked else []
        head = [L.Flatten(), L.Dense(3, "softmax", dtype="float32")]
        inputs = keras.Input(case.shape, dtype="int32" if case.ids else "float32")
        outputs = functools.reduce(lambda x, layer: layer(x), [*first, *middle, *head], inputs)
    finally:
        keras.config.set_dtype_policy(policy)
    model = keras.Model(inputs, outputs)
    is_other = not supported and case.unsupported_optimizer is not None
    model.compile(
        (case.unsupported_optimizer if is_other else case.optimizer)(),
        "sparse_categorical_crossentropy",
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _numbers(case, way, **variant):
    """Return a prediction, a loss, its gradients and the weights after a step."""
    model = _build(case, **variant)
    loss_of = keras.losses.SparseCategoricalCrossentropy()

    def step(inputs, labels):
        outputs = model(inputs, training=False)
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(inputs, training=True))
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        model.optimizer.apply(gradients, model.trainable_variables)
        return [outputs, loss, *(tf.convert_to_tensor(each) for each in gradients)]

    run = step if way == "eager" else tf.function(step, jit_compile=way == "compiled")
    inputs, labels = _data(case, variant.get("masked", False))
    found = run(tf.constant(inputs), tf.constant(labels))
    return [np.asarray(each, "float32") for each in (*found, *model.get_weights())]


def _trained(case, **variant):
    model = _build(case, **variant)
    inputs, labels = _data(case, variant.get("masked", False))
    history = model.fit(inputs, labels, batch_size=4, epochs=2, shuffle=False, verbose=0)
    scores = model.evaluate(inputs, labels, batch_size=4, verbose=0, return_dict=True)
    return model, [*model.get_weights(), np.array([*history.history["loss"], *scores.values()])]


def _assert_close(found, expected, tolerance):
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        scale = max(1.0, np.abs(theirs).max(initial=0.0))
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * scale)


def _tolerance(name):
    if CASES[name].is_mixed:
        return BFLOAT16_TOLERANCE
    return max(RECORDS[n].tolerance for n in (name, *TOGETHER.get(name, ()))) + 1e-7


@functools.cache
def _numbers_of_keras(name, way, masked=False, supported=True):
    return _numbers(CASES[name], way, masked=masked, supported=supported)


@functools.cache
def _training_of_keras(name):
    return _trained(CASES[name])[1]


@pytest.fixture
def only(monkeypatch):
    """Return a function that activates one path and returns a list that records its calls."""
    monkeypatch.setattr(xla_fusion, "_FEWEST_ELEMENTS", 1)
    monkeypatch.setattr(deferred, "ELEMENTS_BEFORE", 0)
    monkeypatch.setattr(xla_fusion, "_sizes_at_once", {})
    # Kernel gradients as for wide images on processors without AVX-512.
    monkeypatch.setattr(convolution, "has_avx2_kernels", lambda: True)
    monkeypatch.setattr(convolution, "pays_by_rows", lambda *_: True)
    monkeypatch.setenv("NANO_INIT_UNVERIFIED", "1")

    def put_in_place(name):
        taken = []

        def watched(path, original, applies, faster):
            def counted(*args, **kwargs):
                if path == name:
                    taken.append(path)
                return faster(*args, **kwargs)

            return with_faster_path(path, original, applies, counted)

        for module in (import_module(f"nano_init.keras_patch.faster.{name}"), optimizer_update):
            if hasattr(module, "with_faster_path"):
                monkeypatch.setattr(module, "with_faster_path", watched)
        wanted = (name, *TOGETHER.get(name, ()))
        others = [other for other in FASTER_PATHS if other not in wanted]
        patch_tensorflow("float32", disable=others)
        if name not in active_paths().active:
            pytest.skip(f"this Keras has no {name}: {active_paths().aside}")
        return taken

    return put_in_place


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_a_path_gives_the_numbers_of_keras(name, way, only):
    expected = _numbers_of_keras(name, way)
    taken = only(name)
    _assert_close(_numbers(CASES[name], way), expected, _tolerance(name))
    assert bool(taken) == (way in CASES[name].ways and name not in AROUND)


@pytest.mark.parametrize("name", [n for n in NAMES if CASES[n].shape == SEQUENCE])
def test_a_path_gives_the_numbers_of_keras_with_masks(name, only):
    expected = _numbers_of_keras(name, "graph", masked=True)
    only(name)
    _assert_close(_numbers(CASES[name], "graph", masked=True), expected, _tolerance(name))


@pytest.mark.parametrize("name", NAMES)
def test_ten_steps_a_saved_file_and_threads(name, only, tmp_path):
    expected = _training_of_keras(name)
    case, path = CASES[name], tmp_path / "model.keras"
    inputs, _ = _data(case)
    taken = only(name)
    model, found = _trained(case)
    _assert_close(found, expected, 10 * _tolerance(name))
    assert bool(taken) == (name not in AROUND)
    predicted = model.predict(inputs, verbose=0)
    function = tf.function(lambda x: model(x, training=False))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for each in pool.map(function, [tf.constant(inputs)] * 8):
            _assert_close([each.numpy()], [predicted], _tolerance(name))
    model.save(path)
    own = {"SelfAttention": SelfAttention}
    loaded = keras.saving.load_model(path, own).predict(inputs, verbose=0)
    _assert_close([loaded], [predicted], _tolerance(name))
    unpatch_tensorflow()
    plain = keras.saving.load_model(path, own).predict(inputs, verbose=0)
    _assert_close([plain], [predicted], _tolerance(name))


def _has_unsupported(case):
    return case.unsupported is not None or case.unsupported_optimizer is not None


@pytest.mark.parametrize("name", [n for n in NAMES if _has_unsupported(CASES[n])])
def test_a_path_steps_aside_for_what_it_does_not_support(name, only):
    expected = _numbers_of_keras(name, "graph", supported=False)
    taken = only(name)
    _assert_close(_numbers(CASES[name], "graph", supported=False), expected, 0.0)
    assert taken == []


def test_every_path_has_a_case():
    assert set(CASES) == set(NAMES)


def test_other_parts_do_not_change_a_float32_training(monkeypatch):
    """Guards are for bfloat16 and do not touch layers that stay in float32."""
    monkeypatch.setenv("NANO_INIT_UNVERIFIED", "1")
    names = ("sgd", "gru", "embedding", "batch_norm")
    expected = {name: _training_of_keras(name) for name in names}
    keras.config.set_dtype_policy("float32")
    patch_tensorflow("mixed_bfloat16", disable="all", steps_per_execution=2)
    keras.config.set_dtype_policy("float32")
    active = set(active_paths().active)
    assert {record.name for record in ALL_RECORDS if record.kind == GUARD} & active
    for name in names:
        _assert_close(_trained(CASES[name])[1], expected[name], 1e-7)


def _places():
    """Return every available callable of the records, as stored on its owner."""
    found = {}
    for record in ALL_RECORDS:
        for text in record.targets if record.kind != WORKER else ():
            module, _, path = text.partition(":")
            try:
                owner = import_module(module)
                *owners, name = path.split(".")
                owner = functools.reduce(getattr, owners, owner)
            except (ImportError, AttributeError):
                continue
            found[text] = vars(owner).get(name)
    return found


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_unpatching_restores_the_identical_objects(precision, monkeypatch):
    monkeypatch.setenv("NANO_INIT_UNVERIFIED", "1")
    before = _places()
    patch_tensorflow(precision, keep_float32="a*", lazy_adam=True, steps_per_execution=2)
    changed = [text for text, value in _places().items() if value is not before[text]]
    assert len(changed) >= len(NAMES)
    unpatch_tensorflow()
    assert [text for text, value in _places().items() if value is not before[text]] == []
