"""The launcher of the workers that a call of a running script wants: a job of nano-run's.

    python call_job_main.py FOLDER PATH...

It is run by its path, and takes its `sys.path` from the command line before it imports anything
of nano-init's.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys

if __name__ == "__main__":
    sys.path[:] = sys.argv[2:]

from nano_init.errors import NanoError
from nano_init.launch.job import TAIL_FOLLOWS
from nano_init.parent_death import die_with_parent
from nano_init.protocol.call_job import read_job, said_path
from nano_init.protocol.target import Target
from nano_init.run.job_workers import run_workers
from nano_init.run.request import JobRequest, RunRequest
from nano_init.survey import survey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.protocol.call_job import CallJob

__all__ = ["main"]


def main(folder: str, environ: Mapping[str, str] = os.environ) -> int:
    """Run the job stored in a folder, and end when the script that requested it ends.

    Args:
        folder: where the job lies.
        environ: this process's environment.

    Returns:
        The exit status of the job.
    """
    job = read_job(folder)
    _end_with(job.parent)

    def report(sentence: str) -> None:
        with open(said_path(folder), "a", encoding="utf-8") as file:
            file.write(sentence.removesuffix(TAIL_FOLLOWS) + "\n")

    own = {name: value for name, value in environ.items() if name != "TF_CONFIG"}
    try:
        return run_workers(_request(job), survey(own), own, report) or 0
    except NanoError as error:
        report(str(error))
        return error.exit_code
    finally:
        if os.getppid() != job.parent:
            shutil.rmtree(folder, ignore_errors=True)


def _end_with(parent: int) -> None:
    """Have this process asked to end when the script that started it has."""
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)


def _request(job: CallJob) -> RunRequest:
    return RunRequest(
        Target(job.program, (job.folder,)),
        patch=job.patch,
        quiet=True,
        job=JobRequest(workers=str(job.workers), hosts=1, oversubscribe=True),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
