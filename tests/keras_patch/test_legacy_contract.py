"""The contract of the faster paths for Keras 2 (`tf_keras`), in tiny models.

A path gives Keras's numbers within its tolerance, eagerly, in a graph and in `fit`, with every
option of the optimizer, in saved files and in threads. It steps aside for what it does not support,
and unpatching restores Keras completely.
"""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from nano_init import active_paths, patch_tensorflow, unpatch_tensorflow
from nano_init.keras_patch.faster import adam_ops, legacy_rmsprop, legacy_update
from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.protocol.faster_paths import FASTER_PATHS, PATH_RECORDS

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:.*HDF5 file"),
    # tf_keras 2.16 draws its seeds so.
    pytest.mark.filterwarnings("ignore:non-integer arguments to randrange"),
]

tf = pytest.importorskip("tensorflow")
tf_keras = pytest.importorskip("tf_keras")

RECORDS = {r.name: r for r in PATH_RECORDS if "keras" not in r.keras_packages}

# They change what is traced, and have their own tests.
AROUND = {
    "legacy_array_passes",
    "legacy_fit_stall",
    "legacy_one_trace",
    "legacy_step_call",
    "legacy_step_scalars",
}

# For numbers that were rounded to bfloat16.
BFLOAT16_TOLERANCE = 2e-2


@dataclass(frozen=True)
class Case:
    """An optimizer that updates through a faster path.

    Args:
        path: The path.
        name: The optimizer's class.
        options: Its options.
        is_taken: Whether the path takes dense gradients.
    """

    path: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    is_taken: bool = True

    def make(self, rate=0.01):
        """Return a new optimizer."""
        return getattr(tf_keras.optimizers, self.name)(rate, **self.options)


