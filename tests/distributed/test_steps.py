"""BigDL-Nano's decorators outside of a job, and without processes of their own."""

from __future__ import annotations

import warnings

import pytest

from nano_init import nano_multiprocessing
from nano_init.distributed.steps import (
    nano,
    nano_multiprocessing_loss,
    starts_processes,
)
from nano_init.errors import UsageError


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


def test_one_process_is_the_function_itself():
    assert nano(num_processes=1)(len)("abc") == 3
    assert nano(1)(len).__name__ == "len"


@pytest.mark.parametrize("number", [0, -1, 2.0, "2", True, None, 10**6])
def test_a_number_of_processes_that_is_none_is_named(number):
    with pytest.raises(UsageError, match=r"num_processes is .*; give a whole number from 1"):
        nano(num_processes=number)


def test_another_backend_of_bigdl_nanos_is_told_of():
    with pytest.warns(UserWarning, match="backend='ray' of BigDL-Nano is not there"):
        assert not starts_processes(1, "ray")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert starts_processes(2, "multiprocessing")


def test_the_names_are_where_bigdl_nano_had_them():
    from nano_init.bigdl import provide_bigdl

    provide_bigdl()
    from bigdl.nano.tf.keras import nano_multiprocessing as theirs

    assert theirs is nano_multiprocessing
