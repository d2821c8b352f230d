"""The options of `nano-run` as click shows, completes and checks them."""

from __future__ import annotations

import os
from typing import Any

import click
from click.shell_completion import CompletionItem

import nano_init
from nano_init.cli.table_options import given_values, with_options
from nano_init.protocol.faster_paths import FASTER_PATHS
from nano_init.run.dispatch import run
from nano_init.run.option_table import OPTIONS, build_request
from nano_init.run.request import EvidenceRequest
from nano_init.text import count_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nano_init.run.option_row import OptionRow

__all__ = ["PYTHON_OPTIONS", "nano_run"]

_EPILOG = """\b
Examples:
  nano-run train.py --epochs 3
  nano-run --precision mixed_bfloat16 train.py
  nano-run --steps-per-execution 1 train.py
  nano-run -m mypackage.train --epochs 3
  nano-run --dry-run train.py
  nano-run --nproc-per-node 2 train.py
  nano-run --compare train.py --epochs 3
  nano-run --tune train.py --epochs 3
  nano-run --report=run.html train.py --epochs 3
  NANO_RUN_PRECISION=float32 nano-run train.py

Options go before the script; everything after it belongs to the script. Each option has
an environment variable, NANO_RUN_ and its name. So do Python's own options:
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


def _complete_file(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _complete_path(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    *before, last = incomplete.split(",")
    prefix = "".join(f"{name}," for name in before)
    names = [name for name in (*FASTER_PATHS, "all") if name not in before]
    return [CompletionItem(prefix + name) for name in names if name.startswith(last)]


def _complete_steps(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(value) for value in ("auto", "1") if value.startswith(incomplete)]


def _clear_cache(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    from nano_init.evidence.tuning.cache import clear_cache
    from nano_init.user_cache import tuned_folder

    count = clear_cache(os.environ)
    click.echo(f"{count_of(count, 'tuned choice')} in {tuned_folder(os.environ)} deleted")
    context.exit()


def _extras() -> dict[str, dict[str, Any]]:
    """Return what only click knows of an option, by its field."""
    evidence = EvidenceRequest()
    more: dict[str, dict[str, Any]] = {
        "precision": {"default": "auto", "show_default": True},
        "allocator": {"default": "none", "show_default": True},
        "disable": {"shell_complete": _complete_path},
        "steps_per_execution": {"shell_complete": _complete_steps},
        "clear_cache": {"is_eager": True, "expose_value": False, "callback": _clear_cache},
    }
    for name in ("tune_budget", "steps", "rounds", "seconds"):
        more[f"evidence.{name}"] = {"default": getattr(evidence, name), "show_default": True}
    return {
        row.field: {"envvar": row.variable, "help": _help(row), **more.get(row.field, {})}
        for row in OPTIONS
    }


def _help(row: OptionRow) -> str:
    return row.help.replace("{paths}", ", ".join(FASTER_PATHS))


@click.command(
    context_settings={
        "allow_interspersed_args": False,
        "ignore_unknown_options": False,
        "help_option_names": ["-h", "--help"],
    },
    epilog=_EPILOG,
)
@with_options(OPTIONS, _extras(), {})
@click.argument("script", metavar="SCRIPT", shell_complete=_complete_file)
@click.argument(
    "arguments",
    metavar="[ARGS]...",
    nargs=-1,
    type=click.UNPROCESSED,
    shell_complete=_complete_file,
)
@click.version_option(nano_init.__version__, prog_name="nano-run")
def nano_run(script: str, arguments: tuple[str, ...], **values: Any) -> int:
    """Run a Python program as fast as this machine allows, without changing it.

    Sets the environment variables that suit the processor, the container and the
    installed TensorFlow, patches Keras when the program imports it, and becomes
    `python SCRIPT ARGS`: same process, same signals, same exit status.
    """
    return run(build_request(given_values(OPTIONS, values), script, arguments))
