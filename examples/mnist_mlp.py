"""Train a small network on handwritten digits. Plain Keras: nano-init is nowhere in it.

python examples/mnist_mlp.py
nano-run --precision mixed_bfloat16 examples/mnist_mlp.py
"""

from __future__ import annotations

import argparse

import keras
from digits import load_digits


def build_model() -> keras.Model:
    """Return the 784-64-64-10 network with a float32 softmax head."""
    inputs = keras.Input(shape=(784,), name="digits")
    x = keras.layers.Dense(64, activation="relu", name="dense_1")(inputs)
    x = keras.layers.Dense(64, activation="relu", name="dense_2")(x)
    x = keras.layers.Dense(10, name="dense_logits")(x)
    outputs = keras.layers.Activation("softmax", dtype="float32", name="predictions")(x)
    return keras.Model(inputs, outputs)


def main() -> None:
    """Train, evaluate and print the test accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", type=int, choices=(0, 1, 2), default=2)
    options = parser.parse_args()

    keras.utils.set_random_seed(options.seed)
    (x_train, y_train), (x_test, y_test), source = load_digits()
    print(f"data: {source}")

    model = build_model()
    print(f"layers compute in {model.get_layer('dense_1').compute_dtype}")
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer=keras.optimizers.RMSprop(),
        metrics=["accuracy"],
    )
    model.fit(
        x_train,
        y_train,
        batch_size=options.batch_size,
        epochs=options.epochs,
        verbose=options.verbose,
    )
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"test loss: {loss:.4f}")
    print(f"test accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    main()
