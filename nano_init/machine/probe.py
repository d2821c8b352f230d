"""Find out what this computer is, or what a recorded one was."""

from __future__ import annotations

import os
import sys

from nano_init.errors import RecordingError
from nano_init.machine.cpuinfo import parse_cpuinfo
from nano_init.machine.facts import Machine
from nano_init.machine.isa import identify
from nano_init.machine.limits import read_affinity, read_limits
from nano_init.machine.reader import Reader
from nano_init.machine.topology import read_online, read_topology
from nano_init.machine.xfeatures import ask_xfeatures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["probe", "read_machine"]


def probe(root: str = "/", environ: Mapping[str, str] = os.environ) -> Machine:
    """Return what is known of the computer, and what this process may use of it.

    Broken or unreadable files do not fail it: each adds one sentence to the machine's
    warnings, and the others still answer.

    Args:
        root: the folder that stands for "/": this computer, or the folder of a recorded one.
        environ: the environment; a launcher's variables tell how many workers share the host.

    Raises:
        RecordingError: the root does not exist, or is no recorded machine.
    """
    if root == "/" and not sys.platform.startswith("linux"):
        from nano_init.machine.portable import probe_portably

        return probe_portably(environ)
    check_recording(root)
    return read_machine(Reader(root), environ, ask_xfeatures if root == "/" else None)


def read_machine(
    reader: Reader, environ: Mapping[str, str], ask_amx: Callable[[], int] | None
) -> Machine:
    """Return the machine that the reader's files describe.

    Args:
        reader: the files under a root.
        environ: the environment.
        ask_amx: how to ask the kernel for the extended states it supports; None for a machine
            whose kernel cannot be asked.
    """
    cpuinfo = parse_cpuinfo(reader.text("proc/cpuinfo") or reader.text("cpuinfo") or "")
    online = read_online(reader, cpuinfo)
    affinity = read_affinity(reader, online)
    arch = os.uname().machine if reader.live else reader.text("proc/sys/kernel/arch") or ""
    isa = identify(cpuinfo, affinity, arch, ask_amx)
    topology = read_topology(reader, cpuinfo, online)
    limits = read_limits(reader, environ, online, affinity)
    return Machine(isa, topology, limits, tuple(reader.warnings))


def check_recording(root: str) -> None:
    """Check that a folder holds a recorded machine.

    Raises:
        RecordingError: it does not exist, or holds neither proc/ nor sys/ nor a cpuinfo.
    """
    if not os.path.exists(root):
        raise RecordingError(f"{root} does not exist; give the folder of a recorded machine")
    if not any(os.path.exists(os.path.join(root, name)) for name in ("proc", "sys", "cpuinfo")):
        raise RecordingError(
            f"{root} is no recorded machine: it holds neither proc nor sys; "
            "record one with nano-init --record FILE.tar.gz"
        )
