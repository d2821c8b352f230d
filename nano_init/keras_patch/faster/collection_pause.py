"""No garbage collection while TensorFlow is imported.

The import makes a million objects that stay. Python's collector looks at them again and again,
and finds next to nothing: a fifth of the time of `import tensorflow`.
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

    from nano_init.keras_patch.ledger import Replacement

__all__ = ["PausingFinder", "collection_pause_replacements", "pause_collection"]

# A threshold that no import comes to; 0 would be one that a program sets itself.
_NEVER = 2**30


def collection_pause_replacements() -> Iterator[Replacement]:
    """Yield nothing: the path is in place before there is anything to replace."""
    return iter(())


class PausingFinder:
    """A meta path finder that pauses the collection while TensorFlow or Keras is imported.

    Args:
        finders: The meta path, which it stands in.
    """

    def __init__(self, finders: list[Any]) -> None:
        self._finders = finders
        self._names = {"tensorflow", "keras"}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of TensorFlow or Keras, as another finder has found it."""
        if name not in self._names:
            return None
        return find_shadowed(self._finders, self, (name, path, target), self._run)

    def _run(self, module: ModuleType, run: Callable[[Any], None]) -> None:
        self._names.discard(module.__name__)
        with pause_collection():
            run(module)


@contextlib.contextmanager
def pause_collection() -> Iterator[None]:
    """Collect no garbage in the block, unless the program asks for it."""
    before = gc.get_threshold()
    if before[0] == _NEVER:
        yield
        return
    gc.set_threshold(_NEVER, *before[1:])
    try:
        yield
    finally:
        # Thresholds that the program has set meanwhile are its own.
        if gc.get_threshold()[0] == _NEVER:
            _age_all()
            gc.set_threshold(*before)


def _age_all() -> None:
    """Move all objects to the oldest generation, as the collections would have that were left out.

    Otherwise the next collection of young objects would look at all of them.
    """
    if not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
