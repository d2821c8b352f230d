"""The guards that keep mixed bfloat16 correct: one record each. Pure.

If any of them is missing, training in bfloat16 could be silently wrong. So training uses float32 on
a Keras or TensorFlow that a guard was not verified on.
"""

from __future__ import annotations

from nano_init.protocol.patch_record import GUARD, PatchRecord

__all__ = ["GUARD_RECORDS"]

_TF = "tensorflow.python"
_LAYER = "keras.src.layers.layer:Layer"
_POLICY = "keras.src.dtype_policies.dtype_policy"
_LAYERS = "keras.src.layers"
_IMAGES = f"{_LAYERS}.preprocessing.image_preprocessing"
_ARRAY = f"{_TF}.ops.tensor_array_ops:TensorArray"
_ARCHIVE = "keras.src.export"
_LEGACY = "tf_keras.src"
_LEGACY_LAYER = f"{_LEGACY}.engine.base_layer:Layer"
_LEGACY_POLICY = f"{_LEGACY}.mixed_precision.policy"

_WIDE = tuple(
    f"{_LAYERS}.preprocessing.{module}:{name}.{attribute}"
    for module, name in (
        ("category_encoding", "CategoryEncoding"),
        ("discretization", "Discretization"),
        ("normalization", "Normalization"),
        ("rescaling", "Rescaling"),
    )
    # They inherit the property.
    for attribute in ("compute_dtype", "call")
)

# Keras 3.8 gave the class of variables its shorter name.
_VARIABLES = tuple(
    f"keras.src.backend.common.variables:{owner}.{name}"
    for owner in ("KerasVariable", "Variable")
    for name in ("assign_add", "assign_sub")
)

# Keras 3.13 moved TensorFlow's archive to its own module.
_ARCHIVES = tuple(
    f"{_ARCHIVE}.{place}.{name}"
    for place in (
        "export_lib:ExportArchive",
        "saved_model:ExportArchive",
        "saved_model_export_archive:SavedModelExportArchive",
    )
    for name in ("add_endpoint", "write_out")
)

_EARLY_IMAGES = (
    ("resizing", "Resizing"),
    ("random_crop", "RandomCrop"),
    ("random_rotation", "RandomRotation"),
    ("random_translation", "RandomTranslation"),
    ("random_zoom", "RandomZoom"),
)

_UNABLE = tuple(
    f"{module}:{name}.__init__"
    for module, name in (
        (f"{_LAYERS}.preprocessing.stft_spectrogram", "STFTSpectrogram"),
        (f"{_LAYERS}.reshaping.up_sampling2d", "UpSampling2D"),
        (f"{_LAYERS}.rnn.rnn", "RNN"),
        (f"{_IMAGES}.resizing", "Resizing"),
        (f"{_IMAGES}.random_crop", "RandomCrop"),
        (f"{_IMAGES}.random_perspective", "RandomPerspective"),
        (f"{_IMAGES}.random_rotation", "RandomRotation"),
        (f"{_IMAGES}.random_shear", "RandomShear"),
        (f"{_IMAGES}.random_translation", "RandomTranslation"),
        (f"{_IMAGES}.random_zoom", "RandomZoom"),
        # Before Keras 3.6.
        *((f"{_LAYERS}.preprocessing.{module}", name) for module, name in _EARLY_IMAGES),
    )
)

