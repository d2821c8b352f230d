"""The signals that the launcher receives, read in its loop instead of in handlers."""

from __future__ import annotations

import signal
import socket

__all__ = ["FORWARDED", "PASSED_ON", "Signals", "signal_name"]

# Signals that end a job, and signals that the script may use.
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2)


class Signals:
    """A context that receives the signals, and restores the handlers at its end."""

    def __enter__(self) -> Signals:
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)
        self._before = {
            number: signal.signal(number, lambda *_: None)
            for number in (*FORWARDED, *PASSED_ON, signal.SIGCHLD)
            # Under `nohup` it is ignored, and stays so.
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGCHLD
        }
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.reader.close()
        self._writer.close()

    def take(self) -> list[int]:
        """Return the signals that have arrived, without SIGCHLD."""
        try:
            return [number for number in self.reader.recv(4096) if number != signal.SIGCHLD]
        except BlockingIOError:
            return []


def signal_name(number: int) -> str:
    """Return a signal's name, such as "SIGKILL"."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
