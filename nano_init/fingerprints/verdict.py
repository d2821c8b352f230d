"""Decide whether a part of the patch may be used on the installed Keras and TensorFlow. Pure."""

from __future__ import annotations

from nano_init.fingerprints.installed_sources import UNREADABLE
from nano_init.fingerprints.known_sources import minor_of, verified_minors
from nano_init.fingerprints.source_digest import ABSENT
from nano_init.frozen import frozen
from nano_init.protocol.supported_versions import TITLES, is_verified, numbers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nano_init.fingerprints.known_sources import KnownSources
    from nano_init.protocol.patch_record import PatchRecord

__all__ = [
    "LATER",
    "MISSING",
    "REPLACED",
    "UNVERIFIED",
    "VERIFIED",
    "FoundPackage",
    "Verdict",
    "judge",
]

VERIFIED = "verified"
MISSING = "missing"  # a callable is missing
UNVERIFIED = "unverified"  # its source differs from the verified ones
REPLACED = "replaced"  # another tool has replaced it
LATER = "later"  # it is for later versions


@frozen
class FoundPackage:
    """What was found of one package.

    Args:
        version: The installed release.
        digests: The digest of each callable that the records name.
        replaced: The callables that another tool has replaced in this process.
        known: The verified sources of the package.
    """

    version: str
    digests: Mapping[str, str]
    replaced: frozenset[str]
    known: KnownSources


@frozen
class Verdict:
    """Whether one part can be used.

    Args:
        state: One of the states above.
        reason: A phrase that names the callable and what is wrong with it; "" if nothing is.
    """

    state: str
    reason: str = ""


def judge(record: PatchRecord, packages: Mapping[str, FoundPackage]) -> Verdict:
    """Say whether a part can be used.

    Args:
        record: The part.
        packages: What was found, by package, without packages that are not patched.
    """
    for package, found in packages.items():
        texts = [t for t in (*record.targets, *record.uses) if t.partition(".")[0] == package]
        if not texts:
            continue
        span = _span(record, package)
        verdict = _judge_in(texts, span, found)
        if verdict.state == VERIFIED:
            continue
        if found.version and numbers_of(found.version) < numbers_of(span[0]):
            return Verdict(LATER, f"for {TITLES[package]} {span[0]} and later")
        return verdict
    return Verdict(VERIFIED)


def _span(record: PatchRecord, package: str) -> tuple[str, str]:
    return record.keras if package == "keras" else record.tensorflow


def _judge_in(texts: list[str], span: tuple[str, str], found: FoundPackage) -> Verdict:
    digests = {text: found.digests[text] for text in texts}
    if not verified_minors(digests, found.known, span, found.version):
        return _fault(digests, span, found)
    replaced = [text for text in texts if text in found.replaced]
    if replaced:
        return Verdict(REPLACED, f"{_listed(replaced)} is replaced by another tool")
    return Verdict(VERIFIED)


def _fault(digests: Mapping[str, str], span: tuple[str, str], found: FoundPackage) -> Verdict:
    """Return why no verified version has these callables."""
    unreadable = [text for text, digest in digests.items() if digest == UNREADABLE]
    if unreadable:
        return Verdict(UNVERIFIED, f"the source of {_listed(unreadable)} cannot be read")
    # An older version that was verified has other sources than the last one.
    own = minor_of(found.version)
    minor = own if is_verified(own, span) and own in found.known.releases else span[1]
    verified = {text: found.known.digest_in(text, minor) for text in digests}
    missing = [t for t, digest in digests.items() if digest == ABSENT and verified[t] != ABSENT]
    if missing:
        return Verdict(MISSING, f"{_listed(missing)} is missing")
    changed = [text for text, digest in digests.items() if digest != verified[text]]
    return Verdict(UNVERIFIED, f"{_listed(changed)} has changed")


def _listed(texts: Iterable[str]) -> str:
    """Return the first callable without its module, and the number of further ones."""
    first, *more = (text.partition(":")[2] for text in texts)
    return first if not more else f"{first} (and {len(more)} more)"
