"""Run one module differently, with its loader otherwise unchanged."""

from __future__ import annotations

from nano_init.keras_patch.own_frames import drop_own_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

__all__ = ["find_shadowed"]


def find_shadowed(
    finders: list[Any],
    asking: Any,
    where: tuple[str, Any, Any],
    run: Callable[[ModuleType, Callable[[Any], None]], None],
) -> Any:
    """Return the spec of a module from a later finder, such that `run` will run the module.

    Args:
        finders: The meta path.
        asking: The finder that asks, with other finders before and after it.
        where: The arguments of `find_spec`.
        run: Takes the module, and the loader's function that runs it.
    """
    # The finders before it were asked already. Asking all others would cause a recursion.
    start = finders.index(asking) + 1 if asking in finders else 0
    for finder in finders[start:]:
        if not hasattr(finder, "find_spec"):
            continue
        spec = finder.find_spec(*where)
        if spec is not None:
            _shadow(spec.loader, where[0], run)
            return spec
    return None


def _shadow(loader: Any, name: str, replacement: Callable[..., None]) -> None:
    run = getattr(loader, "exec_module", None)
    if run is None:
        return

    def exec_module(module: ModuleType) -> None:
        if module.__name__ != name:  # a zipimporter loads all modules of its archive
            run(module)
            return
        vars(loader).pop("exec_module", None)
        try:
            replacement(module, run)
        except BaseException as error:
            drop_own_frames(error)
            raise

    loader.exec_module = exec_module
