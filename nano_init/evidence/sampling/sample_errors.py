"""Why a process has made too few steps to measure, in one sentence. Pure."""

from __future__ import annotations

import signal

from nano_init.errors import LateSampleError, MemorySampleError, SampleError, ScriptError
from nano_init.text import count_of

__all__ = ["explain_sample_error"]

# strerror(ENOSPC), as Python and TensorFlow report it.
_FULL = "No space left on device"

# As Python, NumPy, TensorFlow and C++ report it.
_NO_MEMORY = ("MemoryError", "ResourceExhaustedError", "OOM when allocating", "bad_alloc")

_READS = "the script reads its standard input, which is empty in a sample"


def explain_sample_error(
    steps: int,
    code: int | None,
    complaints: str,
    seconds: float,
    *,
    is_late: bool,
    has_read: bool = False,
    has_closed: bool = False,
) -> SampleError:
    """Return the error of a process that has not made enough steps.

    Args:
        steps: those that it has made.
        code: its exit status, negative for a signal; None where it is not known.
        complaints: what it printed on stderr.
        seconds: how long it was given.
        is_late: whether it was still running then.
        has_read: whether it has tried to read its standard input, which is empty.
        has_closed: whether it still runs, but closed the file that its steps are counted through.

    Returns:
        LateSampleError if it was, MemorySampleError if memory was short, ScriptError if the script
        failed by its own, or for want of an input, SampleError if it ended in order.
    """
    lines = [line for line in complaints.splitlines() if line.strip()]
    last = lines[-1].strip()[:200] if lines else ""
    seen = f"after {count_of(steps, 'step')}" if steps else "before its first step"
    if is_late:
        reads = f" ({_READS.replace('the script', 'it')})" if has_read and not steps else ""
        return LateSampleError(
            f"the script was still running {seen} when {seconds:.0f} seconds were over{reads}"
        )
    if has_closed:
        return SampleError(
            f"the script closed all inherited files {seen}, including the one that its steps are "
            "counted through"
        )
    return _explain_end(steps, code, last, seen, has_read=has_read)


def _explain_end(
    steps: int, code: int | None, last: str, seen: str, *, has_read: bool
) -> SampleError:
    if code != 0 and (code == -signal.SIGKILL or any(name in last for name in _NO_MEMORY)):
        return MemorySampleError(_short_of_memory(code, seen, last))
    if code != 0 and _FULL in last:
        return SampleError(
            f"the script wrote more than a sample may {seen}: a sample's files are kept in "
            f"memory; let the script write less ({last})"
        )
    if (has_read or "EOFError" in last) and (code is None or code >= 0):
        kind = ScriptError if code != 0 else SampleError
        return kind(f"{_READS}: {_what_followed(steps, code, seen, last)}")
    if code != 0:
        return ScriptError(
            f"the script {_end_of(code)} {seen}{f': {last}' if last else _status_of(code)}"
        )
    return SampleError(_too_few(steps, seen))


def _short_of_memory(code: int | None, seen: str, last: str) -> str:
    if code == -signal.SIGKILL:
        return f"the script was killed by SIGKILL {seen}, probably because memory ran out"
    return f"the script ran out of memory {seen}: {last}"


def _what_followed(steps: int, code: int | None, seen: str, last: str) -> str:
    if code == 0:
        return f"it ended {seen}" if steps else "it trained nothing without"
    return f"it {_end_of(code)} {seen}{f' ({last})' if last else _status_of(code)}"


def _too_few(steps: int, seen: str) -> str:
    if not steps:
        return "no training was seen: no Keras optimizer made a step in the script's own process"
    return (
        f"the script's training ended {seen}, too few to measure; let it train longer, for "
        "example for more epochs"
    )


def _end_of(code: int | None) -> str:
    if code is None:  # no traceback of Python's: it was ended by a signal, or by os._exit
        return "ended abruptly"
    return "failed" if code > 0 else f"was ended by {_signal_name(-code)}"


def _status_of(code: int | None) -> str:
    return f" with status {code}" if code and code > 0 else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
