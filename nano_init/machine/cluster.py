"""The rank of this process among the tasks of an outer launcher: Slurm, MPI, Kubernetes."""

from __future__ import annotations

from nano_init.errors import UsageError
from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Cluster", "Task", "parse_hostlist", "read_cluster", "read_task"]

# Rank, number of ranks, rank on this host, ranks on this host; the innermost launcher first.
_RANKS = (
    (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    (
        "MV2_COMM_WORLD_RANK",
        "MV2_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_LOCAL_RANK",
        "MV2_COMM_WORLD_LOCAL_SIZE",
    ),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""),
)
_NODE_LISTS = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
# The ports above those that need privileges, and below those that Linux gives away itself.
_FIRST_PORT, _PORTS = 20000, 10000


@frozen
class Task:
    """This process among those that an outer launcher started.

    Args:
        rank: its number.
        size: how many there are.
        local_rank: its number among those on this host.
        local_size: how many are on this host; 0 if unknown.
        source: the variable that tells the rank.
        master: the host of the first one; "" if unknown.
        port: a port that all of them would all choose; 0 if there is none.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    source: str
    master: str = ""
    port: int = 0


@frozen
class Cluster:
    """A cluster that TF_CONFIG describes: this process is one of its workers.

    Args:
        addresses: all workers' addresses, the chief's first.
        index: this worker's number.
        text: the variable's value.
    """

    addresses: tuple[str, ...]
    index: int
    text: str


def read_task(environ: Mapping[str, str]) -> Task | None:
    """Return this process's place among the tasks of Slurm or MPI; None where it is alone."""
    for rank, size, local_rank, local_size in _RANKS:
        numbers = [_number(environ.get(name, "")) for name in (rank, size)]
        if None in numbers or numbers[1] == 1:
            continue
        here = _number(environ.get(local_rank, "")) or 0
        total = _number(environ.get(local_size, "")) or 0
        if rank == "SLURM_PROCID":
            total = _slurm_tasks_here(environ)
        master, port = _slurm_master(environ)
        if not master and total == numbers[1]:
            master = "127.0.0.1"
        return Task(int(numbers[0] or 0), int(numbers[1] or 1), here, total, rank, master, port)
    return None


def read_cluster(environ: Mapping[str, str]) -> Cluster | None:
    """Return the cluster of workers that TF_CONFIG describes, or None.

    Clusters with parameter servers, and tasks that are not workers, such as an evaluator, are
    none of nano-init's.

    Raises:
        UsageError: TF_CONFIG is no JSON object of that form.
    """
    text = environ.get("TF_CONFIG", "")
    if not text.strip():
        return None
    import json

    try:
        config = json.loads(text)
        cluster, task = config.get("cluster") or {}, config.get("task") or {}
        chiefs = [*cluster.get("chief", ()), *cluster.get("master", ())]
        addresses = tuple(str(address) for address in [*chiefs, *cluster.get("worker", ())])
        kind, index = task.get("type"), int(task.get("index", 0))
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"TF_CONFIG cannot be read ({error}); correct it or unset it") from None
    is_plain = not set(cluster) - {"chief", "master", "worker", "evaluator"}
    if len(addresses) < 2 or not is_plain or kind not in ("chief", "master", "worker"):
        return None
    index += len(chiefs) if kind == "worker" else 0
    if not 0 <= index < len(addresses):
        raise UsageError(f"TF_CONFIG names task {index} of {len(addresses)} workers; correct it")
    return Cluster(addresses, index, text)


def parse_hostlist(text: str) -> tuple[str, ...]:
    """Return the hosts of Slurm's list, such as "a[01-03,7],b": a01, a02, a03, a7, b.

    Raises:
        UsageError: the text is not a valid list.
    """
    hosts: list[str] = []
    for word in _split_outside_brackets(text):
        hosts.extend(_expand(word, text))
    return tuple(hosts)


def _expand(word: str, text: str) -> list[str]:
    head, bracket, rest = word.partition("[")
    if not bracket:
        return [word] if word else []
    inside, closed, tail = rest.partition("]")
    if not closed:
        raise UsageError(f"{text[:60]!r} is not a host list: a bracket is not closed")
    hosts = []
    for piece in inside.split(","):
        first, dash, last = piece.partition("-")
        last = last if dash else first
        if not (_is_digits(first) and _is_digits(last)) or int(last) - int(first) not in range(
            65536
        ):
            raise UsageError(f"{text[:60]!r} is not a host list: {piece!r} is not a range")
        for number in range(int(first), int(last) + 1):
            hosts += [f"{head}{number:0{len(first)}d}{end}" for end in _expand(tail, text) or [""]]
    return hosts


def _split_outside_brackets(text: str) -> list[str]:
    words, depth, word = [], 0, ""
    for character in text:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if depth not in (0, 1):
            raise UsageError(f"{text[:60]!r} is not a host list: its brackets do not match")
        if character == "," and depth == 0:
            words.append(word)
            word = ""
        else:
            word += character
    return [*words, word]


def _slurm_tasks_here(environ: Mapping[str, str]) -> int:
    from nano_init.machine.local_workers import count_local_workers

    tasks, source, _ = count_local_workers(environ)
    return tasks if source.startswith("SLURM") else 1


def _slurm_master(environ: Mapping[str, str]) -> tuple[str, int]:
    text = next((environ[name] for name in _NODE_LISTS if environ.get(name)), "")
    if not text:
        return "", 0
    job = _number(environ.get("SLURM_JOB_ID", "")) or 0
    step = _number(environ.get("SLURM_STEP_ID", "")) or 0
    # Two steps on one host take different ports.
    return parse_hostlist(text)[0], _FIRST_PORT + (job * 7 + step) % _PORTS


def _number(text: str) -> int | None:
    return int(text) if _is_digits(text) else None


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
