"""The job that a call of a running script starts: what its launcher and its workers are given.

It lies as JSON in the call's folder. The program of the workers reads it before it may import
anything of nano-init's, so that its names are part of the protocol.
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
        folder: where the call lies, and its outcome.
        workers: how many there shall be.
        program: the script that each worker runs, with the folder as its argument.
        parent: the process id of the script that wants them.
        path: the script's `sys.path`.
        argv: the script's `sys.argv`.
        patch: the options of the patch that is in force.
    """

    folder: str
    workers: int
    program: str
    parent: int
    path: tuple[str, ...]
    argv: tuple[str, ...]
    patch: PatchOptions


def write_job(job: CallJob) -> None:
    """Write a job into its folder."""
    with open(_job_path(job.folder), "w", encoding="utf-8") as file:
        json.dump({**vars(job), "patch": job.patch.to_json()}, file)


def read_job(folder: str) -> CallJob:
    """Return the job that was written into a folder."""
    with open(_job_path(folder), encoding="utf-8") as file:
        values = json.load(file)
    for name in ("path", "argv"):
        values[name] = tuple(values[name])
    return CallJob(**{**values, "patch": patch_options_from_json(values["patch"])})


def said_path(folder: str) -> str:
    """Return the file in which the launcher says what went wrong."""
    return os.path.join(folder, "said")


def _job_path(folder: str) -> str:
    return os.path.join(folder, "job.json")
