"""BigDL-Nano's decorators for a custom loop, outside a job."""

from __future__ import annotations

import sys
import traceback

import pytest

from nano_init import nano_multiprocessing
from nano_init.distributed.custom_loops import nano_multiprocessing_loss


def test_a_step_outside_a_job_behaves_like_the_plain_function():
    @nano_multiprocessing
    def step(x, *, y):
        """Add."""
        return x + y

    assert step(1, y=2) == 3
    assert step.__doc__ == "Add."


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 keeps one frame")
def test_an_error_in_a_step_shows_no_frame_of_the_package():
    @nano_multiprocessing
    def step():
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck") as caught:
        step()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert {frame.filename for frame in frames} == {__file__}


@pytest.mark.tensorflow
@pytest.mark.parametrize("decorate", [nano_multiprocessing_loss, nano_multiprocessing_loss(by=3)])
def test_a_loss_per_row_is_averaged(decorate):
    np = pytest.importorskip("numpy")
    pytest.importorskip("tensorflow")

    @decorate
    def loss(target, output, by=1):
        return (output - target)[:, 0] * by

    by = 1 if decorate is nano_multiprocessing_loss else 3
    assert float(loss(np.zeros((4, 1)), np.array([[1.0], [2], [3], [6]]))) == 3 * by
    assert loss.name == "loss"


def test_the_decorators_have_bigdl_nanos_import_path():
    from nano_init.bigdl import provide_bigdl

    provide_bigdl()
    from bigdl.nano.tf.keras import nano_multiprocessing as theirs

    assert theirs is nano_multiprocessing
