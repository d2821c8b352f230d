"""From a request with workers to the job that answers it."""

from __future__ import annotations

import json
import os
import sys

from nano_init.errors import UsageError
from nano_init.frozen import frozen, replace
from nano_init.launch.addresses import join_port, parse_host
from nano_init.launch.command import Command, format_command, prepare_command
from nano_init.launch.job import Job, Seat, run_job
from nano_init.launch.job_secret import JobSecret, read_job_secret
from nano_init.launch.locale_coercion import without_locale_coercion
from nano_init.launch.scheduler_secret import find_scheduler_secret
from nano_init.machine.cluster import read_cluster, read_task
from nano_init.message import NANO_RUN, say, write_output
from nano_init.plan.choice import choose
from nano_init.plan.decide import thread_cap
from nano_init.plan.placement import Placement, machine_at, parse_workers, place_workers
from nano_init.plan.settings import Plan, Setting
from nano_init.protocol.membership import Membership, format_membership
from nano_init.protocol.variables import (
    JOB_SECRET_VARIABLE,
    MEMBERSHIP_VARIABLE,
    RESTARTS_VARIABLE,
    SHARED_MEMORY_VARIABLE,
)
from nano_init.run.job_fingerprint import list_facts
from nano_init.run.option_table import JOB_VARIABLES
from nano_init.shells.transition import original
from nano_init.survey import with_allocator
from nano_init.text import align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nano_init.machine.cluster import Task
    from nano_init.protocol.patch_options import PatchOptions
    from nano_init.run.request import JobRequest, RunRequest
    from nano_init.survey import Surroundings

__all__ = ["HostPart", "find_host_part", "run_workers"]

_USUAL_PORT = 29400
_PORT = "PORT"  # a dry run shows this for a port that is chosen at the start
_HOST = "HOST"  # with its number, for the address of a host that has yet to come


@frozen
class HostPart:
    """This host's part in a job.

    Args:
        rank: its number.
        count: how many there are.
        master: the address of host 0.
        port: the port of its launcher.
        slot: this launcher's number among those on this host, and how many these are.
        is_task: an outer launcher started all of them, as tasks of one job.
    """

    rank: int = 0
    count: int = 1
    master: str = "127.0.0.1"
    port: int = _USUAL_PORT
    slot: tuple[int, int] = (0, 1)
    is_task: bool = False


@frozen
class Workers:
    """This host's workers as they were planned.

    Args:
        surroundings: what they were planned for.
        environ: the environment that they are started in, without what nano-init set in it.
        placement: where they run.
        plans: the plan of each.
        patch: the options of the patch, the same for all.
    """

    surroundings: Surroundings
    environ: Mapping[str, str]
    placement: Placement
    plans: tuple[Plan, ...]
    patch: PatchOptions


def run_workers(
    request: RunRequest,
    surroundings: Surroundings,
    environ: Mapping[str, str],
    report: Callable[[str], None] | None = None,
) -> int | None:
    """Run a request as a job, or print how that would be done.

    Args:
        request: the request, which asks for a job.
        surroundings: what was read, of the machine that the workers are planned for.
        environ: this process's environment.
        report: how to say what went wrong; None for a line on stderr.

    Returns:
        The exit status; None where one worker alone is asked for, which needs no job.

    Raises:
        NanoError: the job cannot be started as asked.
    """
    job = request.job
    own = surroundings.user_environ if job.sysroot == "/" else original(environ)[0]
    if not job.has_workers and read_cluster(own) is not None:
        raise UsageError(
            "--log-dir, --tee and --max-restarts do not apply with TF_CONFIG: whoever started "
            "its workers keeps their logs and restarts them"
        )
    # Tasks of Slurm are workers of one job only where workers are asked for.
    host = find_host_part(job, read_task(own) if job.has_workers else None)
    workers = _plan(request, surroundings, own, host)
    is_alone = host.count == 1 and len(workers.plans) == 1
    if is_alone and not (job.max_restarts or job.log_dir or job.tee or job.sysroot != "/"):
        if job.workers == "auto" and not request.quiet:
            say(NANO_RUN, workers.placement.reason)
        return None
    if request.dry_run:
        write_output(os.fsencode(_explain(request, host, workers)))
        return 0
    if not request.quiet:
        _announce(host, workers)
    secret = _find_secret(request, own, host)
    return run_job(_make_job(request, host, workers, report or _say, secret))


def _say(sentence: str) -> None:
    say(NANO_RUN, sentence)