ADAM = functools.partial(Case, "legacy_adam", "Adam")
ADAMW = functools.partial(Case, "legacy_adam", "AdamW")
SGD = functools.partial(Case, "legacy_sgd", "SGD")
RMSPROP = functools.partial(Case, "legacy_rmsprop", "RMSprop")
CASES = {
    "adam": ADAM(),
    "adam betas": ADAM({"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
    "adam clipnorm": ADAM({"clipnorm": 0.1}),
    "adam clipvalue": ADAM({"clipvalue": 0.01}),
    "adam global_clipnorm": ADAM({"global_clipnorm": 0.1}),
    "adam decay": ADAM({"weight_decay": 0.1}),
    "adam ema": ADAM({"use_ema": True, "ema_overwrite_frequency": 3}),
    "adam amsgrad": ADAM({"amsgrad": True}, is_taken=False),
    "adamw": ADAMW({"weight_decay": 0.1}),
    "adamw clipnorm": ADAMW({"weight_decay": 0.1, "clipnorm": 0.1, "use_ema": True}),
    "adamw amsgrad": ADAMW({"amsgrad": True}, is_taken=False),
    "sgd": SGD(),
    "sgd momentum": SGD({"momentum": 0.9}),
    "sgd nesterov": SGD({"momentum": 0.9, "nesterov": True}),
    "sgd nesterov alone": SGD({"nesterov": True}),
    "sgd decay": SGD({"momentum": 0.9, "weight_decay": 0.1, "global_clipnorm": 0.5}),
    "sgd ema": SGD({"momentum": 0.9, "use_ema": True, "clipvalue": 0.01}),
    "rmsprop momentum": RMSPROP({"momentum": 0.9}),
    "rmsprop options": RMSPROP({"momentum": 0.5, "rho": 0.8, "epsilon": 1e-3, "clipnorm": 0.1}),
    "rmsprop centered": RMSPROP({"momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    "rmsprop epsilon 0": RMSPROP({"momentum": 0.9, "epsilon": 0.0}, is_taken=False),
    # Without momentum, only large variables.
    "rmsprop plain": RMSPROP(is_taken=False),
    "rmsprop plain centered": RMSPROP({"centered": True}, is_taken=False),
}
if hasattr(tf_keras.optimizers.Adam(), "adaptive_epsilon"):
    CASES["adam adaptive epsilon"] = ADAM({"adaptive_epsilon": True, "epsilon": 1e-2})

# One optimizer for each path, and for each kernel.
FEW = ("adam", "adamw", "sgd", "sgd nesterov", "rmsprop momentum", "rmsprop centered")


@pytest.fixture(autouse=True)
def _restored_keras(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    monkeypatch.setenv("NANO_INIT_UNVERIFIED", "1")
    yield
    unpatch_tensorflow()
    tf_keras.mixed_precision.set_global_policy("float32")
    tf_keras.backend.clear_session()


@pytest.fixture
def only(monkeypatch):
    """Return a function that activates one path and returns a list that records its calls.

    In a graph, Adam's kernel updates variables of this many elements and more.
    """

    def put_in_place(name, fewest=16):
        taken = []
        monkeypatch.setattr(adam_ops, "_SPLIT_BY_KERNEL", range(fewest))

        def watched(path, original, applies, faster):
            def counted(*args, **kwargs):
                taken.append(path)
                return faster(*args, **kwargs)

            return with_faster_path(path, original, applies, counted)

        monkeypatch.setattr(legacy_update, "with_faster_path", watched)
        patch_tensorflow(disable=[other for other in FASTER_PATHS if other != name])
        if name not in active_paths().active:
            pytest.skip(f"this tf_keras has no {name}: {active_paths().aside}")
        return taken

    return put_in_place


def _assert_close(found, expected, tolerance):
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        scale = max(1.0, np.abs(theirs).max(initial=0.0))
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * scale)


def _tolerance(case):
    return RECORDS[case.path].tolerance


def _gradients(steps):
    rng = np.random.default_rng(4)
    shapes = [(3, 4), (4,), ()]
    return [
        [rng.standard_normal(shape).astype("float32") for shape in shapes] for _ in range(steps)
    ]


def _updated(optimizer, way="graph", *, steps=10, dtype="float32"):
    """Return variables and those of the optimizer after some steps on fixed gradients."""
    variables = [tf.Variable(tf.cast(value, dtype)) for value in _gradients(1)[0]]

    def step(gradients):
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    run = step if way == "eager" else tf.function(step, jit_compile=way == "compiled")
    optimizer.build(variables)
    for gradients in _gradients(steps):
        run([tf.cast(gradient, dtype) for gradient in gradients])
    return [np.asarray(v, "float32") for v in [*variables, *optimizer.variables]]


@pytest.mark.parametrize(("way", "fewest"), [("eager", 16), ("graph", 0), ("graph", 2**16)])
@pytest.mark.parametrize("name", CASES)
def test_ten_updates_with_every_option(name, way, fewest, only):
    case = CASES[name]
    expected = _updated(case.make(), way)
    taken = only(case.path, fewest)
    _assert_close(_updated(case.make(), way), expected, _tolerance(case))
    assert bool(taken) == case.is_taken


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_ops_update_small_variables_as_keras_does(name, only):
    expected = _updated(CASES[name].make())
    only(CASES[name].path, 2**16)
    _assert_close(_updated(CASES[name].make()), expected, 1e-6)


@pytest.mark.parametrize("options", [{}, {"rho": 0.8, "epsilon": 1e-3}, {"weight_decay": 0.1}])
@pytest.mark.parametrize("centered", [False, True])
def test_an_island_updates_large_variables_by_rmsprop_without_momentum(
    centered, options, only, monkeypatch
):
    case = RMSPROP({"centered": centered, **options})
    expected = _updated(case.make())
    monkeypatch.setattr(legacy_rmsprop, "_FEWEST", 1)
    monkeypatch.setattr(legacy_rmsprop, "is_large_in_graph", lambda _: not tf.executing_eagerly())
    taken = only(case.path)
    _assert_close(_updated(case.make()), expected, _tolerance(case))
    assert len(taken) == 3
    _assert_close(_updated(case.make(), "eager"), expected, _tolerance(case))
    assert len(taken) == 3


@pytest.mark.parametrize("name", FEW)
def test_xla_compiles_the_ops_of_keras(name, only):
    expected = _updated(CASES[name].make(), "compiled")
    taken = only(CASES[name].path)
    _assert_close(_updated(CASES[name].make(), "compiled"), expected, 0.0)
    assert taken == []


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_keras_updates_variables_of_other_types(name, dtype, only):
    expected = _updated(CASES[name].make(), dtype=dtype)
    taken = only(CASES[name].path)
    _assert_close(_updated(CASES[name].make(), dtype=dtype), expected, 0.0)
    assert taken == []


@pytest.mark.parametrize("name", FEW)
def test_a_learning_rate_schedule_and_a_new_learning_rate(name, only):
    def rates():
        yield tf_keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
        yield 0.1

    def found():
        for rate in rates():
            optimizer = CASES[name].make(rate)
            if rate == 0.1:
                optimizer.learning_rate = 0.02
            yield from _updated(optimizer)

    expected = list(found())
    taken = only(CASES[name].path)
    _assert_close(list(found()), expected, _tolerance(CASES[name]))
    assert taken


def _build(case, *, ids=0, loss_scale=False):
    """Return a compiled model with the same initial weights every time."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(5)
    layers = tf_keras.layers
    first = [layers.Embedding(ids, 5), layers.Flatten()] if ids else [layers.Dense(5, "relu")]
    stack = [tf_keras.Input((4,)), *first, layers.Dense(3, "softmax", dtype="float32")]
    model = tf_keras.Sequential(stack)
    optimizer = case.make()
    if loss_scale:
        optimizer = tf_keras.mixed_precision.LossScaleOptimizer(optimizer)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def _fit(model, *, ids=0, steps=10):
    rng = np.random.default_rng(2)
    inputs = rng.standard_normal((4 * steps, 4)).astype("float32")
    if ids:
        # An id is several times in most batches.
        inputs = rng.integers(0, ids - 2, inputs.shape)
    labels = rng.integers(0, 3, len(inputs))
    model.fit(inputs, labels, batch_size=4, shuffle=False, verbose=0)
    return model


def _state(model):
    return [np.array(v) for v in [*model.get_weights(), *model.optimizer.variables]]


@pytest.mark.parametrize("loss_scale", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", FEW)
def test_ten_steps_of_fit(name, policy, loss_scale, only):
    case = CASES[name]
    tf_keras.mixed_precision.set_global_policy(policy)
    expected = _state(_fit(_build(case, loss_scale=loss_scale)))
    taken = only(case.path)
    found = _state(_fit(_build(case, loss_scale=loss_scale)))
    tolerance = BFLOAT16_TOLERANCE if policy == "mixed_bfloat16" else 10 * _tolerance(case)
    _assert_close(found, expected, tolerance)
    assert taken


@pytest.mark.parametrize("name", CASES)
def test_sparse_gradients_of_an_embedding(name, only):
    case = CASES[name]
    expected = _state(_fit(_build(case, ids=9), ids=9))
    taken = only(case.path)
    _assert_close(_state(_fit(_build(case, ids=9), ids=9)), expected, 10 * _tolerance(case))
    # The embedding, and kernel and bias of Dense.
    assert len(taken) % 3 == 0
    assert bool(taken) == case.is_taken


def _updated_by_repeated_ids(optimizer):
    table = tf.Variable(tf.ones((4, 2)))
    optimizer.build([table])
    slices = tf.IndexedSlices(tf.constant([[1.0, 2.0]] * 3), tf.constant([2, 0, 2]), [4, 2])
    optimizer.update_step(slices, table)
    return [np.array(v) for v in [table, *optimizer.variables]]


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop momentum", "rmsprop centered"])
def test_keras_updates_by_repeated_ids_that_it_has_not_summed(name, only):
    """The squares of the slices are not those of their sum."""
    expected = _updated_by_repeated_ids(CASES[name].make())
    taken = only(CASES[name].path)
    _assert_close(_updated_by_repeated_ids(CASES[name].make()), expected, 0.0)
    assert taken == []


def _continued(model, case, path):
    """Return the weights after a model was saved, read by plain Keras and trained on."""
    is_whole = not path.endswith("weights.h5")
    (model.save if is_whole else model.save_weights)(path)
    unpatch_tensorflow()
    if is_whole:
        model = tf_keras.models.load_model(path)
    else:
        model = _build(case)
        model.optimizer.build(model.trainable_variables)
        model.load_weights(path)
    # Some formats keep the optimizer's variables in an order of their own.
    return [np.array(weight) for weight in _fit(model).get_weights()]


@pytest.mark.parametrize("file", ["model.h5", "model.keras", "model", "model.weights.h5"])
@pytest.mark.parametrize("name", FEW)
def test_plain_keras_continues_a_training_from_a_file(name, file, only, tmp_path):
    case = CASES[name]
    expected = _continued(_fit(_build(case)), case, str(tmp_path / f"plain_{file}"))
    taken = only(case.path)
    found = _continued(_fit(_build(case)), case, str(tmp_path / file))
    _assert_close(found, expected, 20 * _tolerance(case))
    assert taken


def test_trainings_in_several_threads(only):
    case = CASES["adam"]
    expected = _updated(case.make())
    taken = only(case.path)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: _updated(case.make()), range(4)):
            _assert_close(found, expected, _tolerance(case))
    assert len(taken) >= 4


def _with_own_update(owner):
    class WithOwnUpdate(owner):
        def update_step(self, gradient, variable):
            super().update_step(2.0 * gradient, variable)

    return WithOwnUpdate


def _with_own_slots(owner):
    class WithOwnSlots(owner):
        def build(self, variables):
            super().build(variables)

    return WithOwnSlots


@pytest.mark.parametrize("derive", [_with_own_update, _with_own_slots])
@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop momentum"])
def test_a_subclass_with_its_own_update_or_slots_keeps_the_code_of_keras(name, derive, only):
    case = CASES[name]
    owner = derive(getattr(tf_keras.optimizers, case.name))
    expected = _updated(owner(0.01, **case.options))
    taken = only(case.path)
    _assert_close(_updated(owner(0.01, **case.options)), expected, 0.0)
    assert taken == []


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "SGD"])
def test_the_legacy_optimizers_of_keras_2_are_not_touched(name, only):
    """They use the fused kernels themselves."""
    owner = getattr(tf_keras.optimizers.legacy, name)
    before = dict(vars(owner))
    taken = only(f"legacy_{name.lower()}")
    assert dict(vars(owner)) == before
    model = _build(CASES["adam"])
    model.compile(owner(0.01), "sparse_categorical_crossentropy")
    _fit(model)
    assert taken == []


def _places():
    """Return the callables that the paths replace, as stored on their owners."""
    found = {}
    for text in {text for record in RECORDS.values() for text in record.targets}:
        module, _, path = text.partition(":")
        *owners, name = path.split(".")
        owner = functools.reduce(getattr, owners, import_module(module))
        found[text] = inspect.getattr_static(owner, name, None)
    return found


def test_unpatching_restores_the_identical_objects():
    before = _places()
    patch_tensorflow()
    assert [text for text, value in _places().items() if value is before[text]] == []
    unpatch_tensorflow()
    assert [text for text, value in _places().items() if value is not before[text]] == []


def test_every_path_has_a_case():
    assert {case.path for case in CASES.values()} == set(RECORDS) - AROUND
