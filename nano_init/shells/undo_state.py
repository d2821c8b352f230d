"""The undo state: everything that nano-init changed in a shell, held in NANO_INIT_STATE.

Grammar: `1,NAME=BEFORE:AFTER,NAME=BEFORE:AFTER,…`. The first field is the version. A value
is `-` where the variable is unset, and otherwise `+` and the value with every byte but
ASCII letters, digits and `_./` written as `%XX` (upper case). So the text has no
character that any shell, env file or unit file treats specially inside quotes, and a state
can be compared byte for byte.

Percent-encoding is done by hand: json, base64 and urllib.parse cost 8 to 13 ms each to
import, and this runs in every shell that sources nano-init.
"""

from __future__ import annotations

import os

from nano_init.errors import StateError
from nano_init.protocol.variables import STATE_VARIABLE
from nano_init.shells.change import Change, may_change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["format_state", "parse_state"]

_VERSION = "1"
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./")
_HEX = "0123456789ABCDEF"


def format_state(changes: Iterable[Change]) -> str:
    """Return the value of NANO_INIT_STATE that records changes, in their order."""
    entries = (f"{c.name}={_format_value(c.before)}:{_format_value(c.after)}" for c in changes)
    return ",".join((_VERSION, *entries))


def parse_state(text: str) -> tuple[Change, ...]:
    """Return the changes that a value of NANO_INIT_STATE records.

    Args:
        text: the value, which anyone may have written: nothing in it is trusted.

    Raises:
        StateError: the value is none that `format_state` returns.
    """
    version, *entries = text.split(",")
    if version != _VERSION:
        raise StateError(_damaged("its version is unknown here"))
    changes = tuple(_parse_entry(entry) for entry in entries)
    if len({change.name for change in changes}) < len(changes):
        raise StateError(_damaged("it names a variable twice"))
    return changes


def _parse_entry(entry: str) -> Change:
    name, _, values = entry.partition("=")
    if not may_change(name):
        raise StateError(_damaged(f"it names {name[:40]!a}, which nano-init never changes"))
    before, colon, after = values.partition(":")
    if not colon:
        raise StateError(_damaged(f"its entry for {name} has no second value"))
    return Change(name, _parse_value(before, name), _parse_value(after, name))


def _format_value(value: str | None) -> str:
    if value is None:
        return "-"
    return "+" + "".join(chr(b) if b in _SAFE else f"%{b:02X}" for b in os.fsencode(value))


def _parse_value(text: str, name: str) -> str | None:
    if text == "-":
        return None
    if not text.startswith("+") or not text.isascii():
        raise StateError(_damaged(f"its entry for {name} has a malformed value"))
    head, *escaped = text[1:].encode("ascii").split(b"%")
    octets = bytearray(head)
    for part in escaped:
        octets.append(_parse_octet(part[:2].decode("ascii"), name))
        octets += part[2:]
    value = os.fsdecode(bytes(octets))
    if _format_value(value) != text:
        raise StateError(_damaged(f"its entry for {name} is not percent-encoded"))
    return value


def _parse_octet(digits: str, name: str) -> int:
    if len(digits) != 2 or digits[0] not in _HEX or digits[1] not in _HEX or digits == "00":
        raise StateError(_damaged(f"its entry for {name} has a malformed % code"))
    return _HEX.index(digits[0]) * 16 + _HEX.index(digits[1])


def _damaged(why: str) -> str:
    return f"{STATE_VARIABLE} is damaged, and what was set before it cannot be restored: {why}"
