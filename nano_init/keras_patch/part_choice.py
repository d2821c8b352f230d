"""Choose the parts of the patch for the installed Keras, and the messages about it. Pure."""

from __future__ import annotations

from nano_init.fingerprints.verdict import VERIFIED
from nano_init.keras_patch.active_parts import ACTIVE, ASIDE, OFF, PartState
from nano_init.protocol.patch_record import GUARD, PATH, WORKER
from nano_init.protocol.variables import UNVERIFIED_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from nano_init.fingerprints.verdict import Verdict
    from nano_init.protocol.patch_record import PatchRecord

__all__ = ["choose_parts", "guard_sentence", "job_sentence", "path_sentence", "state_after_failure"]


def choose_parts(
    records: Iterable[PatchRecord],
    asked: Collection[str],
    verdicts: Mapping[str, Verdict],
    *,
    takes_unverified: bool = False,
) -> tuple[PartState, ...]:
    """Return the state of each requested part, and of each path that is switched off.

    Args:
        records: All parts.
        asked: The names of the requested parts.
        verdicts: The verdict on each of them.
        takes_unverified: Whether the user wants to use unverified parts.
    """
    states = []
    for record in records:
        if record.name not in asked:
            if record.kind == PATH:
                states.append(PartState(record.name, record.kind, OFF, "switched off by name"))
            continue
        verdict = verdicts[record.name]
        is_used = takes_unverified or verdict.state == VERIFIED
        reason = f"{verdict.reason}, used nevertheless" if is_used and verdict.reason else ""
        states.append(
            PartState(
                record.name,
                record.kind,
                ACTIVE if is_used else ASIDE,
                reason if is_used else verdict.reason,
            )
        )
    return tuple(states)


def state_after_failure(state: PartState, error: Exception) -> PartState:
    """Return the state of a part that could not be installed.

    Args:
        state: Its previous state.
        error: The error.
    """
    cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, KeyError):
        cause = f"{error.args[0]} is missing"
    return PartState(state.name, state.kind, ASIDE, cause)


def path_sentence(versions: Sequence[str], states: Iterable[PartState]) -> str:
    """Return one sentence that names the parts that step aside, except guards, or "".

    Args:
        versions: The packages with their versions.
        states: The state of each part.
    """
    aside = [s for s in states if s.state == ASIDE and s.kind != GUARD]
    return _sentence(versions, "these step aside", aside) if aside else ""


def guard_sentence(versions: Sequence[str], states: Iterable[PartState]) -> str:
    """Return one sentence that says why there is no mixed_bfloat16, or "".

    Args:
        versions: The packages with their versions.
        states: The state of each part.
    """
    aside = [s for s in states if s.state == ASIDE and s.kind == GUARD]
    if not aside:
        return ""
    return _sentence(
        versions, "training is in float32, as guards of mixed_bfloat16 do not fit", aside
    )


def job_sentence(versions: Sequence[str], states: Iterable[PartState]) -> str:
    """Return one sentence that says why a job of several workers cannot train here, or "".

    Args:
        versions: The packages with their versions.
        states: The state of each part of a worker.
    """
    aside = [s for s in states if s.state == ASIDE and s.kind == WORKER]
    return _sentence(versions, "workers cannot train together", aside) if aside else ""


def _sentence(versions: Sequence[str], what: str, states: Sequence[PartState]) -> str:
    listed = ", ".join(f"{state.name} ({state.reason})" for state in states)
    *others, last = versions
    # A missing callable cannot be used, nor what is for later versions.
    is_there = any(not state.reason.endswith((" is missing", " and later")) for state in states)
    way_out = f"; {UNVERIFIED_VARIABLE}=1 uses what is there nevertheless" if is_there else ""
    return f"on {', '.join(others)} and {last} {what}: {listed}{way_out}"
