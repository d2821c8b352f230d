"""The versions of Keras and TensorFlow that the patch supports. Pure."""

from __future__ import annotations

__all__ = ["KERAS_RANGE", "TENSORFLOW_RANGE", "TITLES", "is_verified", "numbers_of", "too_old"]

# The first and the last verified minor version of each package, unless a record says otherwise.
KERAS_RANGE = ("3.3", "3.15")
TENSORFLOW_RANGE = ("2.16", "2.21")

# What messages call the packages.
TITLES = {"keras": "Keras", "tensorflow": "TensorFlow", "tf_keras": "tf_keras"}


def too_old(package: str, version: str) -> str:
    """Return one sentence if a package is older than the first supported version, otherwise "".

    Args:
        package: "keras", "tensorflow" or "tf_keras".
        version: its release; "" if unknown.
    """
    first = KERAS_RANGE[0] if package == "keras" else TENSORFLOW_RANGE[0]
    if not version or numbers_of(version) >= numbers_of(first):
        return ""
    return f"{TITLES[package]} {version} is older than {first}: pip install '{package}>={first}'"


def numbers_of(version: str) -> tuple[int, ...]:
    """Return the numbers of a minor version, such as (3, 16) for "3.16.0.dev2026"."""
    return tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])


def is_verified(version: str, span: tuple[str, str]) -> bool:
    """Say whether a release belongs to a range of minor versions.

    Args:
        version: the release.
        span: the first and the last minor version of the range.
    """
    first, last = (numbers_of(minor) for minor in span)
    return first <= numbers_of(version) <= last
