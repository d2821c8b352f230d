"""Each worker gets every batch that the script's process reads, in order, in every pass."""

from __future__ import annotations

import gc
import pickle

import pytest

from nano_init.errors import UsageError

np = pytest.importorskip("numpy")
tf = pytest.importorskip("tensorflow")

from nano_init.process_calls import remote_dataset  # noqa: E402
from nano_init.process_calls.dataset_server import DatasetServer, ServedDataset, components_of  # noqa: E402

pytestmark = pytest.mark.tensorflow


def nested():
    values = {"a": np.arange(6.0), "text": np.array([b"x", b"yy", b"", b"z", b"u", b"v"])}
    return tf.data.Dataset.from_tensor_slices((values, np.arange(6))).batch(4)


def ragged():
    return tf.data.Dataset.from_tensor_slices(tf.ragged.constant([[1], [2, 3], []])).batch(2)


def sparse():
    return tf.data.Dataset.from_tensor_slices(tf.sparse.from_dense(np.eye(3))).batch(2)


def with_none():
    def pack(x):
        return x, tf.experimental.Optional.empty(None), None

    return tf.data.Dataset.from_tensors(np.ones(3, "float32")).map(pack)


def generated():
    def generate():
        yield from range(3)

    return tf.data.Dataset.from_generator(generate, output_signature=tf.TensorSpec((), tf.int32))


@pytest.fixture
def server(tmp_path):
    with DatasetServer(2, str(tmp_path)) as served:
        remote_dataset.connect_to_server(served.address)
        yield served
        gc.collect()  # close the iterators and their connections


def open_two(server, dataset):
    source = ServedDataset(dataset)
    number, spec = server.add(source), pickle.loads(pickle.dumps(dataset.element_spec))
    return [remote_dataset.remote_dataset(number, spec, source.cardinality) for _ in range(2)]


def arrays(dataset):
    return [[c.numpy().tolist() for c in components_of(element)] for element in dataset]


@pytest.mark.parametrize("make", [nested, ragged, sparse, with_none, generated])
def test_all_readers_get_the_elements_that_the_script_reads(server, make):
    dataset = make()
    readers = open_two(server, dataset)

    assert all(reader.element_spec == dataset.element_spec for reader in readers)
    assert all(reader.cardinality() == dataset.cardinality() for reader in readers)
    for _ in range(2):
        expected = arrays(dataset)
        assert [arrays(reader) for reader in readers] == [expected, expected]


def test_each_pass_is_shuffled_differently_but_equally_for_all_readers(server):
    first, second = open_two(server, tf.data.Dataset.range(64).shuffle(64))
    passes = [(arrays(first), arrays(second)) for _ in range(2)]

    assert passes[0][0] == passes[0][1]
    assert passes[1][0] == passes[1][1]
    assert passes[0][0] != passes[1][0]


def test_an_error_in_the_data_is_kept_for_the_script_and_reported_to_readers(server):
    def fail():
        yield 1
        raise KeyError("the file is gone")

    spec = tf.TensorSpec((), tf.int32)
    reader, _ = open_two(server, tf.data.Dataset.from_generator(fail, output_signature=spec))
    with pytest.raises(tf.errors.OpError, match="the script's data ended with"):
        arrays(reader)
    assert "the file is gone" in str(server.fault)


def test_elements_without_dense_tensors_are_rejected(server):
    with pytest.raises(UsageError, match="cannot be sent to workers"):
        server.add(ServedDataset(tf.data.Dataset.range(4).window(2)))
