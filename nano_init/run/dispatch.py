"""Answer a request of `nano-run`: measure, launch workers, or become the program."""

from __future__ import annotations

import os

from nano_init.errors import UsageError
from nano_init.launch.script_check import check_target
from nano_init.plan.precision import check_precision
from nano_init.run.single_run import become, prepare
from nano_init.survey import survey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.run.request import RunRequest
    from nano_init.survey import Surroundings

__all__ = ["run"]


def run(request: RunRequest, environ: Mapping[str, str] = os.environ) -> int:
    """Become the program of a request, or print how that would be done.

    Args:
        request: the request.
        environ: this process's environment.

    Returns:
        The exit code where no program is started.

    Raises:
        NanoError: the program cannot be started as asked.
    """
    is_job = request.job.is_asked
    if request.evidence.measures and is_job:
        raise UsageError("--compare, --tune and --report cannot be combined with --nproc-per-node")
    if request.job.sysroot != "/" and not request.dry_run:
        raise UsageError(
            "--sysroot needs --dry-run: it shows where workers would run on a recorded machine"
        )
    if request.measures_precision and is_job:
        raise UsageError(
            "--precision measured is for a single process; "
            "with several workers use auto, float32 or mixed_bfloat16"
        )
    check_precision(request.patch.precision)
    check_target(request.target)
    if request.evidence.measures:
        from nano_init.run.measure import measure

        return measure(request, _survey(request, environ))
    if is_job:
        from nano_init.run.job_workers import run_workers

        surroundings = _survey(request, environ)
        status = run_workers(request, surroundings, environ)
        if status is not None:
            return status
        return become(request, prepare(request, surroundings))
    return become(request, prepare(request, _survey(request, environ)))


def _survey(request: RunRequest, environ: Mapping[str, str]) -> Surroundings:
    root, asked = request.job.sysroot, check_precision(request.patch.precision)
    return survey(environ, root, asked=asked, import_folder=request.target.import_folder)
