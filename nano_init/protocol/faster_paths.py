"""The faster paths: one record each, and parsing of the names to switch off. Pure."""

from __future__ import annotations

from nano_init.protocol.legacy_paths import ITERATOR_ENDS, legacy_path_records
from nano_init.protocol.optimizer_paths import optimizer_path_records
from nano_init.protocol.patch_record import PATH, PatchRecord
from nano_init.protocol.supported_versions import KERAS_RANGE

__all__ = ["FASTER_PATHS", "PATH_RECORDS", "parse_disabled", "path_groups", "path_table"]

_NN = "keras.src.backend.tensorflow.nn"
_ARRAYS = "keras.src.trainers.data_adapters"
_FUNCTION = "tensorflow.python.eager.polymorphic_function.polymorphic_function"

# The tuner's groups: one kind of layer, or one technique.
_ISLANDS = "islands"
_UPDATES = "updates"
_CONVOLUTIONS = "convolutions"
_RECURRENT = "recurrent"
_DENSE = "dense"
_CALLS = "calls"

_OTHERS = (
    PatchRecord(
        "activations",
        PATH,
        "GELU, SiLU, ReLU6 and hard SiLU, compiled by XLA into one kernel per direction",
        (
            *(f"{_NN}:{name}" for name in ("gelu", "silu", "relu6", "hard_silu")),
            *(f"tensorflow._api.v2.nn:{name}" for name in ("gelu", "silu", "swish", "relu6")),
            "tensorflow.python.ops.nn_ops:gelu",
            "tensorflow.python.ops.nn_ops:relu6",
            "tensorflow.python.ops.nn_impl:swish",
        ),
        group=_ISLANDS,
        models=("encoder", "vit", "mobilenet"),
        tolerance=1e-5,
    ),
    PatchRecord(
        "array_passes",
        PATH,
        "`fit`, `evaluate` and `predict` of small arrays without a traced pipeline, and of any "
        "arrays without a pass that nobody reads",
        (
            "keras.src.trainers.epoch_iterator:EpochIterator._enumerate_iterator",
            "keras.src.backend.tensorflow.trainer:TFEpochIterator.__init__",
            "keras.src.backend.tensorflow.trainer:TFEpochIterator._get_iterator",
            f"{_ARRAYS}.array_data_adapter:ArrayDataAdapter.get_tf_dataset",
        ),
        uses=(f"{_ARRAYS}.array_slicing:convert_to_sliceable",),
        keras=("3.7", KERAS_RANGE[1]),
        group=_CALLS,
        models=("short_fits",),
    ),
    PatchRecord(
        "attention",
        PATH,
        "the softmax of attention, compiled by XLA into one kernel per direction",
        (f"{_NN}:_dot_product_attention_xla",),
        keras=("3.6", KERAS_RANGE[1]),
        group=_ISLANDS,
        models=("decoder",),
        tolerance=1e-5,
    ),
    PatchRecord(
        "batch_norm",
        PATH,
        "BatchNormalization by the fused kernel with float32 statistics, or by fewer ops for small "
        "tensors and odd numbers of channels, where the kernel is slow",
        ("keras.src.layers.normalization.batch_normalization:BatchNormalization.call",),
        uses=("keras.src.layers.normalization.batch_normalization:BatchNormalization._moments",),
        group=_CONVOLUTIONS,
        models=("cnn", "resnet50", "mobilenet"),
        tolerance=1e-4,
    ),
    PatchRecord(
        "collection_pause",
        PATH,
        "no garbage collection while TensorFlow and Keras are imported",
        (),
    ),
    PatchRecord(
        "convolution",
        PATH,
        "1x1 convolutions, and kernel gradients that oneDNN computes slowly, as matrix products",
        (
            "keras.src.layers.convolutional.base_conv:BaseConv.call",
            "keras.src.layers.convolutional.conv1d:Conv1D.call",
        ),
        group=_CONVOLUTIONS,
        models=("mobilenet", "resnet50", "unet", "text_conv", "tcn"),
        tolerance=1e-5,
    ),
    PatchRecord(
        "cross_entropy",
        PATH,
        "the loss of integer labels, compiled by XLA into one kernel per direction, or for large "
        "float32 logits by ops in their memory",
        (f"{_NN}:sparse_categorical_crossentropy",),
        group=_ISLANDS,
        models=("decoder", "masked_lm"),
        tolerance=1e-5,
    ),
    PatchRecord(
        "depthwise",
        PATH,
        "gradients of strided and of large depthwise kernels in float32, because bfloat16 has no "
        "fast kernel; large kernels on small images position by position",
        (f"{_NN}:depthwise_conv", f"{_NN}:separable_conv"),
        group=_CONVOLUTIONS,
        models=("mobilenet",),
        tolerance=1e-5,
    ),
    PatchRecord(
        "dropout",
        PATH,
        "the same mask as Keras draws in float32, from a vectorized generator",
        ("keras.src.backend.tensorflow.random:dropout",),
        uses=tuple(
            f"keras.src.backend.tensorflow.random:{n}" for n in ("_cast_seed", "tf_draw_seed")
        ),
        group=_DENSE,
        models=("encoder", "vit"),
        tolerance=1e-6,
    ),
    PatchRecord(
        "einsum_dense",
        PATH,
        "EinsumDense and the projections of MultiHeadAttention as one matrix product each",
        ("keras.src.layers.core.einsum_dense:EinsumDense.call",),
        group=_DENSE,
        models=("encoder", "decoder"),
        tolerance=1e-5,
    ),
    PatchRecord(
        "embedding",
        PATH,
        "looks up rows without reading the whole table",
        ("keras.src.layers.core.embedding:Embedding.call",),
        group=_DENSE,
        models=("recommender",),
    ),
    PatchRecord(
        "fit_stall",
        PATH,
        "no wait for tf.data's autotuning thread when a `fit` ends; a generator's resources are "
        "closed by then",
        (*ITERATOR_ENDS, f"{_ARRAYS}.array_data_adapter:ArrayDataAdapter.get_tf_dataset"),
        models=("short_fits",),
    ),
    PatchRecord(
        "flat_step",
        PATH,
        "a step of `fit` or `evaluate` is traced into one graph, not into a function in a function",
        ("keras.src.backend.tensorflow.trainer:TensorFlowTrainer._make_function",),
        uses=("keras.src.backend.tensorflow.trainer:reduce_per_replica",),
        keras=("3.7", KERAS_RANGE[1]),
    ),
    PatchRecord(
        "grouped_convolution",
        PATH,
        "convolutions with groups by oneDNN, which Keras compiles by XLA: 10 to 400 times as fast",
        (f"{_NN}:conv",),
        uses=(f"{_NN}:depthwise_conv",),
        group=_CONVOLUTIONS,
        models=("resnext",),
        tolerance=1e-5,
    ),
    PatchRecord(
        "gru",
        PATH,
        "GRU over whole sequences: weights are cast once, and each weight gradient is one product",
        ("keras.src.layers.rnn.gru:GRU.inner_loop",),
        group=_RECURRENT,
        models=("gru",),
        tolerance=1e-5,
    ),
    PatchRecord(
        "layer_norm",
        PATH,
        "layer and RMS normalization, compiled by XLA into one kernel per direction",
        ("keras.src.layers.normalization.layer_normalization:LayerNormalization.call",),
        optional=("keras.src.layers.normalization.rms_normalization:RMSNormalization.call",),
        group=_ISLANDS,
        models=("encoder", "vit"),
        tolerance=1e-5,
    ),
    PatchRecord(
        "lazy_imports",
        PATH,
        "`keras.wrappers` and `keras.visualization` import scikit-learn, matplotlib and pandas on "
        "first use",
        (),
    ),
    PatchRecord(
        "lazy_namespaces",
        PATH,
        "the namespaces of TensorFlow's API, such as `tf.lite` and `tf.compat.v1.layers`, are "
        "imported on first use",
        (),
    ),
    PatchRecord(
        "lstm",
        PATH,
        "LSTM over whole sequences: weights are cast once, and each weight gradient is one product",
        ("keras.src.layers.rnn.lstm:LSTM.inner_loop",),
        group=_RECURRENT,
        models=("lstm",),
        tolerance=1e-5,
    ),
    PatchRecord(
        "one_trace",
        PATH,
        "a step is traced once: Keras creates its variables outside the graph. Python code in a "
        "step, such as a `print`, runs once instead of twice",
        (
            f"{_FUNCTION}:Function._initialize",
            f"{_FUNCTION}:Function._generate_scoped_tracing_options",
            "keras.src.backend.tensorflow.core:Variable.__init__",
            "keras.src.layers.layer:Layer._maybe_build",
            "keras.src.random.seed_generator:global_seed_generator",
        ),
    ),
    PatchRecord(
        "replica_reduction",
        PATH,
        "the values of a step are returned without importing the strategies for several devices "
        "to compare with",
        ("keras.src.backend.tensorflow.trainer:reduce_per_replica",),
    ),
    PatchRecord(
        "step_call",
        PATH,
        "steps of `fit` and `evaluate` called directly: a graph is looked up once per iterator",
        ("keras.src.backend.tensorflow.trainer:TensorFlowTrainer._make_function",),
        keras=("3.7", KERAS_RANGE[1]),
        group=_CALLS,
        models=("tiny",),
    ),
    PatchRecord(
        "step_scalars",
        PATH,
        "the learning rate and other scalars of an optimizer are computed once per step, not "
        "once per variable",
        ("keras.src.backend.tensorflow.optimizer:TFOptimizer._backend_update_step",),
    ),
    PatchRecord(
        "type_variables",
        PATH,
        "the types in the signatures of TensorFlow's ops are compiled once each, not 400 times",
        (),
    ),
)

