"""Code for fish: `nano-init --shell fish | source`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.shells.change import Change

__all__ = ["quote_fish", "render_fish"]


def quote_fish(value: str) -> str:
    """Quote a value for fish, where a backslash is special inside single quotes too.

    Source: https://fishshell.com/docs/current/language.html#quotes
    """
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def render_fish(changes: Sequence[Change]) -> str:
    """Return code that makes changes in fish."""
    return "".join(_action(change) for change in changes)


def _action(change: Change) -> str:
    if change.after is None:
        return f"builtin set --erase --global {change.name}\n"
    return f"builtin set --global --export {change.name} {quote_fish(change.after)}\n"
