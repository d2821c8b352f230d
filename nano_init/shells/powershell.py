"""Code for PowerShell.

    nano-init --shell powershell | Out-String | Where-Object { $_ } | Invoke-Expression

The filter is there because Invoke-Expression refuses an empty string.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.shells.change import Change

__all__ = ["quote_powershell", "render_powershell"]

# PowerShell takes the typographic quotes for the plain one (about_Quoting_Rules;
# CharTraits.IsSingleQuote in its tokenizer), so each of them is doubled.
_QUOTES = "'\u2018\u2019\u201a\u201b"


def quote_powershell(value: str) -> str:
    """Quote a value for PowerShell: in single quotes nothing is special but the quotes.

    Source: https://learn.microsoft.com/powershell/module/microsoft.powershell.core/about/about_quoting_rules
    """
    for quote in _QUOTES:
        value = value.replace(quote, quote * 2)
    return f"'{value}'"


def render_powershell(changes: Sequence[Change]) -> str:
    """Return code that makes changes in PowerShell.

    PowerShell before 7.5 cannot hold an empty variable: it removes one that is set to ''.
    """
    return "".join(_action(change) for change in changes)


def _action(change: Change) -> str:
    value = "$null" if change.after is None else quote_powershell(change.after)
    return f"$env:{change.name} = {value}\n"
