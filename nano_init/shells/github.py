"""GitHub Actions: `nano-init --format github >>"$GITHUB_ENV"` sets it for the steps that follow."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["render_github"]


def render_github(variables: Mapping[str, str]) -> str:
    """Return variables as lines for the file that GITHUB_ENV names.

    `NAME=VALUE`, or, for more than one line, `NAME<<END`, the lines and `END`.
    Source: https://docs.github.com/actions/reference/workflow-commands-for-github-actions#environment-files
    """
    return "".join(_entry(name, value) for name, value in variables.items())


def _entry(name: str, value: str) -> str:
    if "\n" not in value and "\r" not in value:
        return f"{name}={value}\n"
    end = "NANO_INIT_END"
    while end in value:
        end += "_"
    return f"{name}<<{end}\n{value}\n{end}\n"
