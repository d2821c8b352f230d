"""The sources that the patch was verified on, and lookups in them.

The data is in `fingerprints.json`, which `scripts/fingerprints` writes.
"""

from __future__ import annotations

from nano_init.frozen import frozen
from nano_init.protocol.supported_versions import numbers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "KnownSources",
    "file_of",
    "minor_of",
    "read_known_sources",
    "sort_minors",
    "verified_minors",
]


@frozen
class KnownSources:
    """The digests of one package's sources.

    Args:
        releases: the release that was read, by minor version.
        files: the minor versions in which a file has a digest, by file and digest.
        callables: the same for a callable, by its text in the records and digest.
    """

    releases: Mapping[str, str]
    files: Mapping[str, Mapping[str, tuple[str, ...]]]
    callables: Mapping[str, Mapping[str, tuple[str, ...]]]

    def minors_of_file(self, file: str, digest: str) -> tuple[str, ...]:
        """Return the minor versions in which a file has this digest."""
        return self.files.get(file, {}).get(digest, ())

    def minors_of_callable(self, text: str, digest: str) -> tuple[str, ...]:
        """Return the minor versions in which a callable has this digest."""
        return self.callables.get(text, {}).get(digest, ())

    def digest_in(self, text: str, minor: str) -> str:
        """Return the digest of a callable in a minor version, or "" if it was not read."""
        for digest, minors in self.callables.get(text, {}).items():
            if minor in minors:
                return digest
        return ""


def read_known_sources() -> dict[str, KnownSources]:
    """Return the known sources by package: "keras", "tensorflow" and "tf_keras"."""
    import json
    import os

    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fingerprints.json")
    with open(path, encoding="ascii") as file:
        data = json.load(file)
    return {
        package: KnownSources(part["releases"], _split(part["files"]), _split(part["callables"]))
        for package, part in data.items()
    }


def file_of(text: str) -> tuple[str, str]:
    """Return the two files that may define a callable: a module, or a package of that name.

    Args:
        text: The callable as the records write it.
    """
    stem = text.partition(":")[0].replace(".", "/")
    return f"{stem}.py", f"{stem}/__init__.py"


def minor_of(version: str) -> str:
    """Return the minor version of a release, such as "3.16" of "3.16.0.dev2026"."""
    return ".".join(version.split(".")[:2])


def sort_minors(minors: Iterable[str]) -> list[str]:
    """Return minor versions in ascending order."""
    return sorted(minors, key=numbers_of)


def verified_minors(
    found: Mapping[str, str], known: KnownSources, span: tuple[str, str], version: str
) -> list[str]:
    """Return the verified minor versions whose callables are those that were found.

    One version must have all of them, because a mix of versions was never verified. A version
    after the last verified one is compared with that one only: a callable that it lacks was
    removed or renamed.

    Args:
        found: The digest of each callable.
        known: The known sources of the package.
        span: The first and the last minor version that the part was verified on.
        version: The installed release.
    """
    first, last = (numbers_of(minor) for minor in span)
    minors = [minor for minor in known.releases if first <= numbers_of(minor) <= last]
    if numbers_of(minor_of(version)) > last:
        minors = [minor for minor in minors if numbers_of(minor) == last]
    return sort_minors(
        minor
        for minor in minors
        if all(minor in known.minors_of_callable(text, digest) for text, digest in found.items())
    )


def _split(
    groups: Mapping[str, Mapping[str, str]],
) -> dict[str, dict[str, tuple[str, ...]]]:
    return {
        name: {digest: tuple(minors.split()) for digest, minors in by_digest.items()}
        for name, by_digest in groups.items()
    }
