"""The table of supported versions, from `protocol/supported_versions.py` and pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from nano_init.protocol.supported_versions import KERAS_RANGE, TENSORFLOW_RANGE

__all__ = ["fill_support", "support_markdown"]

_PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"

_BLOCK = re.compile(r"^<!-- support -->$.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)


def support_markdown() -> str:
    """Return the table in Markdown."""
    classifiers = re.findall(r"Python :: (3\.\d+)", _PROJECT.read_text(encoding="utf-8"))
    rows = (
        ("Python", f"{classifiers[0]} to {classifiers[-1]}"),
        ("TensorFlow", " to ".join(TENSORFLOW_RANGE)),
        ("Keras", f"{' to '.join(KERAS_RANGE)}; `tf_keras` with few faster paths"),
        ("System", "Linux on x86-64 and Arm"),
    )
    return "\n".join(["| | supported |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)])


def fill_support(markdown: str) -> str:
    """Return a text with its table of supported versions as it is now."""
    table = f"<!-- support -->\n\n{support_markdown()}\n\n<!-- end -->"
    return _BLOCK.sub(lambda _: table, markdown)
