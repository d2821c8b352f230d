"""The options of `nano-run` that change how training runs."""

from __future__ import annotations

import functools

import click
from click.shell_completion import CompletionItem

from nano_init.keras_patch.faster.registry import FASTER_PATHS
from nano_init.protocol.patch_options import parse_training_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["training_options"]


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options, which it gets as one argument, `training`."""

    @click.option(
        "--disable",
        metavar="PATH,...",
        multiple=True,
        shell_complete=_complete_path,
        help="Switch faster paths off, to bisect a problem: "
        + ", ".join(FASTER_PATHS)
        + ", or all; may be repeated (NANO_INIT_DISABLE does the same).",
    )
    @click.option(
        "--lazy-adam",
        is_flag=True,
        help="Let Adam update only the rows that a sparse gradient names: much faster with "
        "large embeddings, but another algorithm, with other results.",
    )
    @click.option(
        "--steps-per-execution",
        metavar="N|auto",
        shell_complete=_complete_steps,
        help="Run N training steps of fit between two returns to Python, for small models; "
        "callbacks then see every Nth batch, so fits whose callbacks need each are left alone.",
    )
    @functools.wraps(command)
    def with_training(
        *args: Any,
        disable: tuple[str, ...],
        lazy_adam: bool,
        steps_per_execution: str | None,
        **kwargs: Any,
    ) -> Any:
        training = parse_training_options(disable, lazy_adam=lazy_adam, steps=steps_per_execution)
        return command(*args, training=training, **kwargs)

    return with_training


def _complete_path(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    *before, last = incomplete.split(",")
    prefix = "".join(f"{name}," for name in before)
    names = [name for name in (*FASTER_PATHS, "all") if name not in before]
    return [CompletionItem(prefix + name) for name in names if name.startswith(last)]


def _complete_steps(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(value) for value in ("auto",) if value.startswith(incomplete)]
