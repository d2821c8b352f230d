"""Decide whether the parts of the patch fit the imported Keras and TensorFlow."""

from __future__ import annotations

from nano_init.fingerprints.known_sources import read_known_sources
from nano_init.fingerprints.verdict import judge
from nano_init.keras_patch.live_callables import find_imported, version_of
from nano_init.protocol.patch_parts import ALL_RECORDS
from nano_init.protocol.supported_versions import TITLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from nano_init.fingerprints.verdict import Verdict

__all__ = ["judge_parts", "list_versions"]


def judge_parts(names: Collection[str], keras_packages: frozenset[str]) -> dict[str, Verdict]:
    """Return the verdict on each part, by name.

    Call it while nothing is patched, because installed callables are compared with their source.

    Args:
        names: The names of the parts.
        keras_packages: The packages to patch: `"keras"` (Keras 3), `"tf_keras"` (Keras 2) or
            both.
    """
    records = [record for record in ALL_RECORDS if record.name in names]
    texts = sorted({text for record in records for text in (*record.targets, *record.uses)})
    known = read_known_sources()
    packages = {
        package: find_imported(package, texts, known[package])
        for package in sorted({*keras_packages, "tensorflow"})
    }
    return {record.name: judge(record, packages) for record in records}


def list_versions(keras_packages: frozenset[str]) -> tuple[str, ...]:
    """Return the packages to patch with their versions, such as "Keras 3.15.1"."""
    packages = (*sorted(keras_packages), "tensorflow")
    return tuple(f"{TITLES[package]} {version_of(package)}" for package in packages)
