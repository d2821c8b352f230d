"""Which parts of the patch fit the Keras and TensorFlow that are installed. Pure."""

from __future__ import annotations

from nano_init.fingerprints.verdict import LATER, MISSING, VERIFIED
from nano_init.protocol.faster_paths import parse_disabled
from nano_init.protocol.patch_parts import ALL_RECORDS
from nano_init.protocol.patch_record import GUARD, OPTION, PATH, REPAIR, WORKER
from nano_init.protocol.variables import DISABLE_VARIABLE, UNVERIFIED_VARIABLE
from nano_init.text import count_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Literal

    from nano_init.fingerprints.verdict import Verdict

    Level = Literal["warning", "note", "ok"]

__all__ = ["list_part_findings"]

# What is lost with a part of each kind.
_LOSSES = {
    PATH: "steps aside",
    REPAIR: "is left out",
    OPTION: "is not available",
    GUARD: "cannot guard mixed_bfloat16, so that training is in float32",
}


def list_part_findings(
    parts: Mapping[str, Verdict], environ: Mapping[str, str]
) -> Iterator[tuple[Level, str, str]]:
    """Yield a level, a sentence and a way out for what is active and each part that is not.

    Args:
        parts: Whether each part can be used, by name; empty where that is not known.
        environ: The user's environment, which can switch faster paths off.
    """
    if not parts:
        return
    disabled, _ = parse_disabled(environ.get(DISABLE_VARIABLE, ""))
    takes_unverified = environ.get(UNVERIFIED_VARIABLE) == "1"
    fit = {name for name, part in parts.items() if takes_unverified or part.state == VERIFIED}
    active = [r.name for r in ALL_RECORDS if r.kind == PATH and r.name in fit - disabled]
    others = sum(record.kind != PATH and record.name in fit for record in ALL_RECORDS)
    listed = f" ({', '.join(active)})" if active else ""
    yield "ok", f"{count_of(len(active), 'faster path')} active{listed}, {others} other parts", ""
    if disabled:
        yield "note", f"{', '.join(sorted(disabled))}: switched off by {DISABLE_VARIABLE}", ""
    unfit = [record for record in ALL_RECORDS if record.name in parts.keys() - fit]
    for record in unfit:
        if record.kind != WORKER:
            verdict = parts[record.name]
            seen = f"{record.name} {_LOSSES[record.kind]}: {verdict.reason}"
            level: Level = "note" if verdict.state == LATER else "warning"
            yield level, seen, _way_out([verdict])
    for_jobs = {record.name: parts[record.name] for record in unfit if record.kind == WORKER}
    if for_jobs:
        listed = ", ".join(f"{name} ({verdict.reason})" for name, verdict in for_jobs.items())
        yield "note", f"workers cannot train together: {listed}", _way_out(for_jobs.values())


def _way_out(verdicts: Iterable[Verdict]) -> str:
    states = {verdict.state for verdict in verdicts}
    if LATER in states:
        return "install a later Keras"
    # What is missing cannot be used.
    return "" if states == {MISSING} else f"{UNVERIFIED_VARIABLE}=1 uses what is there nevertheless"
