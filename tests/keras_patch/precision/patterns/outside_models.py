"""Outputs of a model in the Python code of the script: digits, dtypes, files, libraries."""

from __future__ import annotations

import io
import json

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, IMAGES, fit

layers = keras.layers


def trained():
    model = keras.Sequential(
        [keras.Input((12,)), layers.Dense(8, "relu"), layers.Dense(4, "softmax")]
    )
    fit(model, FEATURES, CLASSES)
    return model


@case(legacy=True)
def preprocessing_layers_keep_their_digits():
    pressure = np.array([[1013.25], [998.41], [1020.13]], "float32")
    pixels = np.arange(0, 256, 5, dtype="float32")[None]
    scaled = np.asarray(layers.Rescaling(1 / 255)(pixels))
    norm = layers.Normalization()
    norm.adapt(pressure)
    exact = (pressure - pressure.mean()) / pressure.std()
    assert scaled.dtype == np.float32, "Rescaling gives another type"
    assert np.abs(scaled - pixels / 255).max() < 1e-6, "Rescaling rounds"
    assert np.abs(np.asarray(norm(pressure)) - exact).max() < 1e-3, "Normalization rounds"
    return 1.0


@case(legacy=True)
def data_pipeline_that_maps_a_layer():
    norm = layers.Normalization()
    norm.adapt(FEATURES * 50 + 1000)
    data = tf.data.Dataset.from_tensor_slices((FEATURES * 50 + 1000, CLASSES)).batch(32)
    mapped = data.map(lambda x, y: (norm(x), y))
    x, _ = next(iter(mapped))
    assert x.dtype == tf.float32, x.dtype
    assert mapped.element_spec[0].dtype == tf.float32
    assert abs(float(tf.reduce_mean(x)) - FEATURES[:32].mean() / FEATURES.std()) < 0.2
    model = keras.Sequential([keras.Input((12,)), layers.Dense(4, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model.fit(mapped, epochs=2, verbose=0).history["loss"][-1]


@case(legacy=True)
def data_pipeline_that_maps_a_model():
    encoder = trained()
    data = tf.data.Dataset.from_tensor_slices(FEATURES).batch(16)
    rows = list(data.map(lambda x: encoder(x, training=False)).unbatch())
    assert all(r.dtype == tf.float32 for r in rows)
    return float(np.linalg.norm(np.stack([r.numpy() for r in rows])))


@case(legacy=True)
def arrays_saved_by_numpy():
    rows = layers.Embedding(9, 3)(np.array([1, 2])).numpy()
    buffer = io.BytesIO()
    np.savez(buffer, rows=rows)
    buffer.seek(0)
    loaded = np.load(buffer)["rows"]
    assert loaded.dtype == np.float32, loaded.dtype
    assert np.linalg.svd(loaded)[1].shape == (2,)
    return 1.0


@case(legacy=True)
def outputs_written_as_json():
    probabilities = trained()(FEATURES[:3])
    text = json.dumps(
        {"rows": np.asarray(probabilities).tolist(), "top": float(probabilities[0, 0])}
    )
    return float(np.sum(json.loads(text)["rows"]))


@case(legacy=True)
def outputs_in_a_data_frame():
    import pandas

    frame = pandas.DataFrame(trained()(FEATURES).numpy(), columns=list("abcd"))
    assert (frame.dtypes == np.float32).all(), frame.dtypes
    return float(frame.describe().loc["max"].sum())


@case(legacy=True)
def features_given_to_scikit_learn():
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    model = trained()
    inner = keras.Model(model.inputs, model.layers[0].output)
    vectors = inner(FEATURES).numpy()
    assert vectors.dtype == np.float32, vectors.dtype
    components = PCA(3).fit_transform(vectors)
    found = LogisticRegression().fit(components, CLASSES)
    return float(found.score(components, CLASSES) > 0.4)


@case(legacy=True)
def predictions_and_batches_are_float32():
    model = trained()
    assert model.predict(FEATURES, verbose=0).dtype == np.float32
    assert model.predict_on_batch(FEATURES[:4]).dtype == np.float32
    assert np.asarray(model(FEATURES[:4])).dtype == np.float32
    assert model(FEATURES[:4]).dtype == tf.float32
    assert tf.function(model)(tf.constant(FEATURES[:4])).dtype == tf.float32
    return float(model.predict(FEATURES, verbose=0).max(1).mean())


@case(legacy=True)
def weights_read_and_written():
    model = trained()
    weights = model.get_weights()
    assert all(w.dtype == np.float32 for w in weights)
    model.set_weights([0.5 * w for w in weights])
    kernel = model.layers[0].kernel
    assert kernel.numpy().dtype == np.float32
    assert tf.convert_to_tensor(kernel).dtype == tf.float32
    return float(tf.norm(kernel * 2.0))


@case(legacy=True)
def python_arithmetic_on_outputs():
    out = trained()(FEATURES[:8])
    y = tf.one_hot(CLASSES[:8], 4)
    own = np.ones((8, 4), "float32")
    values = [out - y, y - out, out * own, own * out, out + 1, 2.0 / (1.0 + out), out @ tf.eye(4)]
    values += [tf.maximum(out, 0.1), tf.stack([out, y]), tf.concat([out, own], 0)]
    assert all(v.dtype == tf.float32 for v in values if isinstance(v, tf.Tensor))
    return float(sum(np.abs(np.asarray(v)).sum() for v in values))


@case(legacy=True)
def image_operations_on_outputs():
    net = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(3, 3, padding="same")])
    image = tf.sigmoid(net(IMAGES[:2]))
    target = tf.sigmoid(tf.constant(IMAGES[:2]))
    large = tf.image.resize(image, (16, 16))
    hue = tf.image.adjust_hue(large, 0.1)
    boxes = tf.constant([[0.1, 0.1, 0.8, 0.8], [0.0, 0.0, 0.5, 0.5]])
    crops = tf.image.crop_and_resize(hue, boxes, [0, 1], (4, 4))
    similar = tf.image.ssim(image, target, 1.0, filter_size=5)
    noise = tf.image.psnr(image, target, 1.0)
    edges = tf.image.sobel_edges(image) + tf.image.total_variation(image)[0] * 0.01
    parts = [crops, similar, noise, tf.image.rgb_to_grayscale(image), edges]
    return float(sum(tf.reduce_mean(tf.abs(tf.cast(p, tf.float32))) for p in parts))


@case(legacy=True)
def image_operations_inside_a_layer():
    class Augmented(layers.Layer):
        def call(self, x):
            x = tf.image.resize(x, (12, 12), "bicubic")
            x = tf.image.central_crop(tf.image.adjust_brightness(x, 0.2), 0.7)
            return tf.image.per_image_standardization(x)

    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten()(Augmented()(layers.Conv2D(3, 3)(inputs)))
    return fit(keras.Model(inputs, layers.Dense(4, "softmax")(x)), IMAGES, CLASSES[:32])


@case(legacy=True)
def boxes_kept_by_suppression():
    head = keras.Sequential([keras.Input((12,)), layers.Dense(5)])
    out = head(FEATURES)
    boxes = tf.concat([out[:, :2], out[:, :2] + tf.exp(out[:, 2:4])], 1)
    scores = tf.sigmoid(out[:, 4])
    kept = tf.image.non_max_suppression(boxes, scores, 10, 0.5)
    combined = tf.image.combined_non_max_suppression(
        boxes[None, :, None], scores[None, :, None], 10, 10
    )
    assert combined.nmsed_boxes.dtype == tf.float32
    return float(len(kept) > 0)


@case(legacy=True)
def augmentation_outside_a_model():
    augment = keras.Sequential([layers.RandomFlip(seed=1), layers.RandomZoom(0.2, seed=3)])
    image = augment(np.abs(IMAGES) * 100, training=True)
    assert image.dtype == tf.float32, image.dtype
    encoded = tf.io.encode_png(tf.cast(tf.clip_by_value(image[0], 0, 255), tf.uint8))
    return float(len(encoded.numpy()) > 50)


@case(legacy=True)
def lookups_and_categories():
    words = tf.constant([["red", "blue"], ["green", "red"]])
    lookup = layers.StringLookup(vocabulary=["red", "green", "blue"])
    ids = lookup(words)
    assert ids.dtype == tf.int64, ids.dtype
    back = layers.StringLookup(vocabulary=["red", "green", "blue"], invert=True)(ids)
    assert back.numpy()[0, 1] == b"blue"
    hot = layers.CategoryEncoding(5, output_mode="count")(ids)
    assert np.asarray(hot).dtype == np.float32
    buckets = layers.Discretization([1000.5, 1001.5, 1002.5])(
        np.array([[1001.4], [1002.6]], "float32")
    )
    assert np.asarray(buckets).reshape(-1).tolist() == [1, 3], "Discretization rounds"
    hashed = layers.Hashing(1000)(np.array([[300], [301], [302]]))
    assert len(set(np.asarray(hashed).reshape(-1).tolist())) == 3, "Hashing rounds ids"
    large = layers.IntegerLookup(vocabulary=[100001, 100002, 100003])(np.array([100002, 100003]))
    assert np.asarray(large).tolist() == [2, 3], "IntegerLookup rounds ids"
    return float(np.asarray(hot).sum())


@case(legacy=True)
def text_vectorized_before_a_model():
    text = tf.constant(["the cat sat", "a dog ran far", "the dog sat", "a cat ran"])
    vectorize = layers.TextVectorization(30, output_sequence_length=4)
    vectorize.adapt(text)
    weights = layers.TextVectorization(30, output_mode="tf_idf")
    weights.adapt(text)
    assert weights(text).dtype == tf.float32
    model = keras.Sequential(
        [layers.Embedding(30, 6), layers.GlobalAveragePooling1D(), layers.Dense(1)]
    )
    loss = fit(model, vectorize(text), np.array([0.0, 1.0, 0.0, 1.0]), "mse", epochs=3)
    return loss + float(tf.reduce_sum(weights(text)))
