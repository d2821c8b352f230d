"""An optimizer's scalars are made once per step, not once per variable."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from nano_init import patch_tensorflow

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

VARIABLES = 6


def operations_and_values(optimizer):
    """Return the number of ops of each type in an update, and the updated variables."""
    variables = [keras.Variable(np.full((3, 4), n + 1.0, "float32")) for n in range(VARIABLES)]
    optimizer.build(variables)

    @tf.function(autograph=False)
    def update():
        optimizer.apply([tf.fill((3, 4), 0.5)] * VARIABLES, variables)

    graph = update.get_concrete_function().graph
    update()
    update()
    kinds = Counter(operation.type for operation in graph.get_operations())
    return kinds, [np.asarray(variable) for variable in variables]


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: keras.optimizers.Adam(0.1), "Pow"),
        (lambda: keras.optimizers.SGD(0.1, 0.9), "ReadVariableOp"),
        (lambda: keras.optimizers.RMSprop(0.1, momentum=0.5), "ReadVariableOp"),
    ],
)
def test_the_graph_has_fewer_ops_and_the_weights_are_the_same(make, kind):
    patch_tensorflow(disable="step_scalars")
    each, expected = operations_and_values(make())
    patch_tensorflow()
    once, found = operations_and_values(make())
    assert each[kind] - once[kind] >= VARIABLES - 1
    np.testing.assert_array_equal(found, expected)
