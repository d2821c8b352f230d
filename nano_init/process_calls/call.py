"""A call in the script that several processes execute together, as the workers of a job."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile

from nano_init.errors import UsageError, WorkerError
from nano_init.frozen import frozen
from nano_init.keras_patch.notice import warn
from nano_init.process_calls.dataset_server import (
    DatasetServer,
    DatasetServerAddress,
    ServedDataset,
)
from nano_init.process_calls.launcher_process import run_processes
from nano_init.process_calls.serialize import pack, read_packed, write_packed
from nano_init.process_calls.values import give_values, take_values
from nano_init.protocol.call_job import CallJob, said_path
from nano_init.protocol.programs import CALL_WORKER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset

__all__ = ["Call", "Fault", "call_in_processes", "call_path", "fault_path", "result_path"]


@frozen
class Call:
    """What each worker needs besides the call itself.

    Args:
        server: the address of the server for batches.
        keras: Keras's settings in the script: names and values in `keras.config`.
        lines: source that only the script's process has, as entries of `linecache`.
        values: the values of the Keras objects in the call.
    """

    server: DatasetServerAddress
    keras: Mapping[str, Any]
    lines: Mapping[str, Any]
    values: list[dict[str, Any]]


@frozen
class Fault:
    """The failure of a worker.

    Args:
        moment: the time in nanoseconds of the monotonic clock.
        worker: the worker's index.
        sentence: the exception in one line or more.
        traceback: the complete traceback.
    """

    moment: int
    worker: int
    sentence: str
    traceback: str


def call_in_processes(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    named: Mapping[str, Any],
    workers: int,
    sources: Mapping[int, ServedDataset] | None = None,
) -> Any:
    """Call a function in several processes at once, which share its training steps.

    Models, optimizers and metrics that the call uses have the chief's values afterwards.

    Args:
        function: the function to call.
        arguments: its positional arguments.
        named: its keyword arguments.
        workers: the number of processes.
        sources: how to read a data set, by its `id`, if not by plain iteration.

    Returns:
        What the function returned on the chief.

    Raises:
        UsageError: something in the call cannot be sent to another process.
        WorkerError: a worker failed; models are unchanged.
        KeyboardInterrupt: the user interrupted it; models are unchanged.
    """
    _warn_of_sharing(workers)
    folder = tempfile.mkdtemp(prefix="nano-init-")
    try:
        objects = _run((function, arguments, dict(named)), workers, sources or {}, folder)
        value, values = read_packed(result_path(folder), objects)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    give_values(objects, values)
    return value


def _run(call: Any, workers: int, sources: Mapping[int, ServedDataset], folder: str) -> list[Any]:
    """Let the workers write the call's result to the folder, and return its Keras objects."""
    with DatasetServer(workers, folder) as server:
        objects = _write(call, server, sources, folder)
        status = run_processes(_job(folder, workers), _environ())
    if status or not os.path.exists(result_path(folder)):
        raise server.fault or _failure(folder, workers, status)
    return objects


def _warn_of_sharing(workers: int) -> None:
    from nano_init.machine.probe import probe
    from nano_init.plan.decide import thread_cap
    from nano_init.plan.settings import Options
    from nano_init.plan.threads import count_threads

    cores = count_threads(probe(), *thread_cap(Options(), os.environ)).usable_cores
    if workers > cores:
        warn(
            f"num_processes={workers} is more than the {cores} cores in use here: the "
            "processes share them"
        )


def call_path(folder: str) -> str:
    """Return the path of the file with the call."""
    return os.path.join(folder, "call")


def result_path(folder: str) -> str:
    """Return the path of the file with the chief's result."""
    return os.path.join(folder, "result")


def fault_path(folder: str, worker: int) -> str:
    """Return the path of the file with a worker's failure."""
    return os.path.join(folder, f"fault-{worker}.json")


def _write(
    call: Any, server: DatasetServer, sources: Mapping[int, ServedDataset], folder: str
) -> list[Any]:
    """Write the call into the folder, and return the Keras objects in it."""
    from nano_init.process_calls.remote_dataset import remote_dataset

    def reduce_dataset(dataset: Dataset) -> Any:
        source = sources.get(id(dataset)) or ServedDataset(dataset)
        return remote_dataset, (server.add(source), dataset.element_spec, source.cardinality)

    packed, objects = pack(call, reduce_dataset)
    write_packed(packed, call_path(folder))
    about = Call(server.address, _keras_settings(), _own_lines(), take_values(objects))
    write_packed(pack(about, reduce_dataset)[0], call_path(folder) + "-about")
    return objects


def _keras_settings() -> dict[str, Any]:
    import keras

    return {
        "dtype_policy": keras.config.dtype_policy().name,
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "image_data_format": keras.config.image_data_format(),
    }


def _own_lines() -> dict[str, Any]:
    """Return a notebook's cells, whose source AutoGraph needs to convert functions."""
    import linecache

    own = {n: e for n, e in linecache.cache.items() if len(e) > 1 and not os.path.exists(n)}
    # An entry without a time is kept even if there is no file (linecache.checkcache).
    return {name: (entry[0], None, *entry[2:]) for name, entry in own.items()}


def _job(folder: str, workers: int) -> CallJob:
    from nano_init.keras_patch.active_options import current_options

    path = tuple(os.path.abspath(entry) for entry in sys.path)
    argv = tuple(sys.argv)
    return CallJob(folder, workers, CALL_WORKER, os.getpid(), path, argv, current_options())


def _environ() -> Mapping[str, str]:
    from nano_init.shells.transition import original

    return original(os.environ)[0]


def _failure(folder: str, workers: int, status: int) -> Exception:
    faults = []
    for worker in range(workers):
        if os.path.exists(fault_path(folder, worker)):
            with open(fault_path(folder, worker), encoding="utf-8") as file:
                faults.append(Fault(**json.load(file)))
    if faults:
        first = _culprit(faults)
        return WorkerError(
            f"worker {first.worker} of {workers} failed: {first.sentence}\n\n"
            f"its traceback:\n{first.traceback}"
        )
    sentence = f"the workers ended with exit status {status}"
    if os.path.exists(said_path(folder)):
        with open(said_path(folder), encoding="utf-8") as file:
            sentence = file.read().strip() or sentence
    # An immediate failure of the launcher means that the request was invalid.
    return UsageError(sentence) if status == UsageError.exit_code else WorkerError(sentence)


def _culprit(faults: list[Fault]) -> Fault:
    """Return the first fault; if all workers had the same one, the chief's."""
    first = min(faults, key=lambda fault: fault.moment)
    alike = [fault for fault in faults if fault.sentence == first.sentence]
    return min(alike, key=lambda fault: fault.worker)
