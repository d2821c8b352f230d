"""Bind the calling process to hardware threads and to the memory of NUMA nodes.

The bindings survive `exec` (sched_setaffinity(2), set_mempolicy(2)). The system calls are made
through ctypes, so numactl is not needed.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["bind_memory", "bind_threads", "memory_binder"]

# Numbers of set_mempolicy(2): arch/x86/entry/syscalls/syscall_64.tbl and
# include/uapi/asm-generic/unistd.h of Linux.
_SYSTEM_CALLS = {"x86_64": 238, "aarch64": 237, "riscv64": 237, "loongarch64": 237, "ppc64le": 261}
# include/uapi/linux/mempolicy.h
_MODES = (("bind", 2), ("prefer", 1))


def bind_threads(cpus: Iterable[int]) -> str:
    """Bind this process to hardware threads.

    Returns:
        "" on success, otherwise the reason for the failure.
    """
    try:
        os.sched_setaffinity(0, cpus)
    except (AttributeError, OSError) as error:
        return f"cannot bind to cpus: {error}"
    return ""


def memory_binder(arch: str) -> Callable[[int, int], int] | None:
    """Return a function that sets the memory policy from mode and mask, and returns an errno.

    Args:
        arch: the machine's name, as `uname -m` gives it.

    Returns:
        The function; None if the system call's number is unknown.
    """
    if arch not in _SYSTEM_CALLS:
        return None
    import ctypes

    call = ctypes.CDLL(None, use_errno=True).syscall
    number = _SYSTEM_CALLS[arch]

    def set_policy(mode: int, mask: int) -> int:
        words = (ctypes.c_ulong * 16)(*[(mask >> (64 * i)) & (2**64 - 1) for i in range(16)])
        # The kernel reads one bit fewer than specified.
        result = call(number, mode, ctypes.byref(words), ctypes.c_ulong(16 * 64 + 1))
        return ctypes.get_errno() if result else 0

    return set_policy


def bind_memory(nodes: Sequence[int], set_policy: Callable[[int, int], int] | None) -> str:
    """Bind the memory of this process to NUMA nodes, as strictly as permitted.

    Args:
        nodes: the nodes; none leaves the memory policy unchanged.
        set_policy: the function from `memory_binder`.

    Returns:
        "" if memory is bound, otherwise what was done instead and why.
    """
    if not nodes:
        return ""
    if set_policy is None:
        return "memory is not bound: unknown system call on this architecture"
    mask = sum(1 << node for node in nodes)
    failure = 0
    for name, mode in _MODES:
        errno = set_policy(mode, mask if name == "bind" else 1 << nodes[0])
        if not errno:
            if name == "bind":
                return ""
            return f"memory is not bound, its node is only preferred: {os.strerror(failure)}"
        failure = failure or errno
    return f"memory is not bound to its node: {os.strerror(failure)}"
