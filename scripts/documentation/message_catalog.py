"""The messages that the package can print or raise, read from its source."""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass
from pathlib import Path

import nano_init

__all__ = ["Message", "messages_markdown", "read_messages"]

_PACKAGE = Path(nano_init.__file__).parent

# Functions that print a sentence, and the position of the sentence among their arguments.
_SPEAKERS = {"say": 1, "say_once": 0, "warn": 0, "_sentence": 1}

# Errors that no user sees: others answer for them.
_INTERNAL = frozenset({"FrozenInstanceError", "PicklingError"})

# A sentence has at least this many words that are not values.
_FEWEST_WORDS = 2


@dataclass(frozen=True)
class Message:
    """One sentence that a user may read.

    Args:
        module: where it comes from, such as "run/dispatch.py".
        kind: the error that carries it, or "line on stderr".
        text: the sentence; "…" stands for each value in it.
    """

    module: str
    kind: str
    text: str


def read_messages() -> list[Message]:
    """Return all messages, sorted by module and place."""
    found: list[Message] = []
    for path in sorted(_PACKAGE.rglob("*.py")):
        module = path.relative_to(_PACKAGE).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda node: node.lineno):
            found += [Message(module, kind, text) for kind, text in _sentences(call)]
    return list(dict.fromkeys(found))


def _sentences(call: ast.Call) -> list[tuple[str, str]]:
    name = ast.unparse(call.func).rsplit(".", 1)[-1]
    if name in _SPEAKERS and len(call.args) > _SPEAKERS[name]:
        kind, node = "line on stderr", call.args[_SPEAKERS[name]]
    elif name.endswith("Error") and call.args and not _is_internal(name):
        kind, node = name, call.args[0]
    elif name == "Finding" and len(call.args) > 2:
        kind, node = "finding of --doctor", call.args[2]
    else:
        return []
    return [(kind, _tidy(text)) for text in _texts(node) if _is_sentence(text)]


def _is_internal(error: str) -> bool:
    """Say whether an error is caught within the package, or is Python's own."""
    return error.startswith("_") or error in _INTERNAL or hasattr(builtins, error)


def _tidy(text: str) -> str:
    sentence = text.split("\n")[0].removeprefix("nano-init: ").removeprefix("nano-run: ")
    return re.sub("…+", "…", " ".join(sentence.split()))


def _texts(node: ast.expr) -> list[str]:
    """Return the texts that an expression may be, with "…" for each value."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(_part(part) for part in node.values)]
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body), *_texts(node.orelse)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [f"{a}{b}" for a in _texts(node.left) for b in _texts(node.right)]
    return []


def _part(part: ast.expr) -> str:
    return part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "…"


def _is_sentence(text: str) -> bool:
    words = [word for word in text.split() if any(letter.isalpha() for letter in word)]
    return len(words) >= _FEWEST_WORDS


def messages_markdown(prefixes: str) -> str:
    """Return a list of the messages of some modules.

    Args:
        prefixes: the modules or their folders, such as "launch/ run/job_workers.py", with blanks
            between them.

    Raises:
        ValueError: no message comes from there.
    """
    wanted = tuple(prefixes.split())
    rows = [m for m in read_messages() if m.module.startswith(wanted)]
    if not rows:
        raise ValueError(f"no messages in {prefixes!r}")
    texts = dict.fromkeys(message.text.replace("`", "'") for message in rows)
    return "\n".join(f"- `{text}`" for text in texts) + "\n"
