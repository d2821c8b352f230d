"""The program of each worker that a script starts: it executes the call in a folder.

It is run by its path, and must not import nano-init before it has set `sys.path` as in the script.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(folder: str) -> int:
    """Execute the call in a folder, and return the exit status."""
    with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    sys.path[:] = job["path"]
    sys.argv[:] = job["argv"]
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        _answer(folder)
    except KeyboardInterrupt:
        return 130
    except BaseException as error:  # noqa: BLE001 - it is raised in the script
        _report(error, folder)
        return 1
    return 0


def _answer(folder: str) -> None:
    from nano_init.distributed.worker_startup import current_membership
    from nano_init.process_calls import call, remote_dataset, serialize, values

    about, _ = serialize.read_packed(call.call_path(folder) + "-about")
    _take_settings(about)
    remote_dataset.connect_to_server(about.server)
    (function, arguments, named), objects = serialize.read_packed(call.call_path(folder))
    values.give_values(objects, about.values)
    value = function(*arguments, **named)
    result = serialize.pack_back((value, values.take_values(objects)), objects)
    membership = current_membership()
    if membership is None or membership.index == 0:
        serialize.write_packed(result, call.result_path(folder))


def _take_settings(about: Any) -> None:
    import linecache

    import keras

    linecache.cache.update(about.lines)
    for name, setting in about.keras.items():
        if name == "dtype_policy":
            if keras.config.dtype_policy().name != setting:
                keras.config.set_dtype_policy(setting)
        else:
            getattr(keras.config, f"set_{name}")(setting)


def _report(error: BaseException, folder: str) -> None:
    import time
    import traceback

    from nano_init.distributed.worker_startup import current_membership, report_status
    from nano_init.process_calls.call import Fault, fault_path

    report_status("failed", type(error).__name__)
    membership = current_membership()
    worker = membership.index if membership is not None else 0
    lines = traceback.format_exception(error)
    sentence = "".join(traceback.format_exception_only(error)).strip()
    fault = Fault(time.monotonic_ns(), worker, sentence, "".join(lines))
    path = fault_path(folder, worker)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(vars(fault), file)
    os.replace(f"{path}.new", path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
