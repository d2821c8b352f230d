"""The options of `nano-run`, one row for each: click and the parser that does without it read them.

What an option is called, what it takes, what it says of itself and where its value goes stands
here and nowhere else.
"""

from __future__ import annotations

from nano_init.errors import UsageError
from nano_init.plan.decide import parse_threads
from nano_init.plan.settings import Options
from nano_init.protocol.patch_options import parse_patch_options
from nano_init.protocol.target import Target
from nano_init.protocol.variables import JOB_SECRET_VARIABLE
from nano_init.run.option_row import OptionRow
from nano_init.run.request import EvidenceRequest, JobRequest, RunRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["JOB_VARIABLES", "OPTIONS", "build_request"]


OPTIONS = (
    OptionRow(
        ("--precision",),
        "precision",
        "What Keras layers compute in; auto takes mixed_bfloat16 where a unit of the processor "
        "multiplies it faster than float32, and if it is given that is measured, once a machine.",
        "value",
        type="precision",
        is_plain=True,
    ),
    OptionRow(
        ("--keep-float32",),
        "keep_float32",
        "Keep the Keras layers of this name or class in float32, such as 'head*' or LSTM; may be "
        "repeated.",
        "list",
        "PATTERN",
    ),
    OptionRow(
        ("--disable",),
        "disable",
        "Switch faster paths off, to bisect a problem: {paths}, or all; may be repeated "
        "(NANO_INIT_DISABLE does the same).",
        "list",
        "PATH,...",
        is_plain=True,
    ),
    OptionRow(
        ("--lazy-adam",),
        "lazy_adam",
        "Let Adam update only the rows that a sparse gradient names: much faster with large "
        "embeddings, but another algorithm, with other results.",
        is_plain=True,
    ),
    OptionRow(
        ("--steps-per-execution",),
        "steps_per_execution",
        "Run N training steps of fit between two returns to Python, for small models; callbacks "
        "then see every Nth batch, so fits whose callbacks need each are left alone.",
        "value",
        "N|auto",
        is_plain=True,
    ),
    OptionRow(
        ("--threads",),
        "threads",
        "Use at most N cores (NANO_INIT_THREADS does the same).",
        "value",
        "N",
        is_plain=True,
    ),
    OptionRow(
        ("--allocator",),
        "allocator",
        "Preload a memory allocator into this one process, if it is found and seen to load.",
        "value",
        type="allocator",
        is_plain=True,
    ),
    OptionRow(("--pin",), "pin", "Bind OpenMP threads to cores.", is_plain=True),
    OptionRow(
        ("--force",), "force", "Override variables that you have set yourself.", is_plain=True
    ),
    OptionRow(
        ("--dry-run",),
        "dry_run",
        "Print the environment and the command, each with its reason, and run nothing.",
        is_plain=True,
    ),
    OptionRow(
        ("--compare",),
        "evidence.compare",
        "Train a bounded number of steps under plain python and under nano-run, in turn, and say "
        "what differs. Nothing that the script writes is kept.",
    ),
    OptionRow(("--json",), "evidence.as_json", "With --compare: print JSON."),
    OptionRow(
        ("--tune",),
        "evidence.tune",
        "Train the script for a while in several precisions, XLA modes, threads, allocators and "
        "with faster paths left out (also in several steps per execution where "
        "--steps-per-execution allows them), run it in the fastest whose loss is float32's, and "
        "remember that for later runs.",
    ),
    OptionRow(
        ("--tune-budget",),
        "evidence.tune_budget",
        "With --tune: the seconds that the search may take.",
        "value",
        "S",
        (5.0, 86_400.0),
    ),
    OptionRow(("--no-cache",), "no_cache", "Neither use nor remember what --tune has measured."),
    OptionRow(("--clear-cache",), "clear_cache", "Forget all that --tune has measured, and exit."),
    OptionRow(
        ("--report",),
        "evidence.report",
        "Run the script, and report afterwards on stderr what happened: step times, units and "
        "kernels, casts, throttling, waiting; FILE.html or FILE.json gets it too.",
        "optional",
        "[=FILE]",
    ),
    OptionRow(
        ("--sample-steps",),
        "evidence.steps",
        "With --compare and --report: training steps of one sample.",
        "value",
        "N",
        (12, 100_000),
    ),
    OptionRow(
        ("--sample-rounds",),
        "evidence.rounds",
        "With --compare: samples of each way; more of them show smaller differences.",
        "value",
        "N",
        (3, 100),
    ),
    OptionRow(
        ("--sample-seconds",),
        "evidence.seconds",
        "With --compare and --report: end a sample after this time, with the steps that it has "
        "made.",
        "value",
        "S",
        (1.0, 86_400.0),
    ),
    OptionRow(("-q", "--quiet"), "quiet", "Say nothing about what was chosen.", is_plain=True),
    OptionRow(
        ("--nproc-per-node", "--nproc_per_node"),
        "job.workers",
        "Train data-parallel: run N workers on this host, each on cores of its own; auto takes one "
        "for each NUMA node or last-level cache.",
        "value",
        "N|auto",
    ),
    OptionRow(
        ("--nnodes",),
        "job.hosts",
        "Hosts of the job; nano-run is started on each of them.",
        "value",
        "N",
        (1, 65536),
    ),
    OptionRow(
        ("--node-rank", "--node_rank"),
        "job.host_rank",
        "This host's number, from 0; Slurm and MPI give it themselves.",
        "value",
        "R",
        (0, 65535),
    ),
    OptionRow(
        ("--master-addr", "--master_addr"),
        "job.master_addr",
        "The name or address of host 0.",
        "value",
        "HOST",
    ),
    OptionRow(
        ("--master-port", "--master_port"),
        "job.master_port",
        "A free port of host 0, for the launchers to meet; 29400.",
        "value",
        "P",
        (1, 65535),
    ),
    OptionRow(
        ("--job-secret-file", "--job_secret_file"),
        "job.secret_file",
        "A file with a secret that the launchers on all hosts have: who cannot prove that it knows "
        "it is refused (NANO_RUN_JOB_SECRET holds the secret itself).",
        "value",
        "FILE",
    ),
    OptionRow(
        ("--start-timeout", "--start_timeout"),
        "job.start_timeout",
        "How long to wait for a worker or a host that has not come, to start or to a save; 600.",
        "value",
        "SECONDS",
        (1, 10**6),
    ),
    OptionRow(
        ("--max-restarts", "--max_restarts"),
        "job.max_restarts",
        "Restart the job, up to K times, when a worker has failed; a script with Keras's "
        "BackupAndRestore goes on from its backup.",
        "value",
        "K",
        (0, 10**6),
    ),
    OptionRow(
        ("--log-dir", "--log_dir"),
        "job.log_dir",
        "Keep each worker's output in DIR/worker-N.log.",
        "value",
        "DIR",
    ),
    OptionRow(
        ("--tee",), "job.tee", "Show all workers' output, each line with the worker's number."
    ),
    OptionRow(
        ("--oversubscribe",),
        "job.oversubscribe",
        "Allow more workers than cores; they are not bound then.",
    ),
    OptionRow(
        ("--compress-gradients", "--compress_gradients"),
        "job.compress",
        "Send gradients between hosts as bfloat16.",
    ),
    OptionRow(
        ("--sysroot",),
        "job.sysroot",
        "With --dry-run: where workers would run on a recorded machine.",
        "value",
        "DIR",
    ),
    OptionRow(("-m",), "module", "SCRIPT is a module, as for python -m.", is_plain=True),
)

