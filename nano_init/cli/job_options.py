"""The options of `nano-run` that make one script several workers, on one host or many."""

from __future__ import annotations

from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["JOB_VARIABLES", "JobOptions", "job_options", "take_job_options"]


@frozen
class JobOptions:
    """How many workers there shall be, where, and what becomes of them.

    Args:
        workers: workers on this host: a number, "auto", or None where it was not asked for.
        hosts: hosts of the job, or None.
        host_rank: this host's number, or None to learn it from Slurm or MPI.
        master_addr: the address of host 0; "" to learn it.
        master_port: the port of the launcher there; 0 for the usual one.
        start_timeout: seconds to wait for workers and hosts that have not come.
        max_restarts: how often the job is started anew when a worker has failed.
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
        return self.has_workers or bool(stays or placed)


# Each option's names, its place in JobOptions, and what click is told of it.
_OPTIONS: tuple[tuple[tuple[str, ...], str, dict[str, Any]], ...] = (
    (
        ("--nproc-per-node", "--nproc_per_node"),
        "workers",
        {
            "metavar": "N|auto",
            "help": "Train data-parallel: run N workers on this host, each on cores of its own; "
            "auto takes one for each NUMA node or last-level cache.",
        },
    ),
    (
        ("--nnodes",),
        "hosts",
        {"metavar": "N", "help": "Hosts of the job; nano-run is started on each of them."},
    ),
    (
        ("--node-rank", "--node_rank"),
        "host_rank",
        {"metavar": "R", "help": "This host's number, from 0; Slurm and MPI tell it themselves."},
    ),
    (
        ("--master-addr", "--master_addr"),
        "master_addr",
        {"metavar": "HOST", "help": "The name or address of host 0."},
    ),
    (
        ("--master-port", "--master_port"),
        "master_port",
        {"metavar": "P", "help": "A free port of host 0, for the launchers to meet; 29400."},
    ),
    (
        ("--start-timeout", "--start_timeout"),
        "start_timeout",
        {
            "metavar": "SECONDS",
            "help": "How long to wait for a worker or a host that has not come, to start or to a "
            "save; 600.",
        },
    ),
    (
        ("--max-restarts", "--max_restarts"),
        "max_restarts",
        {
            "metavar": "K",
            "help": "Start the job anew, up to K times, when a worker has failed; a script with "
            "Keras's BackupAndRestore goes on from its backup.",
        },
    ),
    (
        ("--log-dir", "--log_dir"),
        "log_dir",
        {"metavar": "DIR", "help": "Keep each worker's output in DIR/worker-N.log."},
    ),
    (
        ("--tee",),
        "tee",
        {"is_flag": True, "help": "Show all workers' output, each line with the worker's number."},
    ),
    (
        ("--oversubscribe",),
        "oversubscribe",
        {"is_flag": True, "help": "Allow more workers than cores; they are not bound then."},
    ),
    (
        ("--compress-gradients", "--compress_gradients"),
        "compress",
        {"is_flag": True, "help": "Send gradients between hosts as bfloat16."},
    ),
    (
        ("--sysroot",),
        "sysroot",
        {
            "metavar": "DIR",
            "help": "With --dry-run: where workers would run on a recorded machine.",
        },
    ),
)


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a job to a click command; they reach it as `job_...` arguments."""
    import click

    for names, field, settings in reversed(_OPTIONS):
        twin = _twin(names[0])
        command = click.option(*names, f"job_{field}", envvar=twin, **settings)(command)
    return command


def _twin(name: str) -> str:
    return "NANO_RUN_" + name[2:].upper().replace("-", "_")


def take_job_options(given: dict[str, Any]) -> JobOptions:
    """Take the options of a job out of a click command's arguments.

    Args:
        given: the arguments, as click calls the command with them.

    Raises:
        UsageError: a value is none of those allowed.
    """
    values = {field: given.pop(f"job_{field}") for _, field, _ in _OPTIONS}
    least = {
        "hosts": (1, 65536),
        "host_rank": (0, 65535),
        "master_port": (1, 65535),
        "start_timeout": (1, 10**6),
        "max_restarts": (0, 10**6),
    }
    chosen = {field: value for field, value in values.items() if value is not None}
    for names, field, _ in _OPTIONS:
        if field in least and field in chosen:
            chosen[field] = _parse_number(chosen[field], names[0], *least[field])
    return JobOptions(**chosen)


# A nano-run that a worker starts is a program of its own, not a job within the job.
JOB_VARIABLES = tuple(_twin(names[0]) for names, _, _ in _OPTIONS)


def _parse_number(text: str, name: str, least: int, most: int) -> int:
    from nano_init.errors import UsageError

    if text.isascii() and text.isdigit() and len(text) < 9 and least <= int(text) <= most:
        return int(text)
    raise UsageError(f"{name} is {text[:40]!r}; give a whole number from {least} to {most}")
