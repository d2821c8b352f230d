"""Only the chief writes models, weights, backups and logs.

Other workers write the same files to a scratch folder and discard them. So all workers take part in
the collectives of a save, such as reading a metric's state. They continue when the chief's file is
complete, because the script may read it next.
"""

from __future__ import annotations

import functools
import os
import tempfile

from nano_init.distributed.batch_consistency import broadcast_bytes, count_workers_where
from nano_init.distributed.job_strategy import job_strategy
from nano_init.distributed.single_writer import single_writer
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Callback, Model
    from nano_init.protocol.membership import Membership

__all__ = ["legacy_writing_replacements", "saved_model_replacements", "writing_replacements"]

_is_saving = False


def writing_replacements(membership: Membership) -> Iterator[Replacement]:
    """Yield the replacements that let only the chief write files and progress bars.

    Args:
        membership: This worker's place in the job.
    """
    from keras import Model
    from keras.callbacks import BackupAndRestore, CSVLogger, ProgbarLogger, TensorBoard
    from keras.src.legacy.saving import legacy_h5_format
    from keras.src.saving import saving_lib

    places = (
        (saving_lib, "save_model"),
        (saving_lib, "save_weights_only"),
        (legacy_h5_format, "save_model_to_hdf5"),
        (Model, "export"),
    )
    yield from _saving_replacements(places, membership)
    yield from _backup_replacements(BackupAndRestore, membership)
    if membership.index > 0:
        elsewhere = {
            TensorBoard: ("set_model", "log_dir"),
            CSVLogger: ("on_train_begin", "filename"),
        }
        for owner, (name, path) in elsewhere.items():
            value = _wrap_callback_method(vars(owner)[name], path, membership)
            yield Replacement(owner, name, value)
        for name in ("_update_progbar", "_finalize_progbar", "on_epoch_begin"):
            yield Replacement(ProgbarLogger, name, _silent)


def legacy_writing_replacements(membership: Membership) -> Iterator[Replacement]:
    """Yield the replacements that let only the chief write files, for Keras 2 (`tf_keras`).

    All but one of its callbacks detect the chief themselves; a script's own saves do not.

    Args:
        membership: This worker's place in the job.
    """
    from tf_keras.callbacks import CSVLogger
    from tf_keras.src.saving import saving_lib
    from tf_keras.src.saving.legacy import save

    places = (
        (saving_lib, "save_model"),
        (saving_lib, "save_weights_only"),
        (save, "save_model"),
        (save, "save_weights"),
    )
    yield from _saving_replacements(places, membership)
    if membership.index > 0:
        name = "on_train_begin"
        value = _wrap_callback_method(vars(CSVLogger)[name], "filename", membership)
        yield Replacement(CSVLogger, name, value)


def saved_model_replacements(membership: Membership) -> Iterator[Replacement]:
    """Yield the replacements that let only the chief write TensorFlow's SavedModels.

    Args:
        membership: This worker's place in the job.
    """
    from tensorflow.python.saved_model import save

    # `tf.saved_model.save` and the exports based on it call this (saved_model/save.py).
    yield from _saving_replacements([(save, "save_and_return_nodes")], membership)


def _silent(*_args: Any, **_kwargs: Any) -> None:
    """Show nothing."""


def _saving_replacements(
    places: Iterable[tuple[Any, str]], membership: Membership
) -> Iterator[Replacement]:
    for owner, name in places:
        yield Replacement(owner, name, _wrap_save(vars(owner)[name], membership))


def _wrap_save(save: Callable[..., Any], membership: Membership) -> Callable[..., Any]:
    @functools.wraps(save)
    def save_once(model: Model, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        global _is_saving
        # A save inside another save already has its own place.
        if _is_saving or job_strategy() is None or not isinstance(filepath, (str, os.PathLike)):
            return save(model, filepath, *args, **kwargs)
        _is_saving = True
        try:
            with single_writer(filepath, membership) as target:
                return save(model, target.path, *args, **kwargs)
        finally:
            _is_saving = False

    return save_once


def _wrap_callback_method(
    act: Callable[..., Any], attribute: str, membership: Membership
) -> Callable[..., Any]:
    @functools.wraps(act)
    def write_elsewhere(self: Callback, *args: Any, **kwargs: Any) -> Any:
        if job_strategy() is not None:
            path = os.fspath(getattr(self, attribute))
            folder = tempfile.mkdtemp(dir=membership.scratch or None)
            setattr(self, attribute, os.path.join(folder, os.path.basename(path.rstrip("/"))))
        return act(self, *args, **kwargs)

    return write_elsewhere


def _backup_replacements(owner: Any, membership: Membership) -> Iterator[Replacement]:
    save, start, end = (vars(owner)[n] for n in ("_save_model", "on_train_begin", "on_train_end"))

    @functools.wraps(save)
    def save_whole(self: Callback) -> None:
        if job_strategy() is None:
            save(self)
        elif membership.index == 0:
            _save_then_replace(self, save)
        else:
            self.model.save_weights(_new(self._weights_path))  # named as on the chief

    @functools.wraps(start)
    def start_alike(self: Callback, logs: Any = None) -> None:
        having = (
            0 if job_strategy() is None else count_workers_where(os.path.exists(self._weights_path))
        )
        if having in (0, membership.workers):
            start(self, logs)
        else:
            _start_from_the_chiefs(self, start, logs, membership)

    @functools.wraps(end)
    def end_once(self: Callback, logs: Any = None) -> None:
        if job_strategy() is None or membership.index == 0:
            end(self, logs)

    yield Replacement(owner, "_save_model", save_whole)
    yield Replacement(owner, "on_train_begin", start_alike)
    yield Replacement(owner, "on_train_end", end_once)


def _start_from_the_chiefs(
    callback: Callback, start: Callable[..., None], logs: Any, membership: Membership
) -> None:
    """Start from a copy of the chief's backup: hosts without a shared file system lack it."""
    with tempfile.TemporaryDirectory(dir=membership.scratch or None) as folder:
        _receive_backup(callback, folder, membership)
        paths = callback._weights_path, callback._training_metadata_path
        if membership.index > 0:
            callback._weights_path, callback._training_metadata_path = (
                os.path.join(folder, os.path.basename(path)) for path in paths
            )
        try:
            start(callback, logs)
        finally:
            callback._weights_path, callback._training_metadata_path = paths


def _receive_backup(callback: Callback, folder: str, membership: Membership) -> None:
    """Copy the chief's backup, if it has one, to every other worker's folder."""
    for path in (callback._weights_path, callback._training_metadata_path):
        content = b""
        if membership.index == 0 and os.path.exists(path):
            with open(path, "rb") as file:
                content = file.read()
        content = broadcast_bytes(content, is_chief=membership.index == 0)
        if content and membership.index > 0:
            with open(os.path.join(folder, os.path.basename(path)), "wb") as file:
                file.write(content)


def _save_then_replace(callback: Callback, save: Callable[[Callback], None]) -> None:
    """Save a backup next to the last one, and replace the last one when it is complete.

    A job that is killed while it saves resumes from the last complete backup.
    """
    paths = (callback._weights_path, callback._training_metadata_path)
    new = tuple(map(_new, paths))
    callback._weights_path, callback._training_metadata_path = new
    try:
        save(callback)
    finally:
        callback._weights_path, callback._training_metadata_path = paths
    for source, target in zip(new, paths, strict=True):
        os.replace(source, target)


def _new(path: str) -> str:
    return os.path.join(os.path.dirname(path), f"new-{os.path.basename(path)}")
