"""Decide from the installed sources alone whether the parts of the patch can be used.

Callables that a program replaces at run time are not seen here. The patch checks again.
"""

from __future__ import annotations

import os

from nano_init.frozen import frozen
from nano_init.protocol.supported_versions import (
    KERAS_RANGE,
    TENSORFLOW_RANGE,
    is_verified,
    too_old,
)
from nano_init.protocol.variables import UNVERIFIED_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nano_init.fingerprints.verdict import Verdict
    from nano_init.protocol.patch_record import PatchRecord

__all__ = ["InstalledPackages", "bfloat16_fault", "find_installed", "judge_installed"]


@frozen
class InstalledPackages:
    """The Keras and the TensorFlow that Python would import.

    Args:
        keras: `"keras"`, or `"tf_keras"` where TF_USE_LEGACY_KERAS is set.
        versions: the releases, by package; "" if unknown.
        folders: the folders that contain the packages, by package.
    """

    keras: str
    versions: Mapping[str, str]
    folders: Mapping[str, str]


def find_installed(
    tensorflow: str, environ: Mapping[str, str], search_path: Sequence[str]
) -> InstalledPackages | None:
    """Return what is installed, or None if one of the two is missing.

    Args:
        tensorflow: the release of TensorFlow.
        environ: the user's environment; TF_USE_LEGACY_KERAS is read.
        search_path: folders to look in, in order.
    """
    # TensorFlow accepts exactly these (tensorflow/python/util/lazy_loader.py).
    is_legacy = environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True")
    keras = "tf_keras" if is_legacy else "keras"
    folders = {}
    for package in (keras, "tensorflow"):
        found = [f or os.curdir for f in search_path if os.path.isdir(os.path.join(f, package))]
        if not found:
            return None
        folders[package] = found[0]
    version = _read_version(folders[keras], keras)
    return InstalledPackages(keras, {keras: version, "tensorflow": tensorflow}, folders)


def bfloat16_fault(
    installed: InstalledPackages | None, environ: Mapping[str, str], *, is_thorough: bool = False
) -> str:
    """Return a phrase that says why mixed_bfloat16 cannot be guarded here, or "".

    Args:
        installed: what is installed, or None.
        environ: the user's environment; NANO_INIT_UNVERIFIED is read.
        is_thorough: whether to compare the sources of verified versions too, which may have been
            edited. It takes 15 ms; this runs before every script, and float32 needs no guards.
    """
    if installed is None:
        return ""
    for package, version in installed.versions.items():
        sentence = too_old(package, version)
        if sentence:
            return sentence
    spans = {"keras": KERAS_RANGE}
    verified = [
        not version or is_verified(version, spans.get(package, TENSORFLOW_RANGE))
        for package, version in installed.versions.items()
    ]
    if (all(verified) and not is_thorough) or environ.get(UNVERIFIED_VARIABLE) == "1":
        return ""
    return _guard_fault(installed)


def judge_installed(
    records: Iterable[PatchRecord], installed: InstalledPackages
) -> dict[str, Verdict]:
    """Return the verdict on each part, by name, from the sources alone.

    Args:
        records: the parts.
        installed: what is installed.
    """
    from nano_init.fingerprints.installed_sources import digests_of_callables, read_below
    from nano_init.fingerprints.known_sources import read_known_sources
    from nano_init.fingerprints.verdict import FoundPackage, judge

    records, known = tuple(records), read_known_sources()
    texts = sorted({text for record in records for text in (*record.targets, *record.uses)})
    packages = {}
    for package, folder in installed.folders.items():
        own = [text for text in texts if text.partition(".")[0] == package]
        digests = digests_of_callables(own, known[package], read_below(folder))
        version = installed.versions[package]
        packages[package] = FoundPackage(version, digests, frozenset(), known[package])
    return {record.name: judge(record, packages) for record in records}


def _guard_fault(installed: InstalledPackages) -> str:
    from nano_init.fingerprints.verdict import VERIFIED
    from nano_init.protocol.precision_guards import GUARD_RECORDS

    verdicts = judge_installed(GUARD_RECORDS, installed)
    for name, verdict in verdicts.items():
        # The user asks for those by name.
        if verdict.state != VERIFIED and not name.endswith("kept_layers"):
            title = "tf_keras" if installed.keras == "tf_keras" else "Keras"
            version = installed.versions[installed.keras]
            return f"{title} {version} does not fit the guard {name} ({verdict.reason})"
    return ""


def _read_version(folder: str, package: str) -> str:
    """Return the version in a package's sources, the only place where a nightly build has it."""
    for place in (("src", "version.py"), ("__init__.py",), ("src", "__init__.py")):
        try:
            with open(os.path.join(folder, package, *place), encoding="utf-8") as file:
                text = file.read()
        except (OSError, ValueError):
            continue
        _, found, rest = text.partition('__version__ = "')
        if found:
            return rest.partition('"')[0]
    return ""