GUARD_RECORDS = (
    PatchRecord(
        "operands",
        GUARD,
        "operands of different dtypes are converted, and ops without a bfloat16 kernel run in "
        "float32",
        (
            f"{_TF}.pywrap_tfe:TFE_Py_FastPathExecute",
            f"{_TF}.framework.op_def_library:_apply_op_helper",
            f"{_TF}.framework.tensor_conversion_registry:convert",
            f"{_TF}.ops.math_ops:_truediv_python3",
            f"{_TF}.ops.math_ops:sparse_matmul",
            f"{_TF}.ops.gen_math_ops:cast",
            f"{_TF}.ops.gen_nn_ops:bias_add_grad",
            f"{_TF}.util.dispatch:dispatch",
        ),
    ),
    PatchRecord(
        "control_flow",
        GUARD,
        "loops, branches, arrays and signatures accept both dtypes",
        (
            *(f"{_ARRAY}.{name}" for name in ("write", "unstack", "scatter", "split")),
            f"{_TF}.ops.while_v2:while_loop",
            f"{_TF}.ops.cond_v2:_check_same_outputs",
            f"{_TF}.framework.tensor:TensorSpec.cast",
        ),
    ),
    PatchRecord(
        "arrays",
        GUARD,
        "NumPy arrays of bfloat16 tensors are float32, and Fourier transforms accept bfloat16",
        (
            f"{_TF}.framework.ops:_EagerTensorBase.numpy",
            f"{_TF}.framework.ops:_EagerTensorBase.__array__",
            f"{_TF}.ops.signal.fft_ops:_ops",
        ),
    ),
    PatchRecord(
        "inner_outputs",
        GUARD,
        "gradients with respect to an inner layer's output",
        (f"{_TF}.eager.backprop:GradientTape.gradient",),
    ),
    PatchRecord(
        "exports",
        GUARD,
        "`tf.saved_model.save` writes float32 models",
        (f"{_TF}.saved_model.save:save_and_return_nodes",),
    ),
    PatchRecord(
        "default_policy",
        GUARD,
        "new layers are mixed_bfloat16 in every thread",
        (f"{_POLICY}:global_state",),
        uses=("keras.src.backend.common.global_state:GLOBAL_STATE_TRACKER",),
    ),
    PatchRecord(
        "boundary",
        GUARD,
        "outputs of layers and models are float32 outside them; losses and metrics see them, with "
        "their logits",
        (
            f"{_LAYER}.__call__",
            "keras.src.losses.loss:Loss.__call__",
            "keras.src.metrics.reduction_metrics:MeanMetricWrapper.update_state",
            "keras.src.backend.tensorflow.nn:softmax",
            "keras.src.backend.tensorflow.nn:sigmoid",
        ),
        uses=(f"{_LAYER}._flatten_layers",),
    ),
    PatchRecord(
        "exact_inputs",
        GUARD,
        "ids and other large inputs reach their layer unrounded",
        (
            "keras.src.models.sequential:Sequential.build",
            "keras.src.models.functional:Functional._convert_inputs_to_tensors",
            f"{_POLICY}:DTypePolicy.convert_input",
        ),
        # Before Keras 3.6.
        optional=(
            "keras.src.ops.core:Cast.call",
            "keras.src.ops.operation:Operation.symbolic_call",
        ),
        uses=("keras.src.backend.common.variables:standardize_shape",),
    ),
    PatchRecord(
        "preprocessing", GUARD, "preprocessing layers keep their inputs' full precision", _WIDE
    ),
    PatchRecord(
        "extra_losses",
        GUARD,
        "regularizers, `add_loss` and counters are summed in float32",
        (
            *(f"keras.src.regularizers.regularizers:{n}.__call__" for n in ("L1L2", "L1", "L2")),
            f"{_LAYER}.add_loss",
        ),
        optional=_VARIABLES,
        uses=("keras.src.backend.common.variables:AutocastScope",),
    ),
    PatchRecord(
        "kept_layers",
        GUARD,
        "layers that the user names stay in float32",
        (f"{_LAYER}.__init__", f"{_LAYER}._maybe_build"),
    ),
    PatchRecord(
        "unable_layers",
        GUARD,
        "layers that cannot compute in bfloat16 stay in float32",
        (),
        optional=_UNABLE,
    ),
    PatchRecord(
        "policy_files",
        GUARD,
        "saved models are ordinary Keras files, which compute in float32 elsewhere",
        (
            "keras.src.dtype_policies:serialize",
            "keras.src.dtype_policies:deserialize",
            f"{_POLICY}:DTypePolicy.get_config",
            "keras.src.models.functional:Functional.get_config",
        ),
        # In Keras 3.3.
        optional=(f"{_LAYER}.get_config",),
    ),
    PatchRecord(
        "keras_exports",
        GUARD,
        "`model.export` writes float32 models",
        ("keras.src.models.model:Model.export",),
        optional=_ARCHIVES,
    ),
    PatchRecord(
        "legacy",
        GUARD,
        "the guards of `tf_keras`, Keras 2",
        (
            f"{_LEGACY_POLICY}:_global_policy",
            f"{_LEGACY_LAYER}.__call__",
            f"{_LEGACY_LAYER}._cast_single_input",
            f"{_LEGACY}.losses:Loss.__call__",
            *(
                f"{_LEGACY}.{place}.__init__"
                for place in (
                    "layers.preprocessing.category_encoding:CategoryEncoding",
                    "layers.preprocessing.discretization:Discretization",
                    "layers.preprocessing.normalization:Normalization",
                    "layers.preprocessing.image_preprocessing:Rescaling",
                )
            ),
            f"{_LEGACY_POLICY}:serialize",
            f"{_LEGACY_POLICY}:deserialize",
            f"{_LEGACY_POLICY}:Policy.get_config",
        ),
        uses=(f"{_LEGACY_LAYER}._set_dtype_policy", f"{_LEGACY_LAYER}._flatten_layers"),
    ),
    PatchRecord(
        "legacy_kept_layers",
        GUARD,
        "layers of `tf_keras` that the user names stay in float32",
        (f"{_LEGACY_LAYER}.__init__", f"{_LEGACY_LAYER}._maybe_build"),
        uses=(f"{_LEGACY_LAYER}._set_dtype_policy", f"{_LEGACY_LAYER}._flatten_layers"),
    ),
)
