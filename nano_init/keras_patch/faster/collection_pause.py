"""No garbage collection while TensorFlow is imported.

The import creates a million permanent objects. Python's collector scans them repeatedly and finds
almost nothing, which takes a fifth of the time of `import tensorflow`.
"""

from __future__ import annotations

import contextlib
import gc

from nano_init.keras_patch.faster.shadowed_loader import find_shadowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any

__all__ = ["PausingFinder", "pause_collection"]

# A threshold that no import reaches. Not 0, which a program may set itself.
_NEVER = 2**30


class PausingFinder:
    """A meta path finder that pauses the collection while TensorFlow or Keras is imported.

    Args:
        finders: The meta path, which contains it.
    """

    def __init__(self, finders: list[Any]) -> None:
        self._finders = finders
        self._names = {"tensorflow", "keras"}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of TensorFlow or Keras that another finder found."""
        if name not in self._names:
            return None
        return find_shadowed(self._finders, self, (name, path, target), self._run)

    def _run(self, module: ModuleType, run: Callable[[Any], None]) -> None:
        self._names.discard(module.__name__)
        with pause_collection():
            run(module)


@contextlib.contextmanager
def pause_collection() -> Iterator[None]:
    """Collect no garbage in the block, unless the program requests it."""
    before = gc.get_threshold()
    if before[0] == _NEVER:
        yield
        return
    gc.set_threshold(_NEVER, *before[1:])
    try:
        yield
    finally:
        # Keep thresholds that the program has set in the meantime.
        if gc.get_threshold()[0] == _NEVER:
            _age_all()
            gc.set_threshold(*before)


def _age_all() -> None:
    """Move all objects to the oldest generation, as the skipped collections would have done.

    Otherwise the next collection of young objects would scan all of them.
    """
    if not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