# A nano-run that a worker starts is a program of its own, not a job within the job.
JOB_VARIABLES = (
    *(row.variable for row in OPTIONS if row.field.startswith("job.")),
    JOB_SECRET_VARIABLE,
)


def build_request(
    given: Mapping[str, Any], script: str, arguments: tuple[str, ...] = ()
) -> RunRequest:
    """Return the request that a command line makes, whichever parser has read it.

    Args:
        given: the values of the options that were given, by their fields.
        script: the script or the module.
        arguments: the program's own.

    Raises:
        UsageError: a value is none of those allowed, or two options do not go together.
    """
    patch, warning = parse_patch_options(
        given.get("precision", "auto"),
        tuple(given.get("keep_float32", ())),
        given.get("disable", ()),
        lazy_adam=bool(given.get("lazy_adam")),
        steps=given.get("steps_per_execution"),
    )
    evidence = EvidenceRequest(**_part(given, "evidence."))
    _check_evidence(evidence)
    return RunRequest(
        Target(script, arguments, is_module=bool(given.get("module"))),
        Options(
            threads=parse_threads(given["threads"]) if "threads" in given else None,
            allocator=given.get("allocator", "none"),
            pin=bool(given.get("pin")),
            force=bool(given.get("force")),
        ),
        patch,
        warning,
        dry_run=bool(given.get("dry_run")),
        quiet=bool(given.get("quiet")),
        job=JobRequest(**_part(given, "job.")),
        evidence=evidence,
        use_cache=not given.get("no_cache"),
        measures_precision=given.get("precision") == "auto",
    )


def _part(given: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the values of one part of a request; whole numbers of a job as such."""
    rows = {row.field: row for row in OPTIONS}
    part = {}
    for field, value in given.items():
        if field.startswith(prefix):
            bounds = rows[field].type
            if prefix == "job." and isinstance(bounds, tuple):
                value = _parse_number(value, rows[field].names[0], *bounds)
            part[field.removeprefix(prefix)] = value
    return part


def _parse_number(text: str, name: str, least: float, most: float) -> int:
    if text.isascii() and text.isdigit() and len(text) < 9 and least <= int(text) <= most:
        return int(text)
    raise UsageError(f"{name} is {text[:40]!r}; give a whole number from {least} to {most}")


def _check_evidence(evidence: EvidenceRequest) -> None:
    if evidence.as_json and not evidence.compare:
        raise UsageError("--json is the form of a comparison; give --compare with it")
    if evidence.compare and (evidence.report is not None or evidence.tune):
        other = "--tune" if evidence.tune else "--report"
        raise UsageError(
            f"--compare keeps nothing that the script writes, and {other} runs it in earnest; "
            "give one"
        )
