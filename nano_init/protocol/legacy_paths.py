"""The faster paths for Keras 2 (`tf_keras`): one record each. Pure data."""

from __future__ import annotations

from nano_init.protocol.patch_record import PATH, PatchRecord

__all__ = ["ITERATOR_ENDS", "legacy_path_records"]

_DATA = "tensorflow.python.data.ops"
_DATA_2 = "tf_keras.src.engine.data_adapter"
_ARRAYS = f"{_DATA_2}:TensorLikeDataAdapter"
_OPTIMIZERS = "tf_keras.src.optimizers"
_SLOTS = (
    f"{_OPTIMIZERS}.optimizer:_BaseOptimizer._build_index_dict",
    f"{_OPTIMIZERS}.optimizer:Optimizer._var_key",
)

# What the ends of iterators go through, in TensorFlow.
ITERATOR_ENDS = (
    f"{_DATA}.from_generator_op:_from_generator",
    f"{_DATA}.dataset_ops:DatasetV2._GeneratorState.__init__",
    f"{_DATA}.dataset_ops:DatasetV2._GeneratorState.iterator_completed",
    f"{_DATA}.iterator_ops:OwnedIterator.__del__",
)


def legacy_path_records(updates: str, calls: str) -> tuple[PatchRecord, ...]:
    """Return the records, in the order of their names.

    Args:
        updates: The tuner's group of optimizers.
        calls: The tuner's group of what surrounds a step.
    """
    return (
        PatchRecord(
            "legacy_adam",
            PATH,
            "Adam's and AdamW's update in `tf_keras`, as `adam` does it",
            (
                f"{_OPTIMIZERS}.adam:Adam.update_step",
                f"{_OPTIMIZERS}.adamw:AdamW.update_step",
                f"{_OPTIMIZERS}.optimizer:_BaseOptimizer._deduplicate_sparse_grad",
            ),
            uses=(f"{_OPTIMIZERS}.adam:Adam.build", f"{_OPTIMIZERS}.adamw:AdamW.build", *_SLOTS),
            group=updates,
            models=("legacy_mlp", "legacy_recommender"),
            tolerance=1e-5,
        ),
        PatchRecord(
            "legacy_array_passes",
            PATH,
            "`fit`, `evaluate` and `predict` of small arrays in `tf_keras` without a traced "
            "pipeline",
            (
                f"{_DATA_2}:DataHandler.__init__",
                f"{_DATA_2}:DataHandler.enumerate_epochs",
                f"{_ARRAYS}.__init__",
            ),
            uses=(
                f"{_DATA_2}:DataAdapter.__init__",
                f"{_DATA_2}:DataHandler._configure_dataset_and_inferred_steps",
                f"{_DATA_2}:DataHandler._infer_steps",
                f"{_DATA_2}:DataHandler.steps",
                f"{_ARRAYS}.get_dataset",
                f"{_ARRAYS}.slice_inputs",
                f"{_DATA_2}:_process_tensorlike",
                f"{_DATA_2}:pack_x_y_sample_weight",
            ),
            group=calls,
            models=("legacy_short_fits",),
        ),
        PatchRecord(
            "legacy_fit_stall",
            PATH,
            "no wait when a `fit` of `tf_keras` ends, as by `fit_stall`",
            (*ITERATOR_ENDS, f"{_ARRAYS}.get_dataset"),
            models=("legacy_short_fits",),
        ),
        PatchRecord(
            "legacy_one_trace",
            PATH,
            "a step of `tf_keras` is traced once, as by `one_trace`",
            ("tf_keras.src.engine.training:Model.train_step",),
            uses=(
                "tf_keras.src.backend:RandomGenerator.make_legacy_seed",
                "tf_keras.src.engine.base_layer:Layer._flatten_layers",
                "tf_keras.src.engine.compile_utils:MetricsContainer.__init__",
                f"{_OPTIMIZERS}.optimizer:_BaseOptimizer.apply_gradients",
            ),
        ),
        PatchRecord(
            "legacy_rmsprop",
            PATH,
            "RMSprop's update in `tf_keras`, as `rmsprop` does it; with momentum, a sparse "
            "gradient becomes dense",
            (
                f"{_OPTIMIZERS}.rmsprop:RMSprop.update_step",
                f"{_OPTIMIZERS}.optimizer:_BaseOptimizer._deduplicate_sparse_grad",
            ),
            uses=(f"{_OPTIMIZERS}.rmsprop:RMSprop.build", *_SLOTS),
            group=updates,
            models=("legacy_mlp_rmsprop", "legacy_mlp_plain_rmsprop"),
            tolerance=1e-5,
        ),
        PatchRecord(
            "legacy_sgd",
            PATH,
            "SGD's update in `tf_keras`, as `sgd` does it; a sparse gradient becomes dense",
            (f"{_OPTIMIZERS}.sgd:SGD.update_step",),
            uses=(f"{_OPTIMIZERS}.sgd:SGD.build", *_SLOTS),
            group=updates,
            models=("legacy_mlp_sgd",),
            tolerance=1e-5,
        ),
        PatchRecord(
            "legacy_step_call",
            PATH,
            "steps of `tf_keras` called directly: a graph is looked up once for equal batches",
            tuple(
                f"tf_keras.src.engine.training:Model.make_{name}_function"
                for name in ("train", "test", "predict")
            ),
            group=calls,
            models=("legacy_tiny",),
        ),
        PatchRecord(
            "legacy_step_scalars",
            PATH,
            "the scalars of an optimizer of `tf_keras` are computed once per step",
            (f"{_OPTIMIZERS}.optimizer:Optimizer._internal_apply_gradients",),
        ),
    )
