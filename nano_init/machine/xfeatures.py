"""Ask the kernel whether it lets processes use AMX.

Source: the kernel's `Documentation/arch/x86/xstate.rst`. AMX in /proc/cpuinfo is no
permission: a process must request it, and an older kernel or a seccomp filter refuses.
"""

from __future__ import annotations

__all__ = ["TILE_DATA", "ask_xfeatures"]

TILE_DATA = 1 << 18

_SYS_ARCH_PRCTL = 158
_ARCH_GET_XCOMP_SUPP = 0x1021


def ask_xfeatures() -> int:
    """Return the bits of the extended processor states that the kernel supports.

    It only asks (ARCH_GET_XCOMP_SUPP): requesting the permission, as oneDNN does later,
    would enlarge the signal frames of this process.

    Raises:
        OSError: the kernel does not know the question, or a filter forbids it.
    """
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    bits = ctypes.c_uint64(0)
    number, question = ctypes.c_long(_SYS_ARCH_PRCTL), ctypes.c_long(_ARCH_GET_XCOMP_SUPP)
    if libc.syscall(number, question, ctypes.byref(bits)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return bits.value
