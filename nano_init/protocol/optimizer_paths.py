"""The faster paths for the optimizers of Keras 3: one record each. Pure data."""

from __future__ import annotations

from nano_init.protocol.patch_record import PATH, PatchRecord
from nano_init.protocol.supported_versions import KERAS_RANGE

__all__ = ["optimizer_path_records"]

_OPTIMIZERS = "keras.src.optimizers"
_INDEX = f"{_OPTIMIZERS}.base_optimizer:BaseOptimizer._get_variable_index"


def optimizer_path_records(updates: str) -> tuple[PatchRecord, ...]:
    """Return the records, in the order of their names.

    Args:
        updates: The tuner's group of optimizers.
    """
    return (
        PatchRecord(
            "adadelta",
            PATH,
            "Adadelta's update of a dense weight in one pass, by TensorFlow's fused kernel",
            (f"{_OPTIMIZERS}.adadelta:Adadelta.update_step",),
            uses=(_INDEX,),
            group=updates,
            models=("mlp_adadelta",),
            tolerance=1e-5,
        ),
        PatchRecord(
            "adafactor",
            PATH,
            "Adafactor's update of a large dense weight in fewer passes, partly compiled by XLA",
            (f"{_OPTIMIZERS}.adafactor:Adafactor.update_step",),
            uses=(_INDEX,),
            group=updates,
            models=("mlp_adafactor",),
            tolerance=1e-5,
        ),
        PatchRecord(
            "adagrad",
            PATH,
            "Adagrad's update of a large dense weight in one pass, compiled by XLA",
            (f"{_OPTIMIZERS}.adagrad:Adagrad.update_step",),
            uses=(_INDEX,),
            group=updates,
            models=("mlp_adagrad",),
            tolerance=1e-5,
        ),
        PatchRecord(
            "adam",
            PATH,
            "Adam's update of a dense weight in one pass; a sparse gradient becomes dense once",
            (f"{_OPTIMIZERS}.adam:Adam.update_step",),
            uses=(_INDEX,),
            group=updates,
            models=("mlp", "recommender"),
            tolerance=1e-5,
        ),
        PatchRecord(
            "adamax",
            PATH,
            "Adamax's update of a dense weight in one pass, by TensorFlow's fused kernel",
            (f"{_OPTIMIZERS}.adamax:Adamax.update_step",),
            uses=(_INDEX,),
            group=updates,
            models=("mlp_adamax",),
            tolerance=1e-5,
        ),
        PatchRecord(
            "ftrl",
            PATH,
            "FTRL's update of a large dense weight in one pass, compiled by XLA",
            (f"{_OPTIMIZERS}.ftrl:Ftrl.update_step",),
            uses=(_INDEX,),
            group=updates,
            models=("mlp_ftrl",),
            tolerance=1e-5,
        ),
        PatchRecord(
            "lamb",
            PATH,
            "Lamb's update of a large dense weight in fewer passes, partly compiled by XLA",
            (f"{_OPTIMIZERS}.lamb:Lamb.update_step",),
            uses=(_INDEX,),
            keras=("3.5", KERAS_RANGE[1]),
            group=updates,
            models=("mlp_lamb",),
            tolerance=1e-5,
        ),
        PatchRecord(
            "lion",
            PATH,
            "Lion's update of a large dense weight in one pass, compiled by XLA",
            (f"{_OPTIMIZERS}.lion:Lion.update_step",),
            uses=(_INDEX,),
            group=updates,
            models=("mlp_lion",),
            tolerance=1e-5,
        ),
        PatchRecord(
            "nadam",
            PATH,
            "Nadam's update of a large dense weight in one pass, compiled by XLA",
            (f"{_OPTIMIZERS}.nadam:Nadam.update_step",),
            uses=(
                _INDEX,
                f"{_OPTIMIZERS}.nadam:Nadam._backend_update_step",
            ),
            group=updates,
            models=("mlp_nadam",),
            tolerance=1e-5,
        ),
        PatchRecord(
            "rmsprop",
            PATH,
            "RMSprop's update of a dense weight in one pass, by TensorFlow's fused kernel or "
            "compiled by XLA",
            (f"{_OPTIMIZERS}.rmsprop:RMSprop.update_step",),
            uses=(_INDEX,),
            group=updates,
            models=("mlp_rmsprop", "mlp_plain_rmsprop"),
            tolerance=1e-5,
        ),
        PatchRecord(
            "sgd",
            PATH,
            "SGD's update of a dense weight in one pass, by TensorFlow's fused kernel",
            (f"{_OPTIMIZERS}.sgd:SGD.update_step",),
            uses=(_INDEX,),
            group=updates,
            models=("resnet50",),
            tolerance=1e-5,
        ),
    )
