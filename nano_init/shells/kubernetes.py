"""Kubernetes: the `env:` list of a container."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["render_kubernetes"]

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def render_kubernetes(variables: Mapping[str, str]) -> str:
    """Return variables as the `env:` list of a container, in YAML.

    Kubernetes expands `$(NAME)` and makes one dollar of two, so each dollar is doubled.
    Sources: https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
    and YAML 1.2.2, 5.7 (escapes) and 7.3.1 (double-quoted style).
    """
    if not variables:
        return "env: []\n"
    items = (
        f'  - name: {name}\n    value: "{_escape(value.replace("$", "$$"))}"\n'
        for name, value in variables.items()
    )
    return "".join(("env:\n", *items))


def _escape(value: str) -> str:
    return "".join(_escape_character(character) for character in value)


def _escape_character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    return f"\\U{ord(character):08X}"
