"""Agents: networks called eagerly for one action, NumPy buffers, targets, ratios."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import FEATURES

layers = keras.layers


class Walk:
    """A state of four numbers; the action pushes the first, the reward is its closeness to 0."""

    def __init__(self):
        self.random = np.random.default_rng(12)
        self.state = self.random.normal(size=4).astype("float32")

    def step(self, action):
        self.state = (0.9 * self.state + 0.1 * self.random.normal(size=4)).astype("float32")
        self.state[0] += 0.2 if action else -0.2
        return self.state.copy(), np.float32(-abs(self.state[0]))


def network(outputs, activation=None):
    hidden = layers.Dense(16, "relu")
    return keras.Sequential([keras.Input((4,)), hidden, layers.Dense(outputs, activation)])


@case(legacy=True)
def values_learnt_from_a_replay_buffer():
    world, model, target = Walk(), network(2), network(2)
    target.set_weights(model.get_weights())
    optimizer, huber = keras.optimizers.Adam(0.01, clipnorm=1.0), keras.losses.Huber()
    states, actions, rewards, following = [], [], [], []
    state = world.state
    for frame in range(48):
        values = model(tf.expand_dims(tf.convert_to_tensor(state), 0), training=False)
        assert values.numpy().dtype == np.float32
        action = int(frame % 3 == 0) if frame < 40 else int(tf.argmax(values[0]).numpy() >= 0)
        after, reward = world.step(action)
        for column, value in zip(
            (states, actions, rewards, following), (state, action, reward, after)
        ):
            column.append(value)
        state = after
        if frame % 8 != 7:
            continue
        picked = np.random.default_rng(frame).choice(len(states), 8)
        future = target.predict(np.array(following)[picked], verbose=0)
        wanted = np.array(rewards)[picked] + 0.9 * tf.reduce_max(future, axis=1)
        masks = tf.one_hot(np.array(actions)[picked], 2)
        with tf.GradientTape() as tape:
            found = model(np.array(states)[picked])
            loss = huber(wanted, tf.reduce_sum(tf.multiply(found, masks), axis=1))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        target.set_weights(model.get_weights())
    return float(loss) + 0.5


@case(legacy=True)
def actor_and_critic_in_an_eager_loop():
    inputs = keras.Input((4,))
    common = layers.Dense(16, "relu")(inputs)
    model = keras.Model(inputs, [layers.Dense(2, "softmax")(common), layers.Dense(1)(common)])
    world, optimizer, huber = Walk(), keras.optimizers.Adam(0.01), keras.losses.Huber()
    state, epsilon = world.state, np.finfo(np.float32).eps.item()
    for _ in range(2):
        logs, values, rewards = [], [], []
        with tf.GradientTape() as tape:
            for frame in range(8):
                chances, value = model(tf.convert_to_tensor(state[None]))
                values.append(value[0, 0])
                p = np.squeeze(chances)
                np.random.default_rng(frame).choice(2, p=p / p.sum())
                action = frame % 2
                logs.append(tf.math.log(chances[0, action]))
                state, reward = world.step(action)
                rewards.append(reward)
            returns = np.cumsum(rewards[::-1])[::-1]
            returns = (returns - returns.mean()) / (returns.std() + epsilon)
            losses = [
                -log * (wanted - value) + huber(tf.expand_dims(value, 0), tf.expand_dims(wanted, 0))
                for log, value, wanted in zip(logs, values, returns.tolist())
            ]
            loss = sum(losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return float(loss)


@case(legacy=True)
def episode_played_in_a_graph():
    model, world = network(2), Walk()

    def play(action):
        state, reward = world.step(int(action))
        return state.astype(np.float32), np.array(reward, np.float32)

    @tf.function
    def episode(state):
        values = tf.TensorArray(tf.float32, size=0, dynamic_size=True)
        rewards = tf.TensorArray(tf.float32, size=0, dynamic_size=True)
        for t in tf.range(6):
            logits = model(tf.expand_dims(state, 0))
            action = t % 2
            values = values.write(t, tf.nn.softmax(logits)[0, action])
            state, reward = tf.numpy_function(play, [action], [tf.float32, tf.float32])
            state.set_shape((4,))
            rewards = rewards.write(t, reward)
        return values.stack(), rewards.stack()

    values, rewards = episode(tf.constant(world.state))
    assert values.dtype == tf.float32
    return float(tf.reduce_sum(values * tf.cumsum(rewards, reverse=True)))


@case(legacy=True)
def clipped_ratio_of_policies():
    actor, critic = network(3), network(1)
    first, second = keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.01)
    states = tf.constant(FEATURES[:32, :4])
    actions = tf.constant(np.arange(32) % 3)
    advantages, returns = tf.constant(FEATURES[:32, 5]), tf.constant(FEATURES[:32, 6])

    def log_chances(logits):
        return tf.reduce_sum(tf.one_hot(actions, 3) * tf.nn.log_softmax(logits), axis=1)

    before = log_chances(actor(states)).numpy()
    assert before.dtype == np.float32

    @tf.function
    def update():
        with tf.GradientTape() as tape:
            ratio = tf.exp(log_chances(actor(states)) - before)
            limit = tf.where(advantages > 0, 1.2 * advantages, 0.8 * advantages)
            loss = -tf.reduce_mean(tf.minimum(ratio * advantages, limit))
        weights = actor.trainable_variables
        first.apply_gradients(zip(tape.gradient(loss, weights), weights))
        divergence = tf.reduce_mean(before - log_chances(actor(states)))
        with tf.GradientTape() as tape:
            error = tf.reduce_mean((returns - tf.squeeze(critic(states), -1)) ** 2)
        weights = critic.trainable_variables
        second.apply_gradients(zip(tape.gradient(error, weights), weights))
        return loss + error, divergence

    for _ in range(4):
        loss, divergence = update()
        if divergence > 1.5:
            break
    return float(loss) + 2.0


@case(legacy=True)
def targets_followed_slowly():
    state, action = keras.Input((4,)), keras.Input((1,))
    joined = layers.Concatenate()([layers.Dense(8, "relu")(state), layers.Dense(8, "relu")(action)])
    critic = keras.Model([state, action], layers.Dense(1)(joined))
    actor, slow = network(1, "tanh"), network(1, "tanh")
    slow.set_weights(actor.get_weights())
    first, second = keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.01)
    buffer = np.zeros((48, 4)), np.zeros((48, 1))
    for i in range(48):
        buffer[0][i] = FEATURES[i, :4]
        push = tf.squeeze(actor(tf.expand_dims(tf.convert_to_tensor(FEATURES[i, :4]), 0)))
        buffer[1][i] = np.clip(push.numpy() + 0.1, -1.0, 1.0)
    states, actions = (tf.convert_to_tensor(b) for b in buffer)
    rewards = tf.cast(tf.convert_to_tensor(FEATURES[:48, :1].astype("float64")), tf.float32)
    for _ in range(3):
        with tf.GradientTape() as tape:
            wanted = rewards + 0.9 * critic([states, slow(states, training=True)], training=True)
            loss = tf.math.reduce_mean(tf.math.square(wanted - critic([states, actions])))
        weights = critic.trainable_variables
        first.apply_gradients(zip(tape.gradient(loss, weights), weights))
        with tf.GradientTape() as tape:
            pushed = -tf.math.reduce_mean(critic([states, actor(states, training=True)]))
        weights = actor.trainable_variables
        second.apply_gradients(zip(tape.gradient(pushed, weights), weights))
        for a, b in zip(slow.trainable_variables, actor.trainable_variables):
            a.assign(b * 0.1 + a * (1 - 0.1))
    return float(loss)
