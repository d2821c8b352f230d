"""Kernel gradients as a product for each position equal TensorFlow's, wherever they are taken."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster import kernel_gradient_positions
from nano_init.keras_patch.faster.kernel_gradient_positions import (
    gradient_by_positions,
    pays_by_positions,
)
from nano_init.keras_patch.faster.kernel_gradient_rows import Geometry


@pytest.mark.tensorflow
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [(1, 1), (3, 3), (2, 5), (4, 4), (5, 1)], ids=str)
def test_the_gradient_is_tensorflows(kernel_size, stride, padding):
    """Within 1e-5 of the largest number, since the sums have another order."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    for image in [(5, 6), (6, 9), (7, 5)]:
        inputs = tf.constant(rng.standard_normal((2, *image, 3)), tf.float32)
        kernel = tf.constant(rng.standard_normal((*kernel_size, 3, 4)), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            outputs = tf.nn.conv2d(inputs, kernel, stride, padding)
        upstream = tf.constant(rng.standard_normal(outputs.shape), tf.float32)
        expected = tape.gradient(outputs, kernel, upstream).numpy()
        geometry = Geometry((stride, stride), padding)
        found = gradient_by_positions(inputs, upstream, kernel_size, geometry).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("outputs", "channels", "filters", "stride", "dtype", "with_amx", "without"),
    [
        ((8, 8), 256, 256, 1, "bfloat16", True, False),
        ((8, 8), 96, 256, 1, "bfloat16", True, False),
        ((8, 8), 95, 256, 1, "bfloat16", False, False),
        ((8, 8), 256, 64, 2, "bfloat16", True, False),
        ((8, 8), 256, 63, 2, "bfloat16", False, False),
        ((8, 8), 128, 256, 2, "bfloat16", True, True),
        ((8, 8), 127, 256, 2, "bfloat16", True, False),
        ((4, 4), 128, 128, 1, "bfloat16", True, True),
        ((4, 4), 127, 128, 1, "bfloat16", True, False),
        ((4, 4), 512, 512, 1, "float32", True, True),
        ((4, 4), 511, 512, 1, "float32", False, False),
        ((4, 4), 256, 512, 2, "float32", True, True),
        ((4, 4), 255, 512, 2, "float32", False, False),
    ],
)
def test_products_are_taken_from_so_many_channels_a_pixel_on(
    monkeypatch, outputs, channels, filters, stride, dtype, with_amx, without
):
    monkeypatch.setattr(kernel_gradient_positions, "uses_onednn", lambda: True)
    monkeypatch.setattr(kernel_gradient_positions, "is_slow_in_bfloat16", lambda: False)
    for has_amx, expected in ((True, with_amx), (False, without)):
        monkeypatch.setattr(kernel_gradient_positions, "has_amx_kernels", lambda has=has_amx: has)
        assert pays_by_positions(outputs, channels, filters, stride, dtype) is expected


def test_bfloat16_counts_as_float32_where_its_products_are_of_float32(monkeypatch):
    monkeypatch.setattr(kernel_gradient_positions, "uses_onednn", lambda: True)
    monkeypatch.setattr(kernel_gradient_positions, "is_slow_in_bfloat16", lambda: True)
    assert pays_by_positions((4, 4), 512, 512, 1, "bfloat16")
    assert not pays_by_positions((4, 4), 511, 512, 1, "bfloat16")


def test_convolutions_are_left_to_eigen_without_onednn(monkeypatch):
    monkeypatch.setattr(kernel_gradient_positions, "uses_onednn", lambda: False)
    assert not pays_by_positions((1, 1), 4096, 4096, 1, "float32")
