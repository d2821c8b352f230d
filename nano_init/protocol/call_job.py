"""The job that a call in a running script starts, as its launcher and workers receive it.

It is a JSON file in the call's folder. The workers' program reads it before it can import
nano-init, so the names in it are part of the protocol.
"""

from __future__ import annotations

import json
import os

from nano_init.frozen import frozen
from nano_init.protocol.patch_options import PatchOptions, patch_options_from_json

__all__ = ["CallJob", "read_job", "said_path", "write_job"]


@frozen
class CallJob:
    """A job for one call.

    Args:
        folder: the folder for the call and its result.
        workers: the number of workers.
        program: the script that each worker runs, with the folder as its argument.
        parent: the process id of the script.
        path: the script's `sys.path`.
        argv: the script's `sys.argv`.
        patch: the options of the active patch.
    """

    folder: str
    workers: int
    program: str
    parent: int
    path: tuple[str, ...]
    argv: tuple[str, ...]
    patch: PatchOptions


def write_job(job: CallJob) -> None:
    """Write a job to its folder."""
    with open(_job_path(job.folder), "w", encoding="utf-8") as file:
        json.dump({**vars(job), "patch": job.patch.to_json()}, file)


def read_job(folder: str) -> CallJob:
    """Return the job in a folder."""
    with open(_job_path(folder), encoding="utf-8") as file:
        values = json.load(file)
    for name in ("path", "argv"):
        values[name] = tuple(values[name])
    return CallJob(**{**values, "patch": patch_options_from_json(values["patch"])})


def said_path(folder: str) -> str:
    """Return the path of the file with the launcher's error message."""
    return os.path.join(folder, "said")


def _job_path(folder: str) -> str:
    return os.path.join(folder, "job.json")
