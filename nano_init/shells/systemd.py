"""systemd: a drop-in for a service, such as /etc/systemd/system/NAME.service.d/nano-init.conf."""

from __future__ import annotations

from nano_init.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["render_systemd"]


def render_systemd(variables: Mapping[str, str]) -> str:
    r"""Return variables as a drop-in for a service unit.

    In `Environment="…"` a backslash starts a C escape, `%` a specifier, and `$` is plain.
    Source: systemd.exec(5), "Environment=", and systemd.syntax(7), "Quoting".

    Raises:
        UsageError: a value has a control character in it, which systemd refuses.
    """
    lines = (f'Environment="{name}={_escape(name, value)}"\n' for name, value in variables.items())
    return "".join(("[Service]\n", *lines))


def _escape(name: str, value: str) -> str:
    # basic/env-util.c, env_value_is_valid(): only these two control characters are allowed.
    if any((c < " " and c not in "\n\t") or c == "\x7f" for c in value):
        raise UsageError(
            f"systemd cannot represent {name}={value!r}: it contains a control character"
        )
    return "".join(_escape_character(character) for character in value)


def _escape_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character == "%":
        return "%%"
    return {"\n": "\\n", "\t": "\\t"}.get(character, character)
