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
        "What Keras layers compute in. auto picks mixed_bfloat16 if the processor has bfloat16 "
        "instructions, else float32. measured also runs a matmul benchmark of about six seconds, "
        "once per machine, and picks the faster of the two.",
        "value",
        type="precision",
        is_plain=True,
    ),
    OptionRow(
        ("--keep-float32",),
        "keep_float32",
        "Keep the Keras layers with this name or class in float32, such as 'head*' or LSTM. "
        "Repeatable.",
        "list",
        "PATTERN",
    ),
    OptionRow(
        ("--disable",),
        "disable",
        "Switch off faster paths, to bisect a problem: {paths}, or all. Repeatable. "
        "NANO_INIT_DISABLE does the same.",
        "list",
        "PATH,...",
        is_plain=True,
    ),
    OptionRow(
        ("--lazy-adam",),
        "lazy_adam",
        "Let Adam update only the rows that a sparse gradient names. Much faster with large "
        "embeddings, but a different algorithm with different results.",
        is_plain=True,
    ),
    OptionRow(
        ("--steps-per-execution",),
        "steps_per_execution",
        "Run N training steps of fit before returning to Python. By default (auto) small models "
        "run as many as take 50 ms; 1 is Keras's own way. A fit whose callbacks need every batch "
        "is left alone.",
        "value",
        "N|auto",
        is_plain=True,
    ),
    OptionRow(
        ("--threads",),
        "threads",
        "Use at most N cores. NANO_INIT_THREADS does the same.",
        "value",
        "N",
        is_plain=True,
    ),
    OptionRow(
        ("--allocator",),
        "allocator",
        "Preload a memory allocator into this process, if one is installed and loads.",
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
        "Print the environment and the command, each with its reason, without running anything.",
        is_plain=True,
    ),
    OptionRow(
        ("--compare",),
        "evidence.compare",
        "Train a few dozen steps under plain python and under nano-run, in turn, and report the "
        "difference. Nothing that the script writes is kept.",
    ),
    OptionRow(("--json",), "evidence.as_json", "With --compare: print JSON."),
    OptionRow(
        ("--tune",),
        "evidence.tune",
        "Find the fastest configuration for this script, run the script in it, and remember it "
        "for later runs. Searches over precision, XLA, threads, allocators and faster paths, and "
        "over steps per execution if --steps-per-execution is given. A configuration whose loss "
        "differs from float32's is never chosen.",
    ),
    OptionRow(
        ("--tune-budget",),
        "evidence.tune_budget",
        "With --tune: seconds that the search may take.",
        "value",
        "S",
        (5.0, 86_400.0),
    ),
    OptionRow(("--no-cache",), "no_cache", "Neither use nor store results of --tune."),
    OptionRow(("--clear-cache",), "clear_cache", "Delete all stored results of --tune, and exit."),
    OptionRow(
        ("--report",),
        "evidence.report",
        "Run the script, then report on stderr what happened: step times, kernels, casts, "
        "throttling, waiting for data. FILE.html or FILE.json stores the report.",
        "optional",
        "[=FILE]",
    ),
    OptionRow(
        ("--sample-steps",),
        "evidence.steps",
        "With --compare and --report: training steps per sample.",
        "value",
        "N",
        (12, 100_000),
    ),
    OptionRow(
        ("--sample-rounds",),
        "evidence.rounds",
        "With --compare: samples of each kind. More samples show smaller differences.",
        "value",
        "N",
        (3, 100),
    ),
    OptionRow(
        ("--sample-seconds",),
        "evidence.seconds",
        "With --compare and --report: end a sample after this time, with the steps made so far.",
        "value",
        "S",
        (1.0, 86_400.0),
    ),
    OptionRow(("-q", "--quiet"), "quiet", "Do not print what was chosen.", is_plain=True),
    OptionRow(
        ("--nproc-per-node", "--nproc_per_node"),
        "job.workers",
        "Train data-parallel with N workers on this host, each on its own cores. auto starts one "
        "per NUMA node or last-level cache.",
        "value",
        "N|auto",
    ),
    OptionRow(
        ("--nnodes",),
        "job.hosts",
        "Number of hosts of the job. Start nano-run on each of them.",
        "value",
        "N",
        (1, 65536),
    ),
    OptionRow(
        ("--node-rank", "--node_rank"),
        "job.host_rank",
        "This host's number, from 0. Slurm and MPI provide it.",
        "value",
        "R",
        (0, 65535),
    ),
    OptionRow(
        ("--master-addr", "--master_addr"),
        "job.master_addr",
        "Name or address of host 0.",
        "value",
        "HOST",
    ),
    OptionRow(
        ("--master-port", "--master_port"),
        "job.master_port",
        "Free port of host 0 where the launchers meet. Default: 29400.",
        "value",
        "P",
        (1, 65535),
    ),
    OptionRow(
        ("--job-secret-file", "--job_secret_file"),
        "job.secret_file",
        "File with a secret that all hosts share. A launcher that cannot prove that it knows the "
        "secret is refused. NANO_RUN_JOB_SECRET holds the secret itself.",
        "value",
        "FILE",
    ),
    OptionRow(
        ("--start-timeout", "--start_timeout"),
        "job.start_timeout",
        "How long to wait for a worker or host that has not appeared, at the start or at a save. "
        "Default: 600.",
        "value",
        "SECONDS",
        (1, 10**6),
    ),
    OptionRow(
        ("--max-restarts", "--max_restarts"),
        "job.max_restarts",
        "Restart the job up to K times when a worker fails. A script with Keras's "
        "BackupAndRestore continues from its backup.",
        "value",
        "K",
        (0, 10**6),
    ),
    OptionRow(
        ("--log-dir", "--log_dir"),
        "job.log_dir",
        "Write each worker's output to DIR/worker-N.log.",
        "value",
        "DIR",
    ),
    OptionRow(
        ("--tee",), "job.tee", "Show the output of all workers, each line with the worker's number."
    ),
    OptionRow(
        ("--oversubscribe",),
        "job.oversubscribe",
        "Allow more workers than cores. They are then not bound to cores.",
    ),
    OptionRow(
        ("--compress-gradients", "--compress_gradients"),
        "job.compress",
        "Send gradients between hosts as bfloat16.",
    ),
    OptionRow(
        ("--sysroot",),
        "job.sysroot",
        "With --dry-run: show where workers would run on a recorded machine.",
        "value",
        "DIR",
    ),
    OptionRow(("-m",), "module", "SCRIPT is a module, as with python -m.", is_plain=True),
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
    precision = given.get("precision", "auto")
    is_measured = precision == "measured"
    patch, warning = parse_patch_options(
        "auto" if is_measured else precision,
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
        measures_precision=is_measured,
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
        raise UsageError("--json needs --compare")
    if evidence.compare and (evidence.report is not None or evidence.tune):
        other = "--tune" if evidence.tune else "--report"
        raise UsageError(
            f"--compare and {other} cannot be combined: --compare keeps nothing that the script "
            "writes"
        )
