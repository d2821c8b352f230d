"""The launcher of the workers that a running script wants: a job of nano-run's in a process."""

from __future__ import annotations

import os
import shutil

from nano_init.cli.job_options import JobOptions
from nano_init.cli.run import RunRequest
from nano_init.errors import NanoError
from nano_init.launch.job import TAIL_FOLLOWS
from nano_init.plan.settings import Options
from nano_init.process_calls.launcher_process import read_job, said_path, tie_to_parent
from nano_init.protocol.patch_options import TrainingOptions
from nano_init.protocol.target import Target
from nano_init.run.job_workers import run_workers
from nano_init.shells.transition import original

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.process_calls.launcher_process import Job

__all__ = ["main"]


def main(folder: str, environ: Mapping[str, str] = os.environ) -> int:
    """Run the job that lies in a folder, and end with the script that wants it.

    Args:
        folder: where the job lies.
        environ: this process's environment.

    Returns:
        The exit status of the job.
    """
    job = read_job(folder)
    tie_to_parent(job.parent)

    def tell(sentence: str) -> None:
        with open(said_path(folder), "a", encoding="utf-8") as file:
            file.write(sentence.removesuffix(TAIL_FOLLOWS) + "\n")

    theirs = {name: value for name, value in original(environ)[0].items() if name != "TF_CONFIG"}
    try:
        return run_workers(*_request(job), theirs, tell) or 0
    except NanoError as error:
        tell(str(error))
        return error.exit_code
    finally:
        if os.getppid() != job.parent:
            shutil.rmtree(folder, ignore_errors=True)


def _request(job: Job) -> tuple[RunRequest, JobOptions]:
    patch = job.patch
    request = RunRequest(
        Target(job.program, (job.folder,)),
        Options(precision=str(patch.get("precision", "float32"))),
        quiet=True,
        keep_float32=_names(patch.get("keep_float32")),
        training=TrainingOptions(
            _names(patch.get("disable")),
            bool(patch.get("lazy_adam")),
            patch.get("steps_per_execution"),  # type: ignore[arg-type]
        ),
    )
    return request, JobOptions(workers=str(job.workers), hosts=1, oversubscribe=True)


def _names(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) else ()