def _find_secret(request: RunRequest, environ: Mapping[str, str], host: HostPart) -> JobSecret:
    """Return the secret of the job's launchers, and say where there is none."""
    if host.count == 1:
        return JobSecret()
    job = request.job
    secret, warning = read_job_secret(job.secret_file, environ)
    if not secret.kind and host.is_task:
        secret = find_scheduler_secret(environ, host.rank, job.start_timeout)
    if not secret.kind:
        warning = (
            f"no job secret: until all hosts have connected, any process that reaches "
            f"{join_port(host.master, host.port)} is trusted; set --job-secret-file or "
            f"{JOB_SECRET_VARIABLE}"
        )
    if warning and not request.quiet:
        say(NANO_RUN, warning)
    return secret


def _make_job(
    request: RunRequest,
    host: HostPart,
    workers: Workers,
    report: Callable[[str], None],
    secret: JobSecret,
) -> Job:
    job, environ = request.job, workers.environ

    def prepare(seat: Seat) -> tuple[tuple[str, ...], Mapping[str, str]]:
        command = _command(request, host, workers, seat)
        kept = without_locale_coercion(environ)
        base = {name: value for name, value in kept.items() if name not in JOB_VARIABLES}
        return command.argv, command.environment(base)

    program = _read_stdin() if request.target.is_stdin else None
    facts = {}
    if host.count > 1:
        facts = list_facts(request, workers.patch, workers.surroundings, program)
    return Job(
        target=request.target,
        placement=workers.placement,
        prepare=prepare,
        rank=host.rank,
        hosts=host.count,
        master=host.master,
        port=host.port,
        facts=facts,
        start_timeout=job.start_timeout,
        max_restarts=job.max_restarts,
        log_dir=job.log_dir,
        tee=job.tee,
        say=report,
        shares_memory=environ.get(SHARED_MEMORY_VARIABLE) != "0",
        program=program,
        secret=secret,
    )


def _read_stdin() -> bytes:
    return sys.stdin.buffer.read() if sys.stdin is not None else b""  # None if it is closed


def find_host_part(job: JobRequest, task: Task | None) -> HostPart:
    """Return this host's part, from the options, else from the outer launcher.

    Args:
        job: the options.
        task: this process's place among the tasks of Slurm or MPI, or None.

    Raises:
        UsageError: something is missing, or does not fit.
    """
    if task is not None and job.hosts is None:
        return _part_of_task(job, task)
    count = 1 if job.hosts is None else job.hosts
    if job.hosts is None and (job.host_rank is not None or job.master_addr or job.master_port):
        raise UsageError(
            "--node-rank, --master-addr and --master-port need --nnodes, the number of hosts"
        )
    if count == 1:
        return HostPart()
    rank = task.rank if task is not None and job.host_rank is None else job.host_rank
    master = job.master_addr or (task.master if task is not None else "")
    if rank is None:
        raise UsageError(f"--nnodes {count} needs --node-rank, this host's number from 0")
    if rank >= count:
        raise UsageError(f"--node-rank {rank} is not below --nnodes {count}; they count from 0")
    if not master:
        raise UsageError(f"--nnodes {count} needs --master-addr, the name or address of host 0")
    usual = task.port if task is not None and task.port else _USUAL_PORT
    return HostPart(rank, count, parse_host(master, "--master-addr"), job.master_port or usual)


def _part_of_task(job: JobRequest, task: Task) -> HostPart:
    master = job.master_addr or task.master
    if not master:
        raise UsageError(
            f"{task.source} says that this is one of {task.size} tasks, but not where the first "
            "one is: give --master-addr, the name or address of its host"
        )
    if task.local_size > 1 and job.workers not in (None, "1", "auto"):
        raise UsageError(
            f"--nproc-per-node {job.workers} within {task.local_size} tasks on this host: start "
            "one task per host, or use --nproc-per-node 1 for one worker per task"
        )
    return HostPart(
        task.rank,
        task.size,
        parse_host(master, "--master-addr"),
        job.master_port or task.port or _USUAL_PORT,
        (task.local_rank, max(1, task.local_size)),
        is_task=True,
    )


def _plan(
    request: RunRequest, surroundings: Surroundings, environ: Mapping[str, str], host: HostPart
) -> Workers:
    job, machine = request.job, surroundings.machine
    cap, _ = thread_cap(request.options, surroundings.user_environ)
    text = job.workers or "1"
    number = 1 if text == "auto" and host.slot[1] > 1 else parse_workers(text)
    placement = place_workers(machine, number, cap, slot=host.slot, oversubscribe=job.oversubscribe)
    surroundings = with_allocator(surroundings, request.options.allocator)
    choices = [
        choose(
            request, replace(surroundings, machine=machine_at(machine, placement, n, host.slot[1]))
        )
        for n in range(len(placement.places))
    ]
    plans = tuple(choice.plan for choice in choices)
    return Workers(surroundings, environ, placement, plans, choices[0].patch)


