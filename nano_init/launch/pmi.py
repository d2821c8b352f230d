"""A secret that the tasks of a job exchange through PMI-1, as Hydra implements it.

The `mpiexec` of MPICH and Intel MPI gives each task its own socket, PMI_FD, to put and get
values. No other process can reach it. The line format is that of MPICH's src/pmi/src/pmi_v1.c:
"cmd=NAME key=value ...".
"""

from __future__ import annotations

import os
import select
import socket
import time

from nano_init.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["find_pmi", "share_by_pmi"]

_KEY = "nano-run-secret"
_LONGEST = 4096


def find_pmi(environ: Mapping[str, str]) -> int:
    """Return the descriptor of this task's PMI-1 socket, or -1 without one."""
    text = environ.get("PMI_FD", "")
    descriptor = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else -1
    if descriptor < 0 or "SLURM_PROCID" in environ:  # its pmi2 plugin uses PMI-2
        return -1
    try:
        os.fstat(descriptor)
    except OSError:
        return -1
    return descriptor


def share_by_pmi(descriptor: int, rank: int, secret: bytes, seconds: float) -> bytes:
    """Return the secret of task 0; all tasks of the job must call this.

    Args:
        descriptor: this task's socket.
        rank: its rank.
        secret: the secret that task 0 publishes.
        seconds: how long to wait for the others.

    Raises:
        LaunchError: a task did not arrive in time, or the launcher does not support PMI-1.
    """
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        pmi = _Pmi(connection, time.monotonic() + seconds)
        pmi.ask("init pmi_version=1 pmi_subversion=1", "response_to_init")
        name = pmi.ask("get_my_kvsname", "my_kvsname").get("kvsname", "")
        if rank == 0:
            pmi.ask(f"put kvsname={name} key={_KEY} value={secret.hex()}", "put_result")
        pmi.ask("barrier_in", "barrier_out")
        value = pmi.ask(f"get kvsname={name} key={_KEY}", "get_result").get("value", "")
        pmi.ask("finalize", "finalize_ack")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise _refusal("the secret of task 0 is damaged") from None


class _Pmi:
    """The conversation with the launcher of this task."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline
        self._received = b""

    def ask(self, command: str, answer: str) -> dict[str, str]:
        """Send a command, and return the fields of the answer."""
        try:
            self._connection.sendall(f"cmd={command}\n".encode())
            line = self._read_line()
        except OSError as error:
            raise _refusal(error.strerror or str(error)) from error
        fields = dict(word.partition("=")[::2] for word in line.split())
        if fields.get("cmd") != answer or fields.get("rc", "0") != "0":
            raise _refusal(f"{command.split()[0]} got the answer {line[:80]!r}")
        return fields

    def _read_line(self) -> str:
        while b"\n" not in self._received:
            left = self._deadline - time.monotonic()
            ready, _, _ = select.select([self._connection], [], [], max(0.0, left))
            if not ready:
                raise TimeoutError("the other tasks did not start in time (--start-timeout)")
            data = self._connection.recv(_LONGEST)
            if not data or len(self._received) > _LONGEST:
                raise ConnectionError("the connection was closed")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line.decode("ascii", "replace")


def _refusal(reason: str) -> LaunchError:
    return LaunchError(
        f"mpiexec does not pass on a job secret through PMI ({reason}); set NANO_RUN_JOB_SECRET"
    )
