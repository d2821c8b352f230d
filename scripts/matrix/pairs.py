"""The pairs of TensorFlow and Keras that the package supports, and what is run on each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MATRIX_FILE", "PRE_RELEASE", "Matrix", "Pair", "choose_pairs", "read_matrix"]

MATRIX_FILE = Path(__file__).with_name("matrix.json")
PRE_RELEASE = "pre-release"


@dataclass(frozen=True)
class Pair:
    """One TensorFlow with one Keras.

    Args:
        tensorflow: Its version.
        keras: Its version, or `"pre-release"`: the newest one that the index has.
        tf_keras: The version of Keras 2 for this TensorFlow.
        python: The Python to run it on, as "3.11", where this machine has it.
    """

    tensorflow: str
    keras: str
    tf_keras: str
    python: str

    @property
    def name(self) -> str:
        """What the command line and the environment's folder call it."""
        return f"{self.tensorflow}-{self.keras}"


@dataclass(frozen=True)
class Matrix:
    """What `matrix.json` holds.

    Args:
        pairs: The oldest pair first; pre-releases last.
        suites: Paths of tests by the name of their column in the table.
        tools: Requirements of the tests besides TensorFlow and Keras.
    """

    pairs: tuple[Pair, ...]
    suites: Mapping[str, tuple[str, ...]]
    tools: tuple[str, ...]


def read_matrix(path: Path = MATRIX_FILE) -> Matrix:
    """Return the pairs and suites that a file lists."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return Matrix(
        pairs=tuple(Pair(**pair) for pair in found["pairs"]),
        suites={name: tuple(paths) for name, paths in found["suites"].items()},
        tools=tuple(found["tools"]),
    )


def choose_pairs(pairs: Sequence[Pair], names: Sequence[str]) -> list[Pair]:
    """Return the pairs that are asked for, in the matrix's order.

    Args:
        pairs: All pairs, the oldest first.
        names: Names of pairs, `"oldest"`, `"newest"` (the newest release) or `"pre-release"`;
            none is all.

    Raises:
        ValueError: A name is none of these.
    """
    releases = [pair for pair in pairs if pair.keras != PRE_RELEASE]
    aliases = {"oldest": releases[0].name, "newest": releases[-1].name}
    if len(releases) < len(pairs):
        aliases[PRE_RELEASE] = pairs[-1].name
    known = [pair.name for pair in pairs]
    wanted = [aliases.get(name, name) for name in names]
    for name in wanted:
        if name not in known:
            raise ValueError(f"unknown pair {name!r}; choose from {', '.join([*aliases, *known])}")
    return [pair for pair in pairs if not wanted or pair.name in wanted]
