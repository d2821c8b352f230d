"""The options of `nano-run`, as click shows, completes and checks them."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

import nano_init
from nano_init.cli.click_command import PrecisionName
from nano_init.cli.evidence_options import EvidenceRequest, evidence_options
from nano_init.cli.job_options import job_options, take_job_options
from nano_init.cli.run import RunRequest, run
from nano_init.cli.training_options import training_options
from nano_init.plan.allocator import ALLOCATOR_CHOICES
from nano_init.plan.decide import parse_threads
from nano_init.plan.settings import Options
from nano_init.protocol.target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nano_init.protocol.patch_options import TrainingOptions

__all__ = ["PYTHON_OPTIONS", "nano_run"]

_EPILOG = """\b
Examples:
  nano-run train.py --epochs 3
  nano-run --precision mixed_bfloat16 train.py
  nano-run --steps-per-execution auto train.py
  nano-run -m mypackage.train --epochs 3
  nano-run --dry-run train.py
  nano-run --nproc-per-node 2 train.py
  nano-run --compare train.py --epochs 3
  nano-run --tune train.py --epochs 3
  nano-run --report=run.html train.py --epochs 3
  NANO_RUN_PRECISION=float32 nano-run train.py

Options stand before the script; all that follows it is the script's own. Every option
has a twin in the environment, NANO_RUN_ and its name. Python's own options do, too:
PYTHONUNBUFFERED=1 for -u, PYTHONWARNINGS for -W.

\b
Completion: eval "$(_NANO_RUN_COMPLETE=bash_source nano-run)", or zsh_source, fish_source.
"""

# Python's own options, which go before the script there; each has a variable.
PYTHON_OPTIONS = {
    option: f"for Python's own set {variable}"
    for option, variable in {
        "-B": "PYTHONDONTWRITEBYTECODE=1",
        "-O": "PYTHONOPTIMIZE=1",
        "-P": "PYTHONSAFEPATH=1",
        "-W": "PYTHONWARNINGS=ignore",
        "-i": "PYTHONINSPECT=1",
        "-s": "PYTHONNOUSERSITE=1",
        "-u": "PYTHONUNBUFFERED=1",
        "-v": "PYTHONVERBOSE=1",
    }.items()
} | {"-c": "to run code, pipe it: echo CODE | nano-run -"}


def _is_given(name: str) -> bool:
    """Say whether an option stands on the command line or in the environment."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not ParameterSource.DEFAULT


def _complete_file(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


@click.command(
    context_settings={
        "allow_interspersed_args": False,
        "ignore_unknown_options": False,
        "auto_envvar_prefix": "NANO_RUN",
        "help_option_names": ["-h", "--help"],
    },
    epilog=_EPILOG,
)
@click.option(
    "--precision",
    type=PrecisionName(),
    default="auto",
    show_default=True,
    help="What Keras layers compute in; auto takes mixed_bfloat16 where a unit of the "
    "processor multiplies it faster than float32, and if it is given that is measured, once "
    "a machine.",
)
@click.option(
    "--keep-float32",
    metavar="PATTERN",
    multiple=True,
    help="Keep the Keras layers of this name or class in float32, such as 'head*' or LSTM; "
    "may be repeated.",
)
@training_options
@click.option(
    "--threads", metavar="N", help="Use at most N cores (NANO_INIT_THREADS does the same)."
)
@click.option(
    "--allocator",
    type=click.Choice(ALLOCATOR_CHOICES),
    default="none",
    show_default=True,
    help="Preload a memory allocator into this one process, if it is found and seen to load.",
)
@click.option("--pin", is_flag=True, help="Bind OpenMP threads to cores.")
@click.option("--force", is_flag=True, help="Override variables that you have set yourself.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the environment and the command, each with its reason, and run nothing.",
)
@evidence_options
@click.option("-q", "--quiet", is_flag=True, help="Say nothing about what was chosen.")
@job_options
@click.option("-m", "module", is_flag=True, help="SCRIPT is a module, as for python -m.")
@click.argument("script", metavar="SCRIPT", shell_complete=_complete_file)
@click.argument(
    "arguments",
    metavar="[ARGS]...",
    nargs=-1,
    type=click.UNPROCESSED,
    shell_complete=_complete_file,
)
@click.version_option(nano_init.__version__, prog_name="nano-run")
def nano_run(
    precision: str,
    keep_float32: tuple[str, ...],
    training: TrainingOptions,
    threads: str | None,
    allocator: str,
    pin: bool,
    force: bool,
    dry_run: bool,
    quiet: bool,
    module: bool,
    script: str,
    arguments: tuple[str, ...],
    evidence: EvidenceRequest | None,
    **job: Any,
) -> int:
    """Run a Python program as fast as this machine allows, without a change to it.

    Sets the environment that fits the processor, the container and the installed
    TensorFlow, patches Keras when (and only when) the program imports it, and then
    becomes `python SCRIPT ARGS`: same process, same signals, same exit status.
    """
    return run(
        RunRequest(
            Target(script, arguments, is_module=module),
            Options(
                threads=None if threads is None else parse_threads(threads),
                precision=precision,
                allocator=allocator,
                pin=pin,
                force=force,
            ),
            dry_run=dry_run,
            quiet=quiet,
            keep_float32=keep_float32,
            training=training,
            job=take_job_options(job),
            evidence=evidence,
            use_cache=evidence is None or evidence.use_cache,
            measures_precision=precision == "auto" and _is_given("precision"),
        )
    )
