"""The parts that make Keras and TensorFlow train on several workers: one record each. Pure.

All workers must train the same way, so a job is refused if one of these parts cannot be used.
"""

from __future__ import annotations

from nano_init.protocol.patch_record import WORKER, PatchRecord
from nano_init.protocol.supported_versions import KERAS_RANGE

__all__ = ["WORKER_RECORDS"]

_BACKEND = "keras.src.backend.tensorflow"
_TRAINER = f"{_BACKEND}.trainer"
_LOSS = "keras.src.losses.loss"
_CALLBACKS = "keras.src.callbacks"
_LEGACY = "tf_keras.src"
_LEGACY_OPTIMIZERS = (
    f"{_LEGACY}.optimizers.optimizer:Optimizer",
    f"{_LEGACY}.optimizers.legacy.optimizer_v2:OptimizerV2",
)
_TF = "tensorflow.python"
_DISTRIBUTE = f"{_TF}.distribute"
_COLLECTIVE = f"{_DISTRIBUTE}.collective_all_reduce_strategy:CollectiveAllReduceExtended"

WORKER_RECORDS = (
    PatchRecord(
        "worker_training",
        WORKER,
        "Keras's loops compute a worker's shards",
        (
            f"{_TRAINER}:TensorFlowTrainer.__init__",
            f"{_BACKEND}.optimizer:TFOptimizer.__init__",
            f"{_BACKEND}.optimizer:TFOptimizer.add_variable_from_reference",
            f"{_TRAINER}:TensorFlowTrainer._make_function",
            f"{_TRAINER}:TensorFlowTrainer.make_predict_function",
            f"{_TRAINER}:TensorFlowTrainer._maybe_symbolic_build",
            f"{_TRAINER}:reduce_per_replica",
            f"{_TRAINER}:TFEpochIterator.__init__",
            f"{_TRAINER}:TFEpochIterator._get_iterator",
        ),
        keras=("3.8", KERAS_RANGE[1]),
    ),
    PatchRecord(
        "worker_state",
        WORKER,
        "values that workers assign to a variable of the model are averaged",
        (
            f"{_BACKEND}.core:Variable._direct_assign",
            "keras.src.backend.common.variables:Variable.assign_add",
            "keras.src.backend.common.variables:Variable.assign_sub",
        ),
        keras=("3.8", KERAS_RANGE[1]),
    ),
    PatchRecord(
        "worker_metrics",
        WORKER,
        "a step reads the whole batch's metrics",
        (
            "keras.src.metrics.metric:Metric.__init__",
            "keras.src.metrics.reduction_metrics:Mean.update_state",
            "keras.src.trainers.trainer:Trainer.get_metrics_result",
        ),
        keras=("3.8", KERAS_RANGE[1]),
    ),
    PatchRecord(
        "worker_losses",
        WORKER,
        "losses are those of the whole batch",
        tuple(
            f"{_LOSS}:{name}"
            for name in (
                "scale_loss_for_distribution",
                "unscale_loss_for_distribution",
                "apply_mask",
                "reduce_values",
            )
        ),
        keras=("3.8", KERAS_RANGE[1]),
    ),
    PatchRecord(
        "worker_gradients",
        WORKER,
        "gradients are summed over the workers",
        (
            "keras.src.optimizers.base_optimizer:BaseOptimizer.apply",
            f"{_BACKEND}.optimizer:TFOptimizer._all_reduce_sum_gradients",
        ),
        keras=("3.8", KERAS_RANGE[1]),
    ),
    PatchRecord(
        "worker_normalization",
        WORKER,
        "synchronized batch normalization sees the whole batch",
        (f"{_BACKEND}.nn:_compute_moments_sync",),
        keras=("3.8", KERAS_RANGE[1]),
    ),
    PatchRecord(
        "worker_randomness",
        WORKER,
        "each shard has its own random numbers",
        ("keras.src.random.seed_generator:SeedGenerator.next",),
        keras=("3.8", KERAS_RANGE[1]),
    ),
    PatchRecord(
        "worker_writing",
        WORKER,
        "one worker writes files and progress bars",
        (
            "keras.src.saving.saving_lib:save_model",
            "keras.src.saving.saving_lib:save_weights_only",
            "keras.src.legacy.saving.legacy_h5_format:save_model_to_hdf5",
            "keras.src.models.model:Model.export",
            *(
                f"{_CALLBACKS}.backup_and_restore:BackupAndRestore.{name}"
                for name in ("_save_model", "on_train_begin", "on_train_end")
            ),
            f"{_CALLBACKS}.tensorboard:TensorBoard.set_model",
            f"{_CALLBACKS}.csv_logger:CSVLogger.on_train_begin",
            *(
                f"{_CALLBACKS}.progbar_logger:ProgbarLogger.{name}"
                for name in ("_update_progbar", "_finalize_progbar", "on_epoch_begin")
            ),
        ),
        keras=("3.8", KERAS_RANGE[1]),
    ),
    PatchRecord(
        "worker_legacy_losses",
        WORKER,
        "losses of `tf_keras` are those of the whole batch",
        (
            f"{_LEGACY}.engine.compile_utils:LossesContainer.__call__",
            f"{_LEGACY}.utils.losses_utils:scale_loss_for_distribution",
        ),
    ),
    PatchRecord(
        "worker_legacy_metrics",
        WORKER,
        "a mean of `tf_keras` counts a step once",
        (f"{_LEGACY}.metrics.base_metric:Mean.update_state",),
        uses=(f"{_LEGACY}.metrics.base_metric:Reduce.update_state",),
    ),
    PatchRecord(
        "worker_legacy_steps",
        WORKER,
        "models and optimizers of `tf_keras` train in a job",
        (
            f"{_LEGACY}.engine.training:Model.__init__",
            *(f"{owner}.__init__" for owner in _LEGACY_OPTIMIZERS),
            *(f"{owner}.apply_gradients" for owner in _LEGACY_OPTIMIZERS),
            f"{_LEGACY}.optimizers.utils:all_reduce_sum_gradients",
            f"{_LEGACY}.losses:Loss._get_reduction",
            f"{_LEGACY}.utils.losses_utils:apply_valid_mask",
            f"{_LEGACY}.utils.losses_utils:reduce_weighted_loss",
        ),
    ),
    PatchRecord(
        "worker_legacy_writing",
        WORKER,
        "one worker writes the files of `tf_keras`",
        (
            f"{_LEGACY}.saving.saving_lib:save_model",
            f"{_LEGACY}.saving.saving_lib:save_weights_only",
            f"{_LEGACY}.saving.legacy.save:save_model",
            f"{_LEGACY}.saving.legacy.save:save_weights",
            f"{_LEGACY}.callbacks:CSVLogger.on_train_begin",
        ),
    ),
    PatchRecord(
        "worker_checkpoints",
        WORKER,
        "one worker writes TensorFlow's checkpoints",
        (
            f"{_TF}.checkpoint.checkpoint:Checkpoint._write",
            f"{_TF}.checkpoint.checkpoint:Checkpoint._maybe_create_save_counter",
            f"{_TF}.checkpoint.checkpoint_management:update_checkpoint_state_internal",
            f"{_TF}.checkpoint.checkpoint_management:_delete_file_if_exists",
        ),
    ),
    PatchRecord(
        "worker_saved_models",
        WORKER,
        "one worker writes TensorFlow's SavedModels",
        (f"{_TF}.saved_model.save:save_and_return_nodes",),
    ),
    PatchRecord(
        "worker_first_optimizers",
        WORKER,
        "optimizers of TensorFlow 1 apply the whole batch's gradients",
        (f"{_TF}.training.optimizer:Optimizer.apply_gradients",),
    ),
    PatchRecord(
        "worker_counting",
        WORKER,
        "a program can update counters outside of steps",
        (
            f"{_DISTRIBUTE}.values:SyncOnReadVariable.assign_add",
            f"{_DISTRIBUTE}.values:SyncOnReadVariable.assign_sub",
            *(
                f"{_DISTRIBUTE}.values_util:on_read_{kind}_cross_replica"
                for kind in ("assign", "assign_add", "assign_sub")
            ),
        ),
    ),
    PatchRecord(
        "worker_single_writer",
        WORKER,
        "a worker that writes alone does not wait for others",
        (
            f"{_DISTRIBUTE}.values:SyncOnReadVariable._get_cross_replica",
            f"{_COLLECTIVE}._get_variable_creator_initial_value",
        ),
    ),
    PatchRecord(
        "worker_collectives",
        WORKER,
        "TensorFlow's collectives are noted",
        (
            *(
                f"{_TF}.ops.collective_ops:{name}"
                for name in ("all_reduce_v2", "all_gather_v2", "broadcast_send", "broadcast_recv")
            ),
            f"{_TF}.eager.polymorphic_function.concrete_function:ConcreteFunction._call_flat",
        ),
    ),
)
