"""BigDL-Nano's `num_processes`, for `fit` and for a training function."""

from __future__ import annotations

import functools

from nano_init.distributed.worker_startup import current_membership
from nano_init.errors import UsageError
from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.notice import warn
from nano_init.keras_patch.own_frames import without_own_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Model

__all__ = ["fit_replacements", "nano", "starts_processes"]

_MOST_PROCESSES = 4096


def fit_replacements() -> Iterator[Replacement]:
    """Yield the replacements that let `fit` take `num_processes` and BigDL-Nano's `backend`."""
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    fit = vars(TensorFlowTrainer)["fit"]
    yield Replacement(TensorFlowTrainer, "fit", _wrap_fit(fit))


def _wrap_fit(fit: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fit)
    def fit_in_processes(
        self: Model,
        *args: Any,
        num_processes: int | None = None,
        backend: str | None = None,
        **kwargs: Any,
    ) -> Any:
        if num_processes is None or not starts_processes(num_processes, backend):
            return fit(self, *args, **kwargs)
        from nano_init.process_calls import fitting

        return fitting.fit_in_processes(fit, self, args, kwargs, num_processes)

    return fit_in_processes


def nano(num_processes: int = 1) -> Callable[[Any], Any]:
    """Run a training function in several processes that share its steps.

    The function runs unchanged in each process and must train through `fit` or a step decorated
    with `nano_multiprocessing`. Afterwards the models, optimizers and metrics that it uses have the
    trained values, and it returns what it returned in the first process. The script's own process
    reads the data sets, once.

    Args:
        num_processes: Number of processes.

    Raises:
        UsageError: The number is invalid; or, when the function is called, something that it uses
            cannot be sent to another process.
        WorkerError: A process failed when the function was called; models are as before the call.
    """
    _check_number(num_processes)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not starts_processes(num_processes):
            return function

        @functools.wraps(function)
        def train(*args: Any, **kwargs: Any) -> Any:
            # A worker that unpickles this function starts no processes.
            if not starts_processes(num_processes):
                return function(*args, **kwargs)
            from nano_init.process_calls.call import call_in_processes

            return call_in_processes(function, args, kwargs, num_processes)

        shown: Callable[..., Any] = without_own_frames(train)
        return shown

    return decorate


def starts_processes(wanted: int, backend: str | None = None) -> bool:
    """Say whether processes must be started; inside a job only their number is checked.

    Args:
        wanted: The number of processes that the script asks for.
        backend: The backend with which BigDL-Nano would start them.

    Raises:
        UsageError: The number is invalid.

    Warns:
        UserWarning: The job has a different number of workers, or the backend is ignored.
    """
    _check_number(wanted)
    if backend not in (None, "multiprocessing"):
        warn(f"backend={backend!r} of BigDL-Nano is ignored; nano-init starts processes itself")
    membership = current_membership()
    if membership is not None and membership.workers != wanted:
        warn(
            f"num_processes={wanted}, but nano-run --nproc-per-node already runs the script in "
            f"{membership.workers}; these are used"
        )
    return membership is None and wanted > 1


def _check_number(wanted: object) -> None:
    is_number = isinstance(wanted, int) and not isinstance(wanted, bool)
    if not is_number or not 1 <= wanted <= _MOST_PROCESSES:  # type: ignore[operator]
        raise UsageError(
            f"num_processes is {wanted!r}; give a whole number from 1 to {_MOST_PROCESSES}"
        )
