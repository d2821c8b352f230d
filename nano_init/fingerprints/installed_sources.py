"""The digests of the callables in an installed Keras or TensorFlow.

If a file's digest is known, so are the digests of its callables. Only unknown files are parsed.
"""

from __future__ import annotations

from nano_init.fingerprints.known_sources import KnownSources, file_of
from nano_init.fingerprints.source_digest import ABSENT, digest_of_file, digests_of_definitions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["UNREADABLE", "digests_of_callables", "read_below"]

# The digest if the source cannot be read.
UNREADABLE = "unreadable"


def read_below(folder: str) -> Callable[[str], bytes]:
    """Return a function that reads a file below a folder, such as "keras/src/losses/loss.py"."""
    import os

    def read(file: str) -> bytes:
        with open(os.path.join(folder, *file.split("/")), "rb") as opened:
            return opened.read()

    return read


def digests_of_callables(
    texts: Iterable[str], known: KnownSources | None, read: Callable[[str], bytes]
) -> dict[str, str]:
    """Return the digest of each callable of one package.

    Args:
        texts: The callables as the records write them.
        known: The known sources of the package, so that known files need not be parsed.
        read: Returns the bytes of a file, or raises OSError.
    """
    by_module: dict[str, list[str]] = {}
    for text in texts:
        by_module.setdefault(text.partition(":")[0], []).append(text)
    found: dict[str, str] = {}
    for members in by_module.values():
        found.update(_digests_in(members, known, read))
    return found


def _digests_in(
    texts: list[str], known: KnownSources | None, read: Callable[[str], bytes]
) -> dict[str, str]:
    for file in file_of(texts[0]):
        try:
            data = read(file)
        except OSError:
            continue
        minors = known.minors_of_file(file, digest_of_file(data)) if known else ()
        if known and minors:
            return {text: known.digest_in(text, minors[0]) for text in texts}
        return _parsed(texts, data)
    return dict.fromkeys(texts, ABSENT)


def _parsed(texts: list[str], data: bytes) -> dict[str, str]:
    names = {text: text.partition(":")[2] for text in texts}
    try:
        digests = digests_of_definitions(data.decode("utf-8"), list(names.values()))
    except (SyntaxError, ValueError):
        return dict.fromkeys(texts, UNREADABLE)
    return {text: digests[name] for text, name in names.items()}
