""".env files: `nano-init --format dotenv >.env`, for python-dotenv, Compose and editors."""

from __future__ import annotations

from nano_init.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["render_dotenv"]

_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:,=+-@%")


def render_dotenv(variables: Mapping[str, str]) -> str:
    """Return variables as a .env file.

    A value of plain characters stands bare; any other stands in single quotes, in which
    only the quote and the backslash are special.
    Source: https://saurabh-kumar.com/python-dotenv/#file-format

    Raises:
        UsageError: a value has `${` in it, which python-dotenv expands even in single quotes.
    """
    return "".join(f"{name}={_quote(name, value)}\n" for name, value in variables.items())


def _quote(name: str, value: str) -> str:
    if "${" in value:
        raise UsageError(
            f"a .env file cannot represent {name}={value!r}: its readers expand ${{…}}"
        )
    if "\r" in value:
        raise UsageError(f"a .env file cannot represent {name}={value!r}: its readers change \\r")
    if _BARE.issuperset(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
