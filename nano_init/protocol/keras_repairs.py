"""Repairs of Keras's defects, and the options that users request: one record each. Pure."""

from __future__ import annotations

from nano_init.protocol.patch_record import OPTION, REPAIR, PatchRecord
from nano_init.protocol.supported_versions import KERAS_RANGE

__all__ = ["OPTION_RECORDS", "REPAIR_RECORDS"]

_TRAINER = "keras.src.backend.tensorflow.trainer"
_FILTERS = "src.utils.traceback_utils:_EXCLUDED_PATHS"

REPAIR_RECORDS = (
    PatchRecord(
        "frame_filters",
        REPAIR,
        "tracebacks show no frames of nano-init",
        (
            f"keras.{_FILTERS}",
            f"tf_keras.{_FILTERS}",
            "tensorflow.python.util.traceback_utils:_EXCLUDED_PATHS",
            "tensorflow.python.util.tf_stack:SentinelFilter",
        ),
        uses=("tensorflow.python.util.tf_stack:_source_filter_stacks",),
    ),
    PatchRecord(
        "repeated_ids",
        REPAIR,
        "a sparse gradient with repeated ids gives the same results as the equal dense gradient",
        (
            "keras.src.optimizers.base_optimizer:BaseOptimizer._backend_apply_gradients",
            "keras.src.backend.tensorflow.optimizer:TFOptimizer._all_reduce_sum_gradients",
        ),
        # In Keras 3.3.
        optional=("keras.src.optimizers.base_optimizer:BaseOptimizer._clip_gradients",),
        tolerance=1e-5,
    ),
    PatchRecord(
        "multi_worker",
        REPAIR,
        "`fit` and `evaluate` under a strategy of several workers",
        (f"{_TRAINER}:TensorFlowTrainer._maybe_symbolic_build", f"{_TRAINER}:reduce_per_replica"),
        uses=(f"{_TRAINER}:_collective_all_reduce_multi_worker",),
        keras=("3.5", KERAS_RANGE[1]),
    ),
)

OPTION_RECORDS = (
    PatchRecord(
        "lazy_adam",
        OPTION,
        "Adam updates only the rows that a sparse gradient names",
        ("keras.src.optimizers.adam:Adam.update_step",),
        uses=("keras.src.optimizers.base_optimizer:BaseOptimizer._get_variable_index",),
    ),
    PatchRecord(
        "steps_per_execution",
        OPTION,
        "`fit` runs several training steps before it returns to Python",
        (
            "keras.src.trainers.trainer:Trainer.compile",
            "keras.src.trainers.trainer:Trainer.compile_from_config",
            f"{_TRAINER}:TensorFlowTrainer.fit",
            f"{_TRAINER}:TensorFlowTrainer.evaluate",
            f"{_TRAINER}:TensorFlowTrainer.predict",
            f"{_TRAINER}:TensorFlowTrainer.make_train_function",
            "keras.src.trainers.epoch_iterator:EpochIterator._enumerate_iterator",
        ),
        keras=("3.7", KERAS_RANGE[1]),
    ),
    PatchRecord(
        "num_processes",
        OPTION,
        "`fit(num_processes=N)`",
        (f"{_TRAINER}:TensorFlowTrainer.fit",),
    ),
)
