"""A configuration in the race for the fastest: its training, and all that was measured of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from nano_init.errors import LateSampleError, MemorySampleError, SampleError, ScriptError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from nano_init.plan.configuration import Configuration

    class Training(Protocol):
        """A training that has made its first steps, and continues one slice at a time."""

        losses: list[tuple[int, float]]
        signature: str

        def train(self, seconds: float, patience: float) -> Sequence[float]:
            """Return the seconds of each step of a slice, or raise SampleError."""

        def close(self) -> None:
            """End it."""


__all__ = ["Candidate", "Training"]


@dataclass
class Candidate:
    """A configuration in the progress.

    Args:
        configuration: what it trains in.
        training: the one that runs, if one does.
        runs: its step times over the default's, one series for each process.
        times: its step times.
        losses: the number of a step, and its loss.
        signature: the shapes of the trained variables.
        fault: why nothing could be measured of it; "" otherwise.
        failure: the script's own error in it, if that is why.
        is_late: whether its time was over, if that is why.
        is_short_of_memory: whether the memory was too short, if that is why.
    """

    configuration: Configuration
    training: Training | None = None
    runs: list[list[float]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    signature: str = ""
    fault: str = ""
    failure: ScriptError | None = None
    is_late: bool = False
    is_short_of_memory: bool = False

    def start(self, outcome: Training | SampleError, *, is_new_run: bool = True) -> None:
        """Take a training that has been started for this one, or why there is none."""
        if isinstance(outcome, SampleError):
            if not self.times:  # one process that failed takes nothing from those before it
                self.fault = str(outcome)
                self.failure = outcome if isinstance(outcome, ScriptError) else None
                self.is_late = isinstance(outcome, LateSampleError)
                self.is_short_of_memory = isinstance(outcome, MemorySampleError)
            return
        self.training = outcome
        if is_new_run:
            self.runs.append([])

    def note(self, seconds: float, ratio: float) -> None:
        """Keep what a round has shown."""
        self.times.append(seconds)
        self.runs[-1].append(ratio)

    def stop(self) -> None:
        """End the training; what was measured stays."""
        if self.training is not None:
            self.losses = self.seen_losses()
            self.training.close()
            self.training = None

    def seen_losses(self) -> list[tuple[int, float]]:
        """Return the losses of the training that has made most steps."""
        if self.training is None:
            return self.losses
        self.signature = self.training.signature or self.signature
        return max(self.losses, list(self.training.losses), key=len)
