"""Progress of what takes longer than a moment, on stderr."""

from __future__ import annotations

import io
import sys

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any

__all__ = ["show_progress"]


def show_progress(label: str, length: int, *, quiet: bool) -> AbstractContextManager[Any]:
    """Return click's progress bar; a terminal sees it move, a file gets its label.

    Args:
        label: what is being done.
        length: how much there is to do, as `update` counts it.
        quiet: show nothing.
    """
    shown = None if quiet else sys.stderr  # None: closed by the caller
    return click.progressbar(length=length, label=label, file=shown or io.StringIO())
