"""The scalars of an optimizer of Keras 2 are made once per step, not once per variable."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from nano_init import patch_tensorflow, unpatch_tensorflow

pytestmark = pytest.mark.tensorflow

tf = pytest.importorskip("tensorflow")
tf_keras = pytest.importorskip("tf_keras")

VARIABLES = 6


@pytest.fixture(autouse=True)
def _legacy_keras(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    yield
    unpatch_tensorflow()


def operations_and_values(optimizer):
    """Return the number of ops of each type in an update, and the updated variables."""
    variables = [tf.Variable(np.full((3, 4), n + 1.0, "float32")) for n in range(VARIABLES)]
    optimizer.build(variables)

    @tf.function(autograph=False)
    def update():
        optimizer.apply_gradients([(tf.fill((3, 4), 0.5), each) for each in variables])

    graph = update.get_concrete_function().graph
    update()
    update()
    kinds = Counter(operation.type for operation in graph.get_operations())
    return kinds, [np.asarray(variable) for variable in variables]


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: tf_keras.optimizers.Adam(0.1), "Pow"),
        (lambda: tf_keras.optimizers.SGD(0.1, 0.9), "ReadVariableOp"),
    ],
)
def test_the_graph_has_fewer_ops_and_the_weights_are_the_same(make, kind):
    patch_tensorflow(disable="legacy_step_scalars")
    each, expected = operations_and_values(make())
    patch_tensorflow()
    once, found = operations_and_values(make())
    assert each[kind] - once[kind] >= VARIABLES - 1
    np.testing.assert_array_equal(found, expected)
