"""Typical code around strategies, and models that train with only their own `train_step`.

Usage: headers.py NAME [ARGUMENT]; prints one line of JSON.
"""

from __future__ import annotations

import json
import sys

import keras
import numpy as np
import tensorflow as tf
from keras import layers


def data():
    x = np.random.default_rng(0).random((40, 3)).astype("float32")
    return x, x.sum(1, keepdims=True)


def model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, activation="tanh"), layers.Dense(1)]
    )


def weights(trained):
    return [w.ravel().tolist() for w in trained.get_weights()]


def notebook_header():
    """The header that chooses a TPU, or else the default strategy."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        strategy = tf.distribute.TPUStrategy(resolver)
    except ValueError:
        strategy = tf.distribute.get_strategy()
    return train_under(strategy)


def own_strategy(kind):
    cpu = tf.config.list_physical_devices("CPU")[0]
    if kind.startswith("virtual"):
        parts = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, parts)
    distribute = tf.distribute
    servers = {"worker": ["localhost:1"], "ps": ["localhost:2"]}
    make = {
        "mirrored": distribute.MirroredStrategy,
        "one device": lambda: distribute.OneDeviceStrategy("/cpu:0"),
        "central": distribute.experimental.CentralStorageStrategy,
        "virtual": distribute.MirroredStrategy,
        "virtual named": lambda: distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
        "servers": lambda: distribute.ParameterServerStrategy(
            distribute.cluster_resolver.SimpleClusterResolver(
                tf.train.ClusterSpec(servers), rpc_layer="grpc"
            )
        ),
    }[kind]
    try:
        strategy = make()
    except BaseException:
        if "caught" in sys.argv:
            strategy = distribute.get_strategy()
        else:
            raise
    return train_under(strategy)


def train_under(strategy):
    x, y = data()
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        trained = model()
        trained.compile("sgd", "mse", metrics=["mae"])
    history = trained.fit(x, y, batch_size=8 * replicas, epochs=2, verbose=0).history
    with strategy.scope():
        optimizer, metric = keras.optimizers.SGD(0.1), keras.metrics.MeanSquaredError()
        rows = keras.losses.MeanSquaredError(reduction="none")

    def step(x, y):
        with tf.GradientTape() as tape:
            outputs = trained(x, training=True)
            loss = tf.nn.compute_average_loss(rows(y, outputs), global_batch_size=8)
        variables = trained.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        metric.update_state(y, outputs)
        return loss

    @tf.function
    def train(batch):
        return strategy.reduce(
            tf.distribute.ReduceOp.SUM, strategy.run(step, args=batch), axis=None
        )

    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    losses = [
        float(train(batch)) for batch in strategy.experimental_distribute_dataset(dataset.batch(8))
    ]
    made = strategy.distribute_datasets_from_function(
        lambda context: dataset.batch(context.get_per_replica_batch_size(7))
    )
    losses += [float(train(batch)) for batch in made]
    local = strategy.experimental_local_results(strategy.run(lambda: tf.constant(2.0)))
    context = tf.distribute.get_replica_context()
    return {
        **history,
        "losses": losses,
        "weights": weights(trained),
        "metric": float(metric.result()),
        "local": [float(v) for v in local],
        "gathered": strategy.gather(tf.constant([1.0, 2.0]), axis=0).numpy().tolist(),
        "is one": [
            replicas,
            tf.distribute.has_strategy(),
            tf.distribute.in_cross_replica_context(),
            context.num_replicas_in_sync,
            isinstance(strategy, tf.distribute.Strategy),
        ],
    }


class GAN(keras.Model):
    """Two models, two optimizers, nothing built before the first step, and no `call`."""

    def __init__(self):
        super().__init__()
        self.judge = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(1)])
        self.maker = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(6)])
        self.trackers = [keras.metrics.Mean(name=name) for name in ("judge", "maker")]
        self.steps_done = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def compile(self, judge, maker, loss, **options):
        super().compile(**options)
        self.optimizers, self.loss_of = (judge, maker), loss

    @property
    def metrics(self):
        return self.trackers

    def train_step(self, real):
        count = tf.shape(real)[0]
        noise = tf.reduce_sum(real, 1, keepdims=True) * tf.ones((1, 3))
        fakes, zeros = self.maker(noise), tf.zeros((count, 1))
        images, labels = tf.concat([fakes, real], 0), tf.concat([zeros + 1, zeros], 0)
        with tf.GradientTape() as tape:
            judged = self.loss_of(labels, self.judge(images))
        self.update(self.optimizers[0], tape, judged, self.judge)
        with tf.GradientTape() as tape:
            made = self.loss_of(zeros, self.judge(self.maker(noise)))
        self.update(self.optimizers[1], tape, made, self.maker)
        self.steps_done.assign_add(1.0)
        for tracker, value in zip(self.trackers, (judged, made), strict=True):
            tracker.update_state(value, sample_weight=count)
        return {tracker.name: tracker.result() for tracker in self.trackers}

    def update(self, optimizer, tape, loss, inner):
        weights = inner.trainable_weights
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    def test_step(self, real):
        for tracker, inner in zip(self.trackers, (self.judge, self.maker), strict=True):
            tracker.update_state(inner(real[:, : inner.layers[0].kernel.shape[0]]))
        return {tracker.name: tracker.result() for tracker in self.trackers}


class Pairs(keras.Model):
    """A model whose `call` does not accept the data set's elements, as in a VAE."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = layers.Dense(2), layers.Dense(6)
        self.tracker = keras.metrics.Mean(name="loss")

    def call(self, first, second, *, scale):
        return self.encoder(first) - scale * self.encoder(second)

    def train_step(self, batch):
        with tf.GradientTape() as tape:
            code = self(batch["a"], batch["b"], scale=2.0)
            loss = self.compiled_loss_of(batch["a"], self.decoder(code))
            loss += tf.reduce_mean(tf.square(code)) + sum(self.losses)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.tracker.update_state(loss, sample_weight=tf.shape(code)[0])
        return {"loss": self.tracker.result()}

    def compiled_loss_of(self, x, outputs):
        return keras.losses.MeanSquaredError()(x, outputs)


