"""Switch bfloat16 on and off from inside a script: patch, train, unpatch.

python examples/mnist_patch.py
"""

from __future__ import annotations

import argparse

import keras
from digits import load_digits
from mnist_mlp import build_model

from nano_init import patch_tensorflow, unpatch_tensorflow


def main() -> None:
    """Train under the patch, take it off, and show which model keeps which policy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()

    keras.utils.set_random_seed(1)
    (x_train, y_train), (x_test, y_test), source = load_digits()
    print(f"data: {source}")

    patch_tensorflow(precision="mixed_bfloat16")
    old = build_model()
    old.compile(loss="sparse_categorical_crossentropy", optimizer="rmsprop", metrics=["accuracy"])
    old.fit(x_train, y_train, batch_size=64, epochs=options.epochs, verbose=2)
    print(f"test accuracy: {old.evaluate(x_test, y_test, verbose=0)[1]:.4f}")

    unpatch_tensorflow()
    new = build_model()
    print(f"built under the patch: {old.get_layer('dense_1').dtype_policy.name}")
    print(f"built after it:        {new.get_layer('dense_1').dtype_policy.name}")


if __name__ == "__main__":
    main()
