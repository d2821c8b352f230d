"""Which callbacks must see every batch of training."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Callback

__all__ = ["find_batch_callback"]

_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


def find_batch_callback(callbacks: Any) -> Callback | None:
    """Return the first callback that must see every batch, or None.

    Args:
        callbacks: As for `fit`: None, callbacks in any nest, or a `CallbackList`.
    """
    return next((c for c in _flatten(callbacks) if _needs_every_batch(c)), None)


def _flatten(callbacks: Any) -> Iterator[Callback]:
    from keras import tree
    from keras.callbacks import CallbackList

    for callback in tree.flatten(callbacks) if callbacks else ():
        if isinstance(callback, CallbackList):
            yield from callback.callbacks
        else:
            yield callback


def _needs_every_batch(callback: Callback) -> bool:
    from keras.src.utils import is_default

    for name in _HOOKS:
        hook = getattr(callback, name, None)
        if hook is not None and not is_default(hook) and not _is_excused(callback, name, hook):
            return True
    return False


def _is_excused(callback: Callback, name: str, hook: Any) -> bool:
    """Say whether a hook is Keras's own, and does nothing per batch in its configuration."""
    function = getattr(hook, "__func__", None)
    return any(
        function is vars(cls).get(name) and is_idle(callback)
        for cls, is_idle in _idle_rules().items()
        if isinstance(callback, cls)
    )


def _idle_rules() -> dict[type[Callback], Callable[[Callback], bool]]:
    from keras import callbacks

    return {
        # It shows the progress, which then advances in larger strides.
        callbacks.ProgbarLogger: lambda _: True,
        callbacks.ModelCheckpoint: lambda c: bool(c.save_freq == "epoch"),
        callbacks.BackupAndRestore: lambda c: bool(c.save_freq == "epoch"),
        callbacks.TensorBoard: lambda c: (
            c.update_freq == "epoch"
            and not c.write_steps_per_second
            and not (c._start_batch or c._stop_batch)
        ),
    }