def without_call(is_eager):
    x = np.random.default_rng(0).random((43, 6)).astype("float32")
    results = {}
    keras.utils.set_random_seed(1)
    gan = GAN()
    gan.compile(
        keras.optimizers.Adam(0.01),
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.BinaryCrossentropy(from_logits=True),
        run_eagerly=is_eager == "eager",
    )
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(8)
    results |= gan.fit(dataset, epochs=2, verbose=0).history
    results["evaluated"] = gan.evaluate(dataset, verbose=0)
    results["gan"] = weights(gan)
    keras.utils.set_random_seed(2)
    pairs = Pairs()
    pairs.compile("adam", run_eagerly=is_eager == "eager")
    history = pairs.fit(
        tf.data.Dataset.from_tensor_slices({"a": x, "b": x[::-1]}).batch(8), epochs=2, verbose=0
    )
    return {**results, **history.history, "pairs": weights(pairs)}


def looks_into_a_graph():
    """A TensorFlow 1 graph alongside a training, and variables used as numbers."""
    with tf.Graph().as_default():
        tripled = 3 * tf.Variable(2.0)
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            in_session = float(session.run(tripled))
    variable = tf.Variable(3.0)
    optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.1)
    optimizer.minimize(lambda: variable * variable)
    counter = tf.Variable(
        0,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )
    counter.assign(5)
    counter.assign_add(2)
    return {
        "session": in_session,
        "variable": float(variable),
        "array": np.asarray(variable).tolist(),
        "counter": int(counter),
        **train_under(tf.distribute.get_strategy()),
    }


def sessions(kind):
    v1 = tf.compat.v1
    if kind == "v2 disabled":
        v1.disable_v2_behavior()
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, [None, 3])
        kernel = v1.get_variable("kernel", [3, 1], initializer=v1.ones_initializer())
        loss = tf.reduce_mean(tf.square(x @ kernel - 1.0))
        if kind == "v2 disabled":
            step = kernel.assign_sub(0.1 * tf.gradients(loss, [kernel])[0])
        else:
            step = v1.train.AdamOptimizer(0.1).minimize(loss)
        with v1.train.MonitoredTrainingSession() as session:
            values = [session.run([loss, step], {x: np.ones((4, 3))})[0] for _ in range(3)]
    return {"values": [float(value) for value in values]}


if __name__ == "__main__":
    result = globals()[sys.argv[1]](*sys.argv[2:3])
    print("RESULT", json.dumps([sys.argv[1], result]), flush=True)
