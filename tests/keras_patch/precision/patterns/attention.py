"""Attention and token mixing written by hand: masks, positions, experts, patches."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, IMAGES, TOKENS, fit, layer, train

layers = keras.layers
WIDTH = 16


def train_tokens(block, embed=None, epochs=2):
    """Train `block` to predict the quarter of the first token; return the loss."""
    tokens = keras.Input((10,), dtype="int32")
    vectors = (embed or layers.Embedding(20, WIDTH))(tokens)
    pooled = layers.GlobalAveragePooling1D()(block(vectors))
    model = keras.Model(tokens, layers.Dense(4, "softmax")(pooled))
    return fit(model, TOKENS, TOKENS[:, 0] // 5, epochs=epochs)


class SelfAttention(layers.Layer):
    """Attention with two heads; `bias` changes the scores, `turn` the queries and keys."""

    def __init__(self, bias=None, turn=None):
        super().__init__()
        self.qkv, self.out = layers.Dense(3 * WIDTH), layers.Dense(WIDTH)
        self.bias, self.turn = bias, turn

    def call(self, x):
        batch, length = tf.shape(x)[0], x.shape[1]
        qkv = tf.reshape(self.qkv(x), (batch, length, 3, 2, WIDTH // 2))
        query, key, value = tf.unstack(tf.transpose(qkv, (2, 0, 3, 1, 4)), num=3)
        if self.turn:
            query, key = self.turn(query), self.turn(key)
        scores = tf.matmul(query, key, transpose_b=True)
        scores = scores / tf.math.sqrt(tf.cast(tf.shape(key)[-1], tf.float32))
        if self.bias:
            scores = self.bias(scores)
        mixed = tf.matmul(tf.nn.softmax(scores, axis=-1), value)
        return self.out(tf.reshape(tf.transpose(mixed, (0, 2, 1, 3)), (batch, length, WIDTH)))


@case(legacy=True)
def causal_mask_added_to_scores():
    def bias(scores):
        return scores + (1.0 - tf.linalg.band_part(tf.ones((10, 10)), -1, 0)) * -1e9

    return train_tokens(SelfAttention(bias))


@case(legacy=True)
def causal_mask_chosen_by_where():
    def bias(scores):
        i = tf.range(10)
        return tf.where(i[:, None] >= i[None], scores, tf.constant(-1e30))

    return train_tokens(SelfAttention(bias))


@case(legacy=True)
def padding_mask_from_the_tokens():
    class Masked(layers.Layer):
        def __init__(self):
            super().__init__()
            self.embed = layers.Embedding(20, WIDTH)
            self.score = layers.Dense(1)

        def call(self, tokens):
            mask = tf.cast(tf.not_equal(tokens, 3), tf.float32)
            scores = tf.squeeze(self.score(self.embed(tokens)), -1) + (1.0 - mask) * -1e9
            weights = tf.nn.softmax(scores) * mask
            weights /= tf.reduce_sum(weights, -1, keepdims=True) + 1e-9
            return tf.einsum("bt,btd->bd", weights, self.embed(tokens))

    tokens = keras.Input((10,), dtype="int32")
    model = keras.Model(tokens, layers.Dense(4, "softmax")(Masked()(tokens)))
    return fit(model, TOKENS, TOKENS[:, 0] // 5)


@case(legacy=True)
def rotary_positions():
    angles = np.outer(np.arange(10), 10000 ** (-np.arange(0, 8, 2) / 8))
    sine, cosine = (tf.constant(np.repeat(f(angles), 2, 1), tf.float32) for f in (np.sin, np.cos))

    def turn(x):
        pairs = tf.stack([-x[..., 1::2], x[..., ::2]], -1)
        return x * cosine + tf.reshape(pairs, tf.shape(x)) * sine

    return train_tokens(SelfAttention(turn=turn))


@case(legacy=True)
def relative_positions_in_buckets():
    class Biased(SelfAttention):
        def build(self, shape):
            self.table = self.add_weight(shape=(19, 2), name="table")
            distance = np.arange(10)[None] - np.arange(10)[:, None] + 9
            self.index = tf.Variable(distance, trainable=False)
            self.bias = self.with_table

        def with_table(self, scores):
            bias = tf.gather(self.table, tf.reshape(self.index, [-1]))
            return scores + tf.transpose(tf.reshape(bias, (10, 10, 2)), (2, 0, 1))

    return train_tokens(Biased())


@case(legacy=True)
def positions_of_sines_scaled_by_the_width():
    class Embedded(layers.Layer):
        def __init__(self):
            super().__init__()
            self.embedding = layers.Embedding(20, WIDTH)
            depth = WIDTH // 2
            angles = np.arange(50)[:, None] / 10000 ** (np.arange(depth)[None] / depth)
            table = np.concatenate([np.sin(angles), np.cos(angles)], -1)
            self.positions = tf.cast(table, dtype=tf.float32)

        def call(self, x):
            length = tf.shape(x)[1]
            x = self.embedding(x)
            x *= tf.math.sqrt(tf.cast(WIDTH, tf.float32))
            return x + self.positions[tf.newaxis, :length, :]

    return train_tokens(layers.Dense(WIDTH), Embedded())


@case(legacy=True)
def multi_head_attention_with_a_float_mask():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.attend = layers.MultiHeadAttention(2, 8)
            self.first, self.second = layers.LayerNormalization(), layers.LayerNormalization()
            self.inner = keras.Sequential([layers.Dense(32, "gelu"), layers.Dense(WIDTH)])

        def call(self, x, training=False):
            mask = tf.cast(tf.range(10)[:, None] >= tf.range(10)[None], tf.float32)
            mixed = self.attend(x, x, attention_mask=mask[None] + tf.zeros((tf.shape(x)[0], 1, 1)))
            x = self.first(x + tf.nn.dropout(mixed, 0.0))
            return self.second(x + self.inner(x))

    return train_tokens(Block())


@case(legacy=True)
def additive_attention_of_a_decoder():
    class Bahdanau(layers.Layer):
        def __init__(self):
            super().__init__()
            self.w1, self.w2, self.v = layers.Dense(8), layers.Dense(8), layers.Dense(1)

        def call(self, values, query):
            score = self.v(tf.nn.tanh(self.w1(values) + self.w2(tf.expand_dims(query, 1))))
            weights = tf.nn.softmax(score, axis=1)
            return tf.reduce_sum(weights * values, axis=1), weights

    class Translator(keras.Model):
        def __init__(self):
            super().__init__()
            self.embed, self.attend = layers.Embedding(20, 12), Bahdanau()
            self.encode = layers.GRU(12, return_sequences=True, return_state=True)
            self.cell, self.out = layers.GRUCell(12), layers.Dense(20)

        def call(self, pair):
            source, target = pair
            values, state = self.encode(self.embed(source))
            logits = []
            for t in range(4):
                context, _ = self.attend(values, state)
                step = tf.concat([context, self.embed(target[:, t])], -1)
                output, state = self.cell(step, [state])
                state = state[0] if isinstance(state, (list, tuple)) else state
                logits.append(self.out(output))
            return tf.stack(logits, 1)

    def masked(y, p):
        cost = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(y, tf.int32), p)
        mask = tf.cast(tf.cast(y, tf.int32) != 3, cost.dtype)
        return tf.reduce_sum(cost * mask) / tf.reduce_sum(mask)

    pair = (TOKENS[:32], np.roll(TOKENS[:32, :4], 1, 1))
    return fit(Translator(), pair, TOKENS[:32, :4], masked)


@case(legacy=True)
def image_patches_with_a_class_token():
    class Patches(layers.Layer):
        def __init__(self):
            super().__init__()
            self.project, self.position = layers.Dense(WIDTH), layers.Embedding(5, WIDTH)

        def build(self, shape):
            self.token = self.add_weight(shape=(1, 1, WIDTH), name="token")

        def call(self, images):
            size = [1, 4, 4, 1]
            patches = tf.image.extract_patches(images, size, size, [1, 1, 1, 1], "VALID")
            x = self.project(tf.reshape(patches, (tf.shape(images)[0], -1, 48)))
            token = tf.repeat(tf.convert_to_tensor(self.token), tf.shape(x)[0], 0)
            return tf.concat([token, x], 1) + self.position(tf.range(5))

    inputs = keras.Input((8, 8, 3))
    x = Patches()(inputs)
    x = x + layers.MultiHeadAttention(2, 8)(x, x)
    x = layers.Lambda(lambda t: t[:, 0])(layers.LayerNormalization()(x))
    return fit(keras.Model(inputs, layers.Dense(4, "softmax")(x)), IMAGES, CLASSES[:32])


@case(legacy=True)
def windows_shifted_as_in_swin():
    def call(self, x):
        x = tf.roll(tf.reshape(x, (-1, 4, 4, 3)), [-1, -1], [1, 2])
        windows = tf.reshape(x, (-1, 2, 2, 2, 2, 3))
        windows = tf.reshape(tf.transpose(windows, (0, 1, 3, 2, 4, 5)), (-1, 4, 4, 3))
        scores = tf.einsum("bwid,bwjd->bwij", windows, windows) * 3**-0.5
        mask = tf.constant(np.triu(np.full((4, 4), -100.0), 1), tf.float32)
        mixed = tf.einsum("bwij,bwjd->bwid", tf.nn.softmax(scores + mask), windows)
        keep = tf.cast(0.9, x.dtype)
        drop = tf.floor(keep + tf.random.stateless_uniform((tf.shape(x)[0], 1, 1, 1), (1, 2)))
        return tf.reshape(tf.math.divide(mixed, keep) * drop, (-1, 48))

    return train(lambda x: layer(call)(layers.Dense(48)(x)))


@case(legacy=True)
def latent_array_as_in_perceiver():
    class Perceiver(layers.Layer):
        def __init__(self):
            super().__init__()
            self.cross, self.norm = layers.MultiHeadAttention(1, 8), layers.LayerNormalization()

        def build(self, shape):
            start = keras.initializers.RandomNormal(seed=5)
            self.latents = self.add_weight(shape=(4, WIDTH), initializer=start, name="latents")

        def call(self, x):
            latents = tf.expand_dims(self.latents, 0)
            latents = tf.tile(latents, (tf.shape(x)[0], 1, 1))
            for _ in range(2):
                latents = self.norm(latents + self.cross(latents, x))
            return latents

    return train_tokens(Perceiver())


@case(legacy=True)
def mixer_with_transposed_tokens():
    class Mixer(layers.Layer):
        def __init__(self):
            super().__init__()
            self.tokens = keras.Sequential([layers.Dense(12, "gelu"), layers.Dense(10)])
            self.channels = keras.Sequential([layers.Dense(24, "gelu"), layers.Dense(WIDTH)])
            self.norm = layers.LayerNormalization(epsilon=1e-6)

        def call(self, inputs):
            x = tf.linalg.matrix_transpose(self.norm(inputs))
            x = tf.linalg.matrix_transpose(self.tokens(x)) + inputs
            return x + self.channels(self.norm(x)) * tf.nn.sigmoid(tf.ones((WIDTH,)))

    return train_tokens(Mixer())


@case(legacy=True, tolerance=0.1, why="a spectrum adds up the roundings of a whole sequence")
def spectrum_instead_of_attention():
    class Fourier(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner, self.norm = layers.Dense(WIDTH, "relu"), layers.LayerNormalization()

        def call(self, x):
            mixed = tf.math.real(tf.signal.fft2d(tf.cast(x, tf.complex64)))
            return self.norm(x + self.inner(self.norm(x + mixed)))

    return train_tokens(Fourier())


@case(legacy=True, tolerance=0.1, why="tokens near the border change their expert")
def experts_chosen_by_a_router():
    class Switch(layers.Layer):
        def __init__(self):
            super().__init__()
            self.route = layers.Dense(3)
            self.experts = [layers.Dense(WIDTH, "relu") for _ in range(3)]

        def call(self, x):
            flat = tf.reshape(x, (-1, WIDTH))
            chances = tf.nn.softmax(self.route(flat), axis=-1)
            gate, index = tf.math.top_k(chances, k=1)
            mask = tf.one_hot(tf.squeeze(index, -1), 3)
            balance = tf.reduce_mean(chances, 0) * tf.reduce_mean(mask, 0)
            self.add_loss(tf.reduce_mean(balance) * 9 * 1e-2)
            position = tf.cast(tf.math.cumsum(mask, axis=0) * mask, tf.int32)
            mask *= tf.cast(tf.math.less(position, 400), tf.float32)
            combined = gate * mask
            sent = tf.einsum("te,td->etd", mask, flat)
            outs = [expert(part) for expert, part in zip(self.experts, tf.unstack(sent, num=3))]
            mixed = tf.einsum("etd,te->td", tf.stack(outs), combined)
            return tf.reshape(mixed, tf.shape(x)) + x

    return train_tokens(Switch())


@case(legacy=True)
def linear_attention_with_running_sums():
    def call(self, x):
        q, k, v = tf.split(x, 3, -1)
        q, k = tf.nn.elu(q) + 1.0, tf.nn.elu(k) + 1.0
        state = tf.cumsum(tf.einsum("btd,bte->btde", k, v), axis=1)
        total = tf.cumsum(k, axis=1)
        mixed = tf.einsum("btd,btde->bte", q, state)
        return mixed / (tf.einsum("btd,btd->bt", q, total)[..., None] + 1e-6)

    return train(lambda x: layer(call)(layers.Reshape((2, 6))(x)))


@case(legacy=True)
def masked_language_model():
    class MaskedModel(keras.Model):
        @property
        def metrics(self):
            return [tracker]

        def train_step(self, data):
            x, y, weight = data
            with tf.GradientTape() as tape:
                logits = self(x, training=True)
                cost = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
                loss = tf.reduce_sum(cost * tf.cast(weight, cost.dtype)) / tf.reduce_sum(
                    tf.cast(weight, cost.dtype)
                )
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
            tracker.update_state(cost, sample_weight=weight)
            return {"loss": tracker.result()}

    tracker = keras.metrics.Mean(name="loss")
    tokens = keras.Input((10,), dtype="int64")
    x = layers.Embedding(21, WIDTH)(tokens)
    x = layers.LayerNormalization(epsilon=1e-6)(x + layers.MultiHeadAttention(2, 8)(x, x))
    model = MaskedModel(tokens, layers.Dense(21)(x))
    model.compile(keras.optimizers.Adam(0.01))
    chosen = np.random.default_rng(3).random(TOKENS.shape) < 0.3
    masked = np.where(chosen, 20, TOKENS)
    data = tf.data.Dataset.from_tensor_slices((masked, TOKENS, chosen.astype("float32")))
    return float(model.fit(data.batch(32), epochs=3, verbose=0).history["loss"][-1])


@case(legacy=True)
def instances_pooled_by_gated_attention():
    class Pool(layers.Layer):
        def build(self, shape):
            start = keras.initializers.RandomNormal(0, 0.3, seed=2)
            self.v, self.u = (
                self.add_weight(shape=(shape[-1], 6), initializer=start, name=n) for n in "vu"
            )
            self.w = self.add_weight(shape=(6, 1), initializer=start, name="w")

        def call(self, x):
            gate = tf.math.tanh(tf.tensordot(x, self.v, axes=1))
            gate *= tf.math.sigmoid(tf.tensordot(x, self.u, axes=1))
            alpha = tf.math.softmax(tf.tensordot(gate, self.w, axes=1), axis=1)
            self.add_loss(0.01 * tf.reduce_mean(tf.reduce_max(alpha, 1)))
            return tf.reduce_sum(alpha * x, axis=1)

    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, layers.Dense(4, "softmax")(Pool()(layers.Dense(8)(inputs))))
    return fit(model, FEATURES.reshape(-1, 3, 4), CLASSES)
