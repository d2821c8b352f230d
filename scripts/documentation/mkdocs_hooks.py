"""Fill the pages of the site with what is generated from the code.

A page asks for it by a comment on a line of its own: `<!-- generate: NAME ARGUMENT -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
sys.path[:0] = [str(_HERE), str(_ROOT / "benchmarks"), str(_ROOT)]

from message_catalog import messages_markdown  # noqa: E402
from option_reference import command_markdown  # noqa: E402
from tables import figures_markdown, fill_blocks  # noqa: E402
from variable_table import variables_markdown  # noqa: E402
from version_table import support_markdown  # noqa: E402

from nano_init.protocol.faster_paths import path_table  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["fill_page", "on_page_markdown"]

_MARKER = re.compile(r"^<!-- generate: (\S+) ?(.*?) -->$", re.MULTILINE)

_BLOCK_MARKER = re.compile(r"^<!-- (figures: .*|end) -->\n", re.MULTILINE)


def _include(path: str) -> str:
    """Return a page that is kept outside docs/, with its links as they are from docs/."""
    text = fill_blocks((_ROOT / path).read_text(encoding="utf-8"))
    return _BLOCK_MARKER.sub("", text).replace("](../docs/", "](")


_GENERATORS: dict[str, Callable[[str], str]] = {
    "command": command_markdown,
    "variables": lambda _: variables_markdown(),
    "faster-paths": lambda _: path_table(),
    "messages": messages_markdown,
    "figures": figures_markdown,
    "include": _include,
    "support": lambda _: support_markdown(),
}

# Links out of docs/ are written as they work in the repository.
_OUTSIDE = re.compile(r"\]\(\.\./((?:benchmarks|examples|scripts|tests)/[^)#]*|[A-Z]+\.md)\)")

# Without a known repository they are text.
_OUTSIDE_LINK = re.compile(r"\[([^\]]+)" + _OUTSIDE.pattern)


def fill_page(markdown: str) -> str:
    """Return a page with all that it asks for.

    Args:
        markdown: the page as it is written.

    Raises:
        KeyError: it asks for something that nothing generates.
    """
    return _MARKER.sub(lambda match: _GENERATORS[match[1]](match[2]).rstrip("\n"), markdown)


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """Fill a page before MkDocs renders it (an event of MkDocs)."""
    repository = config["repo_url"]
    filled = fill_page(markdown)
    if repository:
        return _OUTSIDE.sub(lambda match: f"]({repository}/blob/main/{match[1]})", filled)
    return _OUTSIDE_LINK.sub(r"\1", filled)
