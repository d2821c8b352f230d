"""BigDL-Nano's decorators outside of a job: the script runs alone as it is, and is told so."""

from __future__ import annotations

import warnings

import pytest

from nano_init import nano_multiprocessing
from nano_init.keras_patch.distribution.steps import nano, nano_multiprocessing_loss


def test_a_step_outside_of_a_job_is_the_function_itself():
    @nano_multiprocessing
    def step(x, *, y):
        """Add."""
        return x + y

    assert step(1, y=2) == 3
    assert step.__doc__ == "Add."


def test_a_loss_stays_as_it_is_with_and_without_parentheses():
    def loss(y, outputs):
        return outputs - y

    assert nano_multiprocessing_loss(loss) is loss
    assert nano_multiprocessing_loss()(loss) is loss


def test_processes_that_are_wanted_and_not_there_are_told_of_once_each():
    with pytest.warns(UserWarning, match="nano-run --nproc-per-node 3"):
        decorate = nano(num_processes=3)
    assert decorate(len) is len
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nano(num_processes=1)


def test_the_names_are_where_bigdl_nano_had_them():
    from nano_init.bigdl import provide_bigdl

    provide_bigdl()
    from bigdl.nano.tf.keras import nano_multiprocessing as theirs

    assert theirs is nano_multiprocessing
