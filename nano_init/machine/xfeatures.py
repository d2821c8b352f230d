"""Ask the kernel whether it lets processes use AMX.

Source: the kernel's `Documentation/arch/x86/xstate.rst`. AMX in /proc/cpuinfo is no
permission: a process must request it, and an older kernel or a seccomp filter refuses.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RECORDED_ANSWER", "TILE_DATA", "ask_xfeatures", "format_answer", "parse_answer"]

TILE_DATA = 1 << 18

# Where a recording keeps the answer: /proc and /sys have no file for it.
RECORDED_ANSWER = "nano_init/xcomp_supp"

_SYS_ARCH_PRCTL = 158
_ARCH_GET_XCOMP_SUPP = 0x1021


def ask_xfeatures() -> int:
    """Return the bits of the extended processor states that the kernel supports.

    It only asks (ARCH_GET_XCOMP_SUPP): requesting the permission, as oneDNN does later,
    would enlarge the signal frames of this process.

    Raises:
        OSError: the kernel does not know the question, or a filter forbids it.
    """
    try:
        import ctypes
    except ImportError as error:  # a Python that was built without libffi
        raise OSError(0, "this Python has no ctypes to ask with") from error
    libc = ctypes.CDLL(None, use_errno=True)
    bits = ctypes.c_uint64(0)
    number, question = ctypes.c_long(_SYS_ARCH_PRCTL), ctypes.c_long(_ARCH_GET_XCOMP_SUPP)
    if libc.syscall(number, question, ctypes.byref(bits)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return bits.value


def format_answer(ask: Callable[[], int]) -> str:
    """Ask, and return the answer as text: the bits, or the number of the error."""
    try:
        return hex(ask())
    except OSError as error:
        return f"errno {error.errno}"


def parse_answer(text: str) -> int:
    """Return the bits of an answer, or raise the error that it was.

    Raises:
        OSError: the kernel refused.
    """
    word, _, code = text.partition(" ")
    if word == "errno" and code.isascii() and code.isdigit() and len(code) < 6:
        raise OSError(int(code), os.strerror(int(code)))
    try:
        return int(text[:20], 16)
    except ValueError as error:
        raise OSError(0, f"{text[:40]!r} is not a valid answer") from error
