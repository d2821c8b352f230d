"""Train on handwritten digits with a loop of one's own, in bfloat16 by one decorator.

python examples/mnist_custom_loop.py
python examples/mnist_custom_loop.py --bfloat16-head
"""

from __future__ import annotations

import argparse

import keras
import tensorflow as tf
from digits import load_digits

from nano_init import nano_bf16, patch_tensorflow


def build_model(head_dtype: str | None) -> keras.Model:
    """Return the 784-64-64-10 network; a head of dtype None follows the patch."""
    return keras.Sequential(
        [
            keras.Input(shape=(784,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
            keras.layers.Activation("softmax", dtype=head_dtype),
        ]
    )


def main() -> None:
    """Train, and print loss and test accuracy after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--bfloat16-head", action="store_true", help="no float32 last layer")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    patch_tensorflow(precision=options.precision)
    keras.utils.set_random_seed(options.seed)
    (x_train, y_train), (x_test, y_test), source = load_digits()
    print(f"data: {source}")

    model = build_model(None if options.bfloat16_head else "float32")
    optimizer = keras.optimizers.RMSprop()
    loss_object = keras.losses.SparseCategoricalCrossentropy()
    train = tf.data.Dataset.from_tensor_slices((x_train, y_train)).shuffle(10_000).batch(64)
    test = tf.data.Dataset.from_tensor_slices((x_test, y_test)).batch(1000)

    @nano_bf16
    @tf.function
    def train_step(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            predictions = model(x, training=True)
            loss = loss_object(y, predictions)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def test_step(x: tf.Tensor) -> tf.Tensor:
        return model(x, training=False)

    for epoch in range(options.epochs):
        mean_loss = keras.metrics.Mean()
        accuracy = keras.metrics.SparseCategoricalAccuracy()
        for x, y in train:
            mean_loss.update_state(train_step(x, y))
        for x, y in test:
            accuracy.update_state(y, test_step(x))
        print(f"epoch {epoch + 1}: loss {float(mean_loss.result()):.4f}")
    print(f"test accuracy: {float(accuracy.result()):.4f}")


if __name__ == "__main__":
    main()
