"""Digests of source text: of a whole file, and of one definition in it. Pure.

The digest of a definition ignores comments, docstrings, whitespace and line breaks. It is computed
from tokens, so it is the same in every version of Python; the syntax tree differs between versions.
"""

from __future__ import annotations

import ast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["ABSENT", "digest_of_definition", "digest_of_file", "digests_of_definitions"]

# The digest of a name that a file does not define: a class may inherit it, and a module may get it
# from an extension.
ABSENT = "absent"

# Enough to rule out collisions among some thousands of sources.
_BYTES = 8

# Kinds of tokens whose text counts. Of other tokens only the kind counts, and some are skipped.
_WORDS = frozenset(["NAME", "NUMBER", "STRING", "OP", "ERRORTOKEN"])
_BLANK = frozenset(["COMMENT", "NL", "ENCODING", "ENDMARKER"])
_QUOTES = ("'", '"')

# How a top-level function or class begins.
_INSIDE = frozenset(" \t\r\n#)]}")

_Definition = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def digest_of_file(data: bytes) -> str:
    """Return the digest of a file's bytes."""
    return _digest(data)


def digest_of_definition(source: str, name: str) -> str:
    """Return the digest of one definition, or `ABSENT`.

    Args:
        source: A file's text.
        name: A function, class or variable of the module, or a dotted name of something that a
            class defines, such as `"Layer.__call__"`.

    Raises:
        SyntaxError: The text is not valid in this version of Python.
    """
    return digests_of_definitions(source, [name])[name]


def digests_of_definitions(source: str, names: Sequence[str]) -> dict[str, str]:
    """Return the digests of several definitions of one file, by name.

    Args:
        source: A file's text.
        names: As for `digest_of_definition`.

    Raises:
        SyntaxError: The text is not valid in this version of Python.
    """
    lines = source.splitlines(keepends=True)
    by_first: dict[str, list[str]] = {}
    for name in names:
        by_first.setdefault(name.partition(".")[0], []).append(name)
    found: dict[str, str] = {}
    whole: ast.Module | None = None
    for first, members in by_first.items():
        part = _cut_out(lines, first)
        if part is None:
            whole = whole or ast.parse(source)
            found.update(_digests_in(whole, lines, members))
        else:
            found.update(_digests_in(*part, members))
    return found


def _digests_in(tree: ast.Module, lines: list[str], names: Sequence[str]) -> dict[str, str]:
    return {name: _digest_of_all(list(_find(tree, name.split("."))), lines) for name in names}


def _cut_out(lines: list[str], name: str) -> tuple[ast.Module, list[str]] | None:
    """Return a function or class of a module, parsed alone for speed; None if in doubt."""
    heads = (f"def {name}(", f"class {name}(", f"class {name}:", f"async def {name}(")
    starts = [place for place, line in enumerate(lines) if line.startswith(heads)]
    if len(starts) != 1:
        return None
    start = end = starts[0]
    while start > 0 and lines[start - 1].startswith("@"):
        start -= 1
    end += 1
    while end < len(lines) and lines[end][:1] in _INSIDE:
        end += 1
    part = lines[start:end]
    try:
        # Unindented text in a long string or a decorator cuts it in half: not valid Python.
        return ast.parse("".join(part)), part
    except SyntaxError:
        return None


def _digest(data: bytes) -> str:
    from hashlib import blake2b

    return blake2b(data, digest_size=_BYTES).hexdigest()


def _digest_of_all(found: list[tuple[ast.stmt, str]], lines: list[str]) -> str:
    if not found:
        return ABSENT
    # Both branches of a condition may define a name.
    texts = [_imported(n, name) or "\n".join(_tokens(_text_of(n, lines))) for n, name in found]
    return _digest("\n\n".join(texts).encode())


def _find(scope: ast.AST, path: Sequence[str]) -> Iterator[tuple[ast.stmt, str]]:
    first, *rest = path
    for statement in _statements(scope):
        if first in _bound(statement):
            if not rest:
                yield statement, first
            elif isinstance(statement, _Definition):
                yield from _find(statement, rest)


def _statements(scope: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements of a scope, including those inside conditions and the like."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, (*_Definition, ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom)):
            yield child
        elif isinstance(child, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
            yield from _statements(child)


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, _Definition):
        return {statement.name}
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name for alias in statement.names}
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]  # type: ignore[attr-defined]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _imported(statement: ast.stmt, name: str) -> str:
    """Return one name of an import as text, since the others may change; "" if it is no import."""
    if not isinstance(statement, (ast.Import, ast.ImportFrom)):
        return ""
    module = getattr(statement, "module", None) or ""
    (origin,) = (a.name for a in statement.names if (a.asname or a.name) == name)
    return f"from {module} import {origin} as {name}"


def _text_of(statement: ast.stmt, lines: list[str]) -> str:
    decorators = getattr(statement, "decorator_list", ())
    first = min([statement.lineno, *(d.lineno for d in decorators)])
    return "".join(lines[first - 1 : statement.end_lineno])


def _tokens(text: str) -> list[str]:
    """Return the tokens of a statement, without comments and docstrings."""
    tokens = [token for token in _raw_tokens(text) if token not in _BLANK]
    while tokens[-1] in ("DEDENT", "NEWLINE"):
        tokens.pop()
    # A method is indented.
    kept = tokens[1:] if tokens[0] == "INDENT" else tokens
    return [
        token
        for place, token in enumerate(kept)
        if not _is_docstring(kept, place) and not (place and _is_docstring(kept, place - 1))
    ]


def _is_docstring(tokens: list[str], place: int) -> bool:
    return (
        tokens[place].lstrip("rRuU")[:1] in _QUOTES
        and tokens[max(0, place - 1)] == "INDENT"
        and tokens[place + 1 : place + 2] in ([], ["NEWLINE"])
    )


def _raw_tokens(text: str) -> Iterator[str]:
    """Yield each token's text, or its kind where only the kind counts."""
    import io
    import tokenize

    lines = text.splitlines(keepends=True)
    depth, start = 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        # Since Python 3.12 the parts of an f-string are tokens; before, it was a single token.
        if kind == "FSTRING_START":
            start = token.start if depth == 0 else start
            depth += 1
        elif kind == "FSTRING_END":
            depth -= 1
            if depth == 0:
                yield _between(lines, start, token.end)
        elif depth == 0:
            yield token.string if kind in _WORDS else kind


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    (first, left), (last, right) = start, end
    if first == last:
        return lines[first - 1][left:right]
    return "".join([lines[first - 1][left:], *lines[first : last - 1], lines[last - 1][:right]])
