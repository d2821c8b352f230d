"""Run a training in time slices: train for some seconds, report, and wait for the next command.

This half runs in the training process. The launcher holds the other ends of two pipes. It writes
the length of the next slice, reads the report on the last one, and keeps the process stopped in
between. So several trainings take turns on one machine and start only once.
"""

from __future__ import annotations

import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["SliceController"]


class SliceController:
    """The position of a training in its slice.

    Args:
        descriptors: the pipe to read commands from, and the pipe to write reports to.
        steps: the number of steps in the first slice, which is the warm-up.
    """

    def __init__(self, descriptors: Sequence[int], steps: int) -> None:
        self._words, self._reports = descriptors
        self._steps, self._seconds = steps, 0.0
        self._begun = time.monotonic()
        self._count = 0
        self._buffer = b""

    def is_over(self) -> bool:
        """Count a step, and say whether it was the last of the slice."""
        self._count += 1
        late = time.monotonic() - self._begun >= self._seconds
        return late and self._count >= self._steps

    def report(self, record: dict[str, Any]) -> None:
        """Report the slice to the launcher.

        Args:
            record: as a watch writes it.
        """
        line = json.dumps(record).encode() + b"\n"
        while line:
            line = line[os.write(self._reports, line) :]

    def wait(self) -> bool:
        """Wait for the next slice; return False if there is none."""
        while b"\n" not in self._buffer:
            more = os.read(self._words, 4096)
            if not more:
                return False
            self._buffer += more
        word, _, self._buffer = self._buffer.partition(b"\n")
        self._seconds, self._steps = json.loads(word)
        self._count, self._begun = 0, time.monotonic()
        return True
