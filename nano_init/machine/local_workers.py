"""How many processes of the same job share this host."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WORKER_VARIABLES", "count_local_workers", "parse_tasks_per_node"]

# The innermost launcher first: torchrun may run under mpirun, and mpirun under srun.
_LOCAL_SIZES = (
    "LOCAL_WORLD_SIZE",  # torchrun
    "OMPI_COMM_WORLD_LOCAL_SIZE",  # Open MPI
    "MPI_LOCALNRANKS",  # MPICH, Intel MPI
    "MV2_COMM_WORLD_LOCAL_SIZE",  # MVAPICH
    "PMI_LOCAL_SIZE",  # Cray MPICH
    "JSM_NAMESPACE_LOCAL_SIZE",  # jsrun
)
_SLURM_STEPS = ("SLURM_STEP_ID", "SLURM_STEPID")
_SLURM_TASKS = ("SLURM_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE")
WORKER_VARIABLES = (
    *_LOCAL_SIZES,
    "SLURM_STEP_TASKS_PER_NODE",
    *_SLURM_TASKS,
    *_SLURM_STEPS,
    "SLURM_LOCALID",
    "SLURM_NODEID",
)
_MOST_WORKERS = 65536


def count_local_workers(environ: Mapping[str, str]) -> tuple[int, str, tuple[str, ...]]:
    """Return how many processes of this job run on this host.

    Slurm's variables count only in a job step: a batch script is one process, however many
    tasks its steps will have (sbatch(1), srun(1)).

    Returns:
        The number of processes, the variable that gives it ("" if none does), and warnings.
    """
    warnings: list[str] = []
    for name in _LOCAL_SIZES:
        text = environ.get(name, "")
        if _is_count(text):
            return int(text), name, tuple(warnings)
        if text:
            warnings.append(f"{name}={text[:40]!r} is ignored: it is not a number of processes")
    slurm = _find_slurm_variable(environ)
    text = environ.get(slurm, "")
    tasks = parse_tasks_per_node(text)
    # --ntasks-per-node is one number, the same for all nodes.
    node = "0" if slurm == "SLURM_NTASKS_PER_NODE" else environ.get("SLURM_NODEID", "0")
    if node.isascii() and node.isdigit() and int(node[:9]) < len(tasks):
        return tasks[int(node[:9])], slurm, tuple(warnings)
    if text:
        warnings.append(f"{slurm}={text[:40]!r} is ignored: it has no number for this node")
    return 1, "", tuple(warnings)


def _find_slurm_variable(environ: Mapping[str, str]) -> str:
    """Return the variable with the tasks of each node; "" outside a job step."""
    if "SLURM_STEP_TASKS_PER_NODE" in environ:
        return "SLURM_STEP_TASKS_PER_NODE"
    # The batch script has a local id too, but it is always 0.
    in_step = any(name in environ for name in _SLURM_STEPS)
    if not in_step and environ.get("SLURM_LOCALID", "0") == "0":
        return ""
    return next((name for name in _SLURM_TASKS if name in environ), "")


def parse_tasks_per_node(text: str) -> tuple[int, ...]:
    """Return the tasks on each node of Slurm's list "2(x3),1": 2, 2, 2, 1; () if it is none."""
    tasks: list[int] = []
    for piece in text.split(","):
        count, repeated, rest = piece.partition("(x")
        times = rest.removesuffix(")") if repeated else "1"
        if not (_is_count(count) and _is_count(times)) or len(tasks) > _MOST_WORKERS:
            return ()
        tasks.extend([int(count)] * int(times))
    return tuple(tasks)


def _is_count(text: str) -> bool:
    is_number = text.isascii() and text.isdigit() and len(text) < 10
    return is_number and 1 <= int(text) <= _MOST_WORKERS
