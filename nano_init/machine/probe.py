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
from nano_init.machine.xfeatures import (
    RECORDED_ANSWER,
    ask_xfeatures,
    format_answer,
    parse_answer,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["probe", "probe_with_log", "probe_with_reader", "read_machine"]

_ARCH = "proc/sys/kernel/arch"  # since Linux 6.1; recordings always have it


def probe(root: str = "/", environ: Mapping[str, str] = os.environ) -> Machine:
    """Return what is known of the computer, and what this process may use of it.

    Broken or unreadable files do not fail it: each adds one sentence to the machine's
    warnings, and the others still answer.

    Args:
        root: the folder that stands for "/": this computer's, that of a recorded machine, or
            the recording itself, FILE.tar.gz.
        environ: the environment; a launcher's variables tell how many workers share the host.

    Raises:
        RecordingError: the root does not exist, or is not a recorded machine.
    """
    return probe_with_log(root, environ)[0]


def probe_with_log(
    root: str = "/", environ: Mapping[str, str] = os.environ
) -> tuple[Machine, dict[str, str | None]]:
    """Return the machine, and what each source that was consulted said.

    Args:
        root: as for `probe`.
        environ: as for `probe`.

    Returns:
        The machine; and a text for each file, without the leading slash, and each question to
        the kernel, such as "sched_getaffinity(0)"; None where a source does not exist.

    Raises:
        RecordingError: the root does not exist, or is not a recorded machine.
    """
    if root == "/" and not sys.platform.startswith("linux"):
        from nano_init.machine.portable import probe_portably

        return probe_portably(environ)
    if os.path.isfile(root):
        from nano_init.machine.archive import extracted

        with extracted(root) as folder:
            return probe_with_log(folder, environ)
    machine, reader = probe_with_reader(root, environ)
    return machine, reader.log


def probe_with_reader(root: str, environ: Mapping[str, str]) -> tuple[Machine, Reader]:
    """Return the machine under a Linux root, and the reader that has seen its files.

    Raises:
        RecordingError: the root does not exist, or is not a recorded machine.
    """
    _check_recording(root)
    reader = Reader(root)
    return read_machine(reader, environ, _find_answer(reader)), reader


def read_machine(
    reader: Reader, environ: Mapping[str, str], ask_amx: Callable[[], int] | None
) -> Machine:
    """Return the machine that the reader's files describe.

    Args:
        reader: the files under a root.
        environ: the environment.
        ask_amx: how to ask the kernel for the extended states that it supports; None for a
            machine whose kernel cannot be asked.
    """
    cpuinfo = parse_cpuinfo(reader.text("proc/cpuinfo") or reader.text("cpuinfo") or "")
    online = read_online(reader, cpuinfo)
    affinity = read_affinity(reader, online)
    arch = os.uname().machine if reader.live else reader.text(_ARCH) or ""
    isa = identify(cpuinfo, affinity, arch, ask_amx)
    topology = read_topology(reader, cpuinfo, online)
    limits = read_limits(reader, environ, online, affinity)
    return Machine(isa, topology, limits, tuple(reader.warnings))


def _find_answer(reader: Reader) -> Callable[[], int] | None:
    """Return how to learn the kernel's extended states; the answer is logged."""
    if reader.live:

        def ask() -> int:
            answer = format_answer(ask_xfeatures)
            reader.log["arch_prctl(ARCH_GET_XCOMP_SUPP)"] = answer
            return parse_answer(answer)

        return ask
    recorded = reader.text(RECORDED_ANSWER)
    return None if recorded is None else lambda: parse_answer(recorded)


def _check_recording(root: str) -> None:
    if not os.path.exists(root):
        raise RecordingError(
            f"{root} does not exist; give the folder or file of a recorded machine"
        )
    if not any(os.path.exists(os.path.join(root, name)) for name in ("proc", "sys", "cpuinfo")):
        raise RecordingError(
            f"{root} is not a recorded machine: it contains neither proc nor sys; "
            "record one with nano-init --record FILE.tar.gz"
        )
