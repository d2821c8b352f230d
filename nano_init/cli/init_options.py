"""The options of `nano-init`, as click shows, completes and checks them."""

from __future__ import annotations

import click

import nano_init
from nano_init.cli.init import InitRequest, init
from nano_init.plan.decide import parse_threads
from nano_init.plan.precision import PRECISIONS
from nano_init.plan.settings import Options
from nano_init.shells.render import SHELLS

__all__ = ["nano_init_command"]

FORMATS = ("table", "json")

_EPILOG = """\b
Examples:
  nano-init --print                      what fits here, and why
  nano-init --print --format json        the same for a program
  eval "$(nano-init --shell bash)"       set it in this shell
  eval "$(nano-init --shell bash --unset)"   and put back what was there
  nano-init --explain usable_cores       every source, what it said, how it follows
  nano-init --record machine.tar.gz      record this machine for a bug report
  nano-init --print --sysroot machine.tar.gz    and answer for it elsewhere

`source bigdl-nano-init` and `source bigdl-nano-unset-env` are the short way to the two
evals; they take options out of NANO_INIT_ARGS.
"""


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
@click.option("--print", "show", is_flag=True, help="Show the machine and the plan (default).")
@click.option(
    "--format",
    "output",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="How to show the plan.",
)
@click.option("--shell", type=click.Choice(SHELLS), help="Print code for this shell to evaluate.")
@click.option("--unset", is_flag=True, help="Print the way back to the environment before.")
@click.option(
    "--sysroot",
    type=click.Path(),
    default="/",
    metavar="DIR",
    help="Answer for a recorded machine: the folder with its proc/ and sys/, or FILE.tar.gz.",
)
@click.option(
    "--explain",
    metavar="NAME",
    help="Show every source of one fact or variable, what it said, and how the value follows; "
    "e.g. usable_cores, bf16, OMP_NUM_THREADS.",
)
@click.option(
    "--record",
    type=click.Path(),
    metavar="FILE.tar.gz",
    help="Record what is read of this machine, and nothing private, for a bug report; "
    "--sysroot replays it.",
)
@click.option(
    "--threads", metavar="N", help="Use at most N cores (NANO_INIT_THREADS does the same)."
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="The precision that nano-run is to use in this shell.",
)
@click.option("--pin", is_flag=True, help="Bind OpenMP threads to cores.")
@click.option("--force", is_flag=True, help="Override variables that you have set yourself.")
@click.option("-v", "--verbose", is_flag=True, help="With --shell: show the plan on stderr too.")
@click.version_option(nano_init.__version__, prog_name="nano-init")
def nano_init_command(
    show: bool,
    output: str,
    shell: str | None,
    unset: bool,
    sysroot: str,
    explain: str | None,
    record: str | None,
    threads: str | None,
    precision: str,
    pin: bool,
    force: bool,
    verbose: bool,
) -> int:
    """Recommend the environment that fits here, each variable with its reason.

    What is recommended depends on the processor, on the limits of the container or the
    job, and on the TensorFlow that is installed beside nano-init.
    """
    asked = {
        "--print": show,
        "--shell or --unset": bool(shell or unset),
        "--explain": explain is not None,
        "--record": record is not None,
    }
    together = [name for name, given in asked.items() if given]
    if len(together) > 1:
        raise click.UsageError(f"{' and '.join(together)} are different things to do; give one")
    return init(
        InitRequest(
            shell=shell,
            unset=unset,
            output=output,
            sysroot=sysroot,
            explain=explain,
            record=record,
            options=Options(
                threads=None if threads is None else parse_threads(threads),
                precision=precision,
                pin=pin,
                force=force,
            ),
            verbose=verbose,
        )
    )
