"""BigDL-Nano's decorators of a custom loop, outside of a job."""

from __future__ import annotations

import pytest

from nano_init import nano_multiprocessing
from nano_init.distributed.custom_loops import nano_multiprocessing_loss


def test_a_step_outside_of_a_job_is_the_function_itself():
    @nano_multiprocessing
    def step(x, *, y):
        """Add."""
        return x + y

    assert step(1, y=2) == 3
    assert step.__doc__ == "Add."


@pytest.mark.tensorflow
@pytest.mark.parametrize("decorate", [nano_multiprocessing_loss, nano_multiprocessing_loss(by=3)])
def test_a_loss_of_each_row_becomes_their_mean(decorate):
    np = pytest.importorskip("numpy")
    pytest.importorskip("tensorflow")

    @decorate
    def loss(target, output, by=1):
        return (output - target)[:, 0] * by

    by = 1 if decorate is nano_multiprocessing_loss else 3
    assert float(loss(np.zeros((4, 1)), np.array([[1.0], [2], [3], [6]]))) == 3 * by
    assert loss.name == "loss"


def test_the_names_are_where_bigdl_nano_had_them():
    from nano_init.bigdl import provide_bigdl

    provide_bigdl()
    from bigdl.nano.tf.keras import nano_multiprocessing as theirs

    assert theirs is nano_multiprocessing