def _command(request: RunRequest, host: HostPart, workers: Workers, seat: Seat) -> Command:
    job, plan = request.job, workers.plans[seat.local]
    membership = Membership(
        index=seat.index,
        workers=len(seat.addresses),
        seed=seat.seed,
        status_fd=seat.status_fd,
        start_timeout=job.start_timeout,
        compress=job.compress,
        scratch=seat.scratch if seat.index else "",
        memory_fd=seat.memory_fd,
        local=seat.local,
        local_workers=len(workers.placement.places),
        hosts=seat.hosts,
        host=host.rank,
        incoming_fd=seat.ring[0] if seat.ring else -1,
        outgoing_fd=seat.ring[1] if seat.ring else -1,
    )
    plan = replace(plan, settings=(*plan.settings, *_job_settings(seat)))
    environ = workers.environ
    command = prepare_command(request.target, plan, workers.patch, environ, sys.executable)
    variables = {**command.variables, **_python_variables(job, environ, seat)}
    if len(seat.addresses) > 1:
        variables[MEMBERSHIP_VARIABLE] = format_membership(membership)
    return replace(command, variables=variables)


def _job_settings(seat: Seat) -> tuple[Setting, ...]:
    task = {"type": "worker", "index": seat.index}
    config = json.dumps({"cluster": {"worker": list(seat.addresses)}, "task": task})
    settings = [Setting(RESTARTS_VARIABLE, str(seat.restarts), "how often the job was restarted")]
    is_alone = len(seat.addresses) == 1
    if not is_alone:
        reason = "the addresses of all workers, and which one this is"
        settings.append(Setting("TF_CONFIG", config, reason))
    return tuple(settings)


def _python_variables(job: JobRequest, environ: Mapping[str, str], seat: Seat) -> dict[str, str]:
    """Return Python's own variables, which are no settings: a sourced shell never has them."""
    variables = {}
    if len(seat.addresses) > 1 and environ.get("PYTHONHASHSEED", "random") == "random":
        # Sets of strings then have the same order on all workers.
        variables["PYTHONHASHSEED"] = str(seat.seed)
    if (job.tee or job.log_dir) and "PYTHONUNBUFFERED" not in environ:
        variables["PYTHONUNBUFFERED"] = "1"
    return variables


def _announce(host: HostPart, workers: Workers) -> None:
    placement = workers.placement
    where = f" on host {host.rank} of {host.count}" if host.count > 1 else ""
    say(NANO_RUN, f"{placement.reason}{where}; {workers.patch.precision}")
    for index, place in enumerate(placement.places):
        threads = workers.plans[index].threads.usable_cores
        name = f"worker {index}{' of this host' if where else ''}"
        say(NANO_RUN, f"  {name}: {place.text}, threads {threads}")
    for warning in dict.fromkeys(w for plan in workers.plans for w in plan.warnings):
        say(NANO_RUN, f"warning: {warning}")


def _explain(request: RunRequest, host: HostPart, workers: Workers) -> str:
    placement = workers.placement
    number = len(placement.places)
    first = host.rank * number
    each = f"; {number} on every host is assumed" if host.count > 1 else ""
    lines = [
        f"{placement.reason}, on host {host.rank} of {host.count}{each}",
        f"{workers.patch.precision}: {workers.plans[0].precision.reason}",
        f"{_list_unknown(host)} and the seed 0 stand for what is chosen at the start",
        *_table(workers, first),
        *(f"warning: {warning}" for warning in workers.plans[0].warnings),
    ]
    hosts = (host.master, *(f"{_HOST}{rank}" for rank in range(1, host.count)))
    addresses = tuple(join_port(name, _PORT) for name in hosts for _ in placement.places)
    text = "".join(f"# {line}\n" for line in lines)
    for local in range(number):
        seat = Seat(local, first + local, addresses, 0, -1, "", 0)
        text += f"\n# worker {first + local}\n"
        text += format_command(_command(request, host, workers, seat))
    return text


def _list_unknown(host: HostPart) -> str:
    if host.count == 1:
        return _PORT
    last = host.count - 1
    return f"{_PORT}, {_HOST}1{f' to {_HOST}{last}' if last > 1 else ''}"


def _table(workers: Workers, first: int) -> list[str]:
    from nano_init.machine.cpulist import format_cpu_list

    rows = [("worker", "cpus", "cores", "memory", "threads")]
    for index, place in enumerate(workers.placement.places):
        memory = f"node {format_cpu_list(place.nodes)}" if place.nodes else "any"
        threads = str(workers.plans[index].threads.usable_cores)
        cpus = format_cpu_list(place.cpus)
        rows.append((str(first + index), cpus, str(place.cores), memory, threads))
    return align(rows)
