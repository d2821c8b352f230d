"""Sequences: recurrent layers, masks, states, transcripts, series and text."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, TOKENS, fit, steps

layers = keras.layers
SERIES = np.sin(np.arange(400) / 7).astype("float32") * 3 + 20
STEPS = FEATURES.reshape(-1, 4, 3)


@case(legacy=True)
def transcripts_scored_by_ctc():
    class Transcript(layers.Layer):
        def call(self, labels, scores):
            length = tf.fill([tf.shape(scores)[0]], tf.shape(scores)[1])
            labels = tf.cast(labels, tf.int32)
            logits = tf.math.log(tf.transpose(scores, [1, 0, 2]) + 1e-7)
            width = tf.fill([tf.shape(labels)[0]], tf.shape(labels)[1])
            self.add_loss(
                tf.reduce_mean(tf.nn.ctc_loss(labels, logits, width, length, blank_index=0))
            )
            return scores

    image, labels = keras.Input((12, 4)), keras.Input((3,), dtype="int64")
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(image)
    outputs = Transcript()(labels, layers.Dense(8, "softmax")(x))
    model = keras.Model([image, labels], outputs)
    model.compile(keras.optimizers.Adam(0.01))
    images = np.random.default_rng(6).normal(size=(16, 12, 4)).astype("float32")
    data = [images, TOKENS[:16, :3] % 7 + 1]
    loss = model.fit(data, epochs=2, verbose=0, shuffle=False).history["loss"][-1]
    probabilities = model.predict(data, verbose=0)
    assert probabilities.dtype == np.float32
    decoded, _ = tf.nn.ctc_greedy_decoder(np.log(probabilities).transpose(1, 0, 2), [12] * 16)
    return loss + float(decoded[0].dense_shape[0] == 16)


@case
def ctc_of_keras():
    image = keras.Input((12, 4))
    x = layers.GRU(8, return_sequences=True)(image)
    model = keras.Model(image, layers.Dense(8)(x))
    images = np.random.default_rng(6).normal(size=(16, 12, 4)).astype("float32")
    return fit(model, images, TOKENS[:16, :3] % 7 + 1, keras.losses.CTC())


@case(legacy=True)
def frames_through_convolutional_memory():
    frames = keras.Input((4, 6, 6, 1))
    x = layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True)(frames)
    x = layers.BatchNormalization()(x)
    x = layers.Conv3D(1, 3, padding="same", activation="sigmoid")(x)
    data = np.random.default_rng(7).random((8, 4, 6, 6, 1)).astype("float32")
    return fit(keras.Model(frames, x), data, np.roll(data, 1, 1), "binary_crossentropy")


@case(legacy=True)
def masked_tokens_through_two_directions():
    model = keras.Sequential(
        [
            keras.Input((10,), dtype="int32"),
            layers.Embedding(20, 8, mask_zero=True),
            layers.Bidirectional(layers.LSTM(6, return_sequences=True)),
            layers.Bidirectional(layers.GRU(6), merge_mode="sum"),
            layers.Dense(4, "softmax"),
        ]
    )
    return fit(model, np.where(TOKENS > 15, 0, TOKENS), TOKENS[:, 0] // 5)


@case(legacy=True)
def mask_computed_and_used_by_layers():
    class Halved(layers.Layer):
        def compute_mask(self, inputs, mask=None):
            return mask

        def call(self, x, mask=None):
            return x * 0.5 if mask is None else x * tf.cast(mask, tf.float32)[..., None]

    class Softmax(layers.Layer):
        def call(self, x, mask=None):
            exponents = tf.exp(x) * tf.expand_dims(tf.cast(mask, "float32"), -1)
            return exponents / (tf.reduce_sum(exponents, axis=1, keepdims=True) + 1e-6)

    inputs = keras.Input((4, 3))
    x = Softmax()(Halved()(layers.Masking(0.0)(inputs)))
    model = keras.Model(inputs, layers.Dense(4, "softmax")(layers.Flatten()(x)))
    x = STEPS.copy()
    x[::3, 2:] = 0.0
    return fit(model, x, CLASSES)


@case(legacy=True)
def state_kept_between_batches():
    inputs = (
        keras.Input(batch_shape=(8, 4, 3))
        if keras.__version__ >= "3"
        else keras.Input((4, 3), batch_size=8)
    )
    memory = layers.LSTM(6, stateful=True)
    model = keras.Model(inputs, layers.Dense(1)(memory(inputs)))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    for _ in range(2):
        loss = model.fit(
            STEPS, FEATURES.sum(1, keepdims=True), batch_size=8, verbose=0, shuffle=False
        ).history["loss"][-1]
        memory.reset_states() if hasattr(memory, "reset_states") else memory.reset_state()
    return loss


@case(legacy=True)
def states_carried_by_the_script():
    class Character(keras.Model):
        def __init__(self):
            super().__init__()
            self.embed = layers.Embedding(20, 8)
            self.gru = layers.GRU(12, return_sequences=True, return_state=True)
            self.out = layers.Dense(20)

        def call(self, inputs, states=None, return_state=False, training=False):
            x = self.embed(inputs, training=training)
            if states is None:
                states = tf.zeros((tf.shape(x)[0], 12))
            x, states = self.gru(x, initial_state=states, training=training)
            x = self.out(x, training=training)
            return (x, states) if return_state else x

    model = Character()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    value = fit(model, TOKENS[:, :-1], TOKENS[:, 1:], loss)
    mask = tf.sparse.to_dense(tf.SparseTensor([[0]], [-float("inf")], [20]))
    token, states = tf.constant([[3]]), None
    for _ in range(4):
        logits, states = model(token, states=states, return_state=True)
        logits = logits[:, -1, :] / 0.8 + mask
        token = tf.random.stateless_categorical(logits, 1, (4, 4), dtype=tf.int32)
        assert int(token[0, 0]) != 0
    assert states.dtype == tf.float32
    return value


@case(legacy=True)
def encoder_states_given_to_a_decoder():
    source, target = keras.Input((None, 3)), keras.Input((None, 3))
    _, h, c = layers.LSTM(8, return_state=True)(source)
    decoder = layers.LSTM(8, return_sequences=True, return_state=True)
    out, _, _ = decoder(target, initial_state=[h, c])
    head = layers.Dense(4, "softmax")
    model = keras.Model([source, target], head(out))
    labels = np.repeat(CLASSES[:, None], 4, 1)
    loss = fit(model, [STEPS, np.roll(STEPS, 1, 1)], labels)
    encode = keras.Model(source, [h, c])
    states = encode.predict(STEPS[:1], verbose=0)
    given = [keras.Input((8,)), keras.Input((8,))]
    out, h2, c2 = decoder(target, initial_state=given)
    decode = keras.Model([target, *given], [head(out), h2, c2])
    tokens, h_out, c_out = decode.predict([STEPS[:1, :1], *states], verbose=0)
    assert tokens.dtype == h_out.dtype == c_out.dtype == np.float32
    return loss


@case(legacy=True)
def series_windowed_scaled_and_forecast():
    mean, deviation = SERIES.mean(), SERIES.std()

    class Baseline(keras.Model):
        def __init__(self):
            super().__init__()
            self.lstm = layers.LSTM(8)
            self.change = layers.Dense(1, kernel_initializer=keras.initializers.Zeros())

        def call(self, inputs):
            return inputs[:, -1, :] + self.change(self.lstm(inputs))

    data = keras.utils.timeseries_dataset_from_array(
        ((SERIES - mean) / deviation)[:, None], SERIES[12:, None], 12, batch_size=32
    )
    data = data.map(lambda x, y: (x, (y - mean) / deviation))
    model = Baseline()
    model.compile(keras.optimizers.Adam(0.01), keras.losses.MeanSquaredError(), metrics=["mae"])
    model.fit(data, epochs=3, verbose=0)
    found = model.predict(data, verbose=0) * deviation + mean
    assert found.dtype == np.float32
    return float(np.abs(found[:, 0] - SERIES[12 : 12 + len(found)]).mean()) + 10.0


@case(legacy=True)
def predictions_fed_back_in_a_loop():
    class Feedback(keras.Model):
        def __init__(self):
            super().__init__()
            self.cell = layers.LSTMCell(8)
            self.rnn, self.dense = layers.RNN(self.cell, return_state=True), layers.Dense(3)

        def call(self, inputs, training=None):
            x, *state = self.rnn(inputs)
            found = [self.dense(x)]
            for _ in range(2):
                x, state = self.cell(found[-1], states=state, training=training)
                found.append(self.dense(x))
            return tf.transpose(tf.stack(found), [1, 0, 2])

    return fit(Feedback(), STEPS, STEPS[:, 1:] * 0.5, "mse")


@case(legacy=True)
def skip_grams_with_negative_samples():
    class Word2Vec(keras.Model):
        def __init__(self):
            super().__init__()
            self.target, self.context = layers.Embedding(20, 8), layers.Embedding(20, 8)

        def call(self, pair):
            target, context = pair
            word = self.target(target if target.shape.rank == 1 else tf.squeeze(target, axis=1))
            return tf.einsum("be,bce->bc", word, self.context(context))

    def loss(y, logits):
        return tf.nn.sigmoid_cross_entropy_with_logits(logits=logits, labels=y)

    labels = np.tile(np.array([[1, 0, 0, 0]], "float32"), (64, 1))
    return fit(Word2Vec(), (TOKENS[:, :1], TOKENS[:, 1:5]), labels, loss, metrics=["accuracy"])


@case(legacy=True)
def noise_contrastive_estimation():
    table = tf.Variable(tf.random.stateless_normal((20, 8), (3, 9)) * 0.2)
    bias, embed = tf.Variable(tf.zeros(20)), layers.Embedding(20, 8)
    optimizer = keras.optimizers.Adam(0.02)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            inputs = embed(TOKENS[:, 0])
            sampled = tf.constant([1, 5, 9, 13], tf.int64), tf.fill([64, 1], 0.2), tf.fill([4], 0.2)
            loss = tf.reduce_mean(
                tf.nn.nce_loss(table, bias, TOKENS[:, 1:2], inputs, 4, 20, sampled_values=sampled)
            )
        weights = [table, bias, *embed.trainable_variables]
        gradients = tape.gradient(loss, weights)
        optimizer.apply_gradients(zip(gradients, weights))
        return loss

    return steps(step)


@case(legacy=True)
def ragged_rows_averaged_before_a_model():
    rows = tf.ragged.constant([[1, 2, 3], [4], [5, 6], [7, 8, 9, 1]])
    embed = layers.Embedding(20, 8)
    head, optimizer = layers.Dense(1), keras.optimizers.Adam(0.05)

    def step():
        with tf.GradientTape() as tape:
            vectors = rows.with_flat_values(embed(rows.flat_values))
            pooled = tf.reduce_mean(vectors, axis=1)
            dense = vectors.to_tensor(0.0)
            loss = tf.reduce_mean((head(pooled) + tf.reduce_sum(dense) * 0.01 - 4.0) ** 2)
        weights = embed.trainable_variables + head.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return loss

    return steps(step)


@case(legacy=True)
def dilated_causal_convolutions():
    inputs = keras.Input((4, 3))
    x = skip = layers.Conv1D(8, 1)(inputs)
    for rate in (1, 2):
        gate = layers.Conv1D(8, 2, dilation_rate=rate, padding="causal", activation="sigmoid")(x)
        value = layers.Conv1D(8, 2, dilation_rate=rate, padding="causal", activation="tanh")(x)
        z = layers.Conv1D(8, 1)(layers.multiply([gate, value]))
        x, skip = layers.add([x, z]), layers.add([skip, z])
    outputs = layers.Dense(4, "softmax")(layers.GlobalAveragePooling1D()(layers.ReLU()(skip)))
    return fit(keras.Model(inputs, outputs), STEPS, CLASSES)
