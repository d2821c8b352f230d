"""Where trainings of a search run: how many start side by side, and how many find room."""

from __future__ import annotations

from nano_init.errors import LateSampleError, SampleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nano_init.evidence.tuning.pausable_training import PausableTraining
    from nano_init.plan.configuration import Configuration

    # A training, or why there is none; and whether it shares its start with others.
    _Launched = tuple[PausableTraining | SampleError, bool]

__all__ = ["LocalTrialRunner"]

# Of the memory that is free, the share that trainings may take: files are cached in the rest.
_MEMORY_SHARE = 0.7

# Before one is known: what TensorFlow with a small model has resident.
_USUAL_KB = 700_000

_MOST = 12


class LocalTrialRunner:
    """This machine: trainings start on all its cores, and then wait for their turn.

    Args:
        launch: starts a process that trains in a configuration from a seed; its third argument
            says whether that may share its start with others.
        cores: the usable cores.
        free_bytes: returns the memory that is free for them.
        patience: returns how long one may take to its first steps, in seconds.
        tick: called whenever something has taken a while, to show progress.
    """

    def __init__(
        self,
        launch: Callable[[Configuration, int, bool], PausableTraining],
        cores: int,
        free_bytes: Callable[[], float],
        patience: Callable[[], float],
        tick: Callable[[], None],
    ) -> None:
        self._launch, self._free_bytes = launch, free_bytes
        # Importing TensorFlow and tracing a graph keep about one core busy.
        self._side = min(cores, _MOST)
        self._patience, self._tick = patience, tick
        self._peak_kb = _USUAL_KB
        self._may_share = True

    def start(
        self, wanted: Sequence[tuple[Configuration, int]]
    ) -> list[PausableTraining | SampleError]:
        """Start configurations, each from a seed, side by side, and let them warm up.

        Args:
            wanted: the configurations and their seeds.

        Returns:
            For each the training, or why there is none.
        """
        launched: list[_Launched] = []
        outcomes: list[PausableTraining | SampleError] = []
        try:
            for number in range(len(wanted)):
                while len(launched) < min(len(wanted), number + self._side):
                    launched.append(self._launched(*wanted[len(launched)]))
                outcomes.append(self._warmed_up(launched[number], *wanted[number]))
                self._tick()
        except BaseException:
            for training in (*(each for each, _ in launched), *outcomes):
                if not isinstance(training, SampleError):
                    training.close()
            raise
        return outcomes

    def room(self) -> int:
        """Return how many more fit into the memory."""
        return min(_MOST, int(_MEMORY_SHARE * self._free_bytes() / 1024 / self._peak_kb))

    def _launched(self, configuration: Configuration, seed: int) -> _Launched:
        shares = self._may_share
        try:
            return self._launch(configuration, seed, shares), shares
        except SampleError as error:
            return error, shares

    def _warmed_up(
        self, launched: _Launched, configuration: Configuration, seed: int
    ) -> PausableTraining | SampleError:
        training, shared = launched
        outcome = self._warm_up(training)
        if not shared or isinstance(outcome, LateSampleError):  # there is no time for another
            return outcome
        has_changed = not isinstance(outcome, SampleError) and bool(outcome.changed)
        if not (isinstance(outcome, SampleError) or has_changed):
            return outcome
        # What the script itself sets comes too late where TensorFlow is imported already, and
        # what failed may have failed because it started there.
        if not isinstance(outcome, SampleError):
            outcome.close()
        before, self._may_share = self._may_share, False
        own = self._warm_up(self._launched(configuration, seed)[0])
        self._may_share = before and isinstance(own, SampleError) and not has_changed
        if isinstance(own, LateSampleError) and isinstance(outcome, SampleError):
            return outcome  # it says more
        return own

    def _warm_up(self, training: PausableTraining | SampleError) -> PausableTraining | SampleError:
        if isinstance(training, SampleError):
            return training
        try:
            training.warm_up(self._patience())
        except SampleError as error:
            training.close()
            return error
        self._peak_kb = max(self._peak_kb, training.peak_kb or 0)
        return training
