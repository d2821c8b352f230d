"""What one call of `nano-run` asks for. Values only."""

from __future__ import annotations

from nano_init.frozen import frozen
from nano_init.plan.settings import Options
from nano_init.protocol.patch_options import PatchOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nano_init.protocol.target import Target

__all__ = ["EvidenceRequest", "JobRequest", "RunRequest"]


@frozen
class JobRequest:
    """How many workers there shall be, where, and what becomes of them.

    Args:
        workers: workers on this host: a number, "auto", or None where it was not asked for.
        hosts: hosts of the job, or None.
        host_rank: this host's number, or None to learn it from Slurm or MPI.
        master_addr: the address of host 0; "" to learn it.
        master_port: the port of the launcher there; 0 for the usual one.
        secret_file: a file with the secret of the job's launchers; "" for none.
        start_timeout: seconds to wait for workers and hosts that have not come.
        max_restarts: how often the job is restarted when a worker has failed.
        log_dir: a folder for each worker's output; "" for none.
        tee: show every worker's output, each line with its number.
        oversubscribe: more workers than cores are allowed.
        compress: gradients travel between hosts in bfloat16.
        sysroot: plan for a recorded machine; "/" for this one.
    """

    workers: str | None = None
    hosts: int | None = None
    host_rank: int | None = None
    master_addr: str = ""
    master_port: int = 0
    secret_file: str = ""
    start_timeout: int = 600
    max_restarts: int = 0
    log_dir: str = ""
    tee: bool = False
    oversubscribe: bool = False
    compress: bool = False
    sysroot: str = "/"

    @property
    def has_workers(self) -> bool:
        """Say whether the user wants workers, or a place among other hosts'."""
        return self.workers is not None or self.hosts is not None

    @property
    def is_asked(self) -> bool:
        """Say whether the script needs a launcher that stays: for one worker alone, too."""
        stays = self.max_restarts or self.log_dir or self.tee or self.sysroot != "/"
        placed = self.host_rank is not None or self.master_addr or self.master_port
        placed = placed or self.secret_file
        return self.has_workers or bool(stays or placed)


@frozen
class EvidenceRequest:
    """What to measure, instead of running the program or in addition.

    Args:
        compare: sample it under plain `python` and under `nano-run`.
        as_json: print the comparison as JSON.
        tune: search for the fastest way to train first, and run the program in it.
        tune_budget: the seconds that the search may take.
        report: None, or where to write the report on the run: "" for the terminal alone.
        steps: training steps of one sample.
        rounds: samples of each way in a comparison.
        seconds: the longest that one sample may train.
    """

    compare: bool = False
    as_json: bool = False
    tune: bool = False
    tune_budget: float = 60.0
    report: str | None = None
    steps: int = 30
    rounds: int = 4
    seconds: float = 60.0

    @property
    def measures(self) -> bool:
        """Say whether there is anything to measure."""
        return self.compare or self.tune or self.report is not None


@frozen
class RunRequest:
    """One call of `nano-run`.

    Args:
        target: the program.
        options: the options for the environment.
        patch: the options for the patch of Keras.
        warning: one sentence about names that are no faster path, or None.
        dry_run: print how the program would be run.
        quiet: say nothing about what was chosen.
        job: the options for several workers.
        evidence: what is to be measured.
        use_cache: use and remember what was measured.
        measures_precision: let the matmul benchmark choose the precision: `--precision measured`.
    """

    target: Target
    options: Options = Options()
    patch: PatchOptions = PatchOptions()
    warning: str | None = None
    dry_run: bool = False
    quiet: bool = False
    job: JobRequest = JobRequest()
    evidence: EvidenceRequest = EvidenceRequest()
    use_cache: bool = True
    measures_precision: bool = False
