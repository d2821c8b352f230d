"""Find phrases that the house style bans: `scripts/banned_phrases.txt`."""

from __future__ import annotations

import io
import re
import sys
import tokenize
from pathlib import Path

__all__ = ["find_banned", "prose_of", "read_banned"]

# Since Python 3.12 an f-string has tokens of its own.
_PROSE = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}

_LIST = Path(__file__).resolve().parents[1] / "banned_phrases.txt"

# They quote the phrases.
_EXEMPT = ("scripts/banned_phrases.txt", "tests/test_house_style.py")


def read_banned(text: str) -> dict[re.Pattern[str], str]:
    """Return what to write instead, by the pattern that is banned.

    Args:
        text: lines with PATTERN => REPLACEMENT; those that start with # are comments.
    """
    pairs = [line.split(" => ") for line in text.splitlines() if " => " in line and line[0] != "#"]
    return {re.compile(rf"\b{pattern}\b", re.IGNORECASE): better for pattern, better in pairs}


def find_banned(text: str, banned: dict[re.Pattern[str], str]) -> list[tuple[int, str, str]]:
    """Return the line number, the phrase and what to write instead, for each hit.

    Args:
        text: prose, or what `prose_of` returns of code.
        banned: as `read_banned` returns it.
    """
    hits = []
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, better in banned.items():
            hits += [(number, match[0], better) for match in pattern.finditer(line)]
    return hits


def prose_of(code: str) -> str:
    """Return Python code with all but its comments and strings blanked out, line by line."""
    lines: list[list[str]] = [[] for _ in range(code.count("\n") + 2)]
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type in _PROSE:
            for offset, part in enumerate(token.string.splitlines()):
                lines[token.start[0] - 1 + offset].append(part)
    return "\n".join(" ".join(parts) for parts in lines)


def main() -> int:
    """Print each hit in the files that are named; 1 if there is one."""
    banned = read_banned(_LIST.read_text(encoding="utf-8"))
    found = 0
    for name in sys.argv[1:]:
        if name.endswith(_EXEMPT):
            continue
        text = Path(name).read_text("utf-8", "replace")
        prose = prose_of(text) if name.endswith(".py") else text
        for number, phrase, better in find_banned(prose, banned):
            print(f"{name}:{number}: {phrase!r}; write: {better}")
            found += 1
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