_ALL = (*_OTHERS, *optimizer_path_records(_UPDATES), *legacy_path_records(_UPDATES, _CALLS))

# Each name is also a module in `keras_patch/faster`, which has a function `NAME_replacements`.
PATH_RECORDS = tuple(sorted(_ALL, key=lambda record: record.name))

FASTER_PATHS = tuple(record.name for record in PATH_RECORDS)


def path_groups(keras_package: str = "") -> tuple[tuple[str, ...], ...]:
    """Return the names that the tuner switches off together, group by group.

    Args:
        keras_package: `"keras"` (Keras 3) or `"tf_keras"` (Keras 2), for its paths alone.
    """
    groups: dict[str, list[str]] = {}
    for record in PATH_RECORDS:
        if record.group and (not keras_package or keras_package in record.keras_packages):
            groups.setdefault(record.group, []).append(record.name)
    return tuple(tuple(names) for names in groups.values())


def path_table() -> str:
    """Return the table of faster paths for the documentation, in Markdown."""
    rows = [
        f"| `{record.name}` | {record.summary} | {_verified_on(record)} |"
        for record in PATH_RECORDS
    ]
    head = ("| path | what it does | verified on Keras |", "| --- | --- | --- |")
    return "\n".join((*head, *rows)) + "\n"


def _verified_on(record: PatchRecord) -> str:
    if "keras" in record.keras_packages:
        return " to ".join(record.keras)
    return f"`tf_keras` {' to '.join(record.tensorflow)}"


def parse_disabled(text: str) -> tuple[frozenset[str], str | None]:
    """Return the paths to switch off, and a sentence about unknown names.

    Args:
        text: Comma-separated names, as in `NANO_INIT_DISABLE`; `all` means all of them.

    Returns:
        The known names, and None or one sentence that names the unknown ones.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = frozenset(FASTER_PATHS if "all" in names else names) & frozenset(FASTER_PATHS)
    unknown = sorted({name for name in names if name not in (*FASTER_PATHS, "all")})
    if not unknown:
        return known, None
    listed = ", ".join(repr(name) for name in unknown)
    verb = "is not a faster path" if len(unknown) == 1 else "are not faster paths"
    return known, f"{listed} {verb} and cannot be switched off; the names are {_listing()}"


def _listing() -> str:
    return ", ".join(repr(name) for name in FASTER_PATHS) + " and 'all'"
