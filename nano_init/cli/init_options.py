"""The options of `nano-init`, as click shows, completes and checks them."""

from __future__ import annotations

import click

import nano_init
from nano_init.cli.click_command import PrecisionName
from nano_init.cli.init import InitRequest, init
from nano_init.message import say
from nano_init.plan.allocator import ALLOCATOR_CHOICES
from nano_init.plan.decide import parse_threads
from nano_init.plan.precision import PRECISIONS
from nano_init.plan.settings import Options
from nano_init.shells.formats import FORMATS
from nano_init.shells.hooks import HOOKS
from nano_init.shells.render import SHELLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["nano_init_command"]

_EPILOG = """\b
Examples:
  nano-init --print                      what fits here, and why
  nano-init --print --format json        the same for a program
  nano-init --format docker > nano.env   and docker run --env-file nano.env …
  nano-init --explain usable_cores       every source, what it said, how it follows
  nano-init --doctor                     what is wrong here, and how to mend it
  nano-init --why-not mixed_bfloat16     one sentence
  nano-init --record machine.tar.gz      record this machine for a bug report
  nano-init --print --sysroot machine.tar.gz    and answer for it elsewhere
  eval "$(nano-init --shell bash)"       set it in this shell
  eval "$(nano-init --shell bash --unset)"   and put back what was there

\b
In other shells:
  nano-init --shell fish | source
  eval "`nano-init --shell csh`"
  nano-init --shell powershell | Out-String | Where-Object { $_ } | Invoke-Expression

`source bigdl-nano-init` and `source bigdl-nano-unset-env` are the short way to the two
evals; they take options out of NANO_INIT_ARGS. BigDL-Nano's short options still work there:
-o (--no-openmp), -j and -t (--allocator jemalloc, tcmalloc), -c (--allocator none),
-p (--pin), -r N (--threads N), -d (-v).

\b
Completion: eval "$(_NANO_INIT_COMPLETE=bash_source nano-init)", or zsh_source, fish_source.
"""

_GONE = {
    "gpu": "nano-init is for processors",
    "sgx": "no variable is known to help inside an enclave",
}


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
@click.option("--print", "show", is_flag=True, help="Show the machine and the plan (default).")
@click.option(
    "--format",
    "output",
    type=click.Choice(("table", "json", *FORMATS)),
    help="How to show the plan; table is the default.",
)
@click.option("--shell", type=click.Choice(SHELLS), help="Print code for this shell to evaluate.")
@click.option("--unset", is_flag=True, help="Print the way back to the environment before.")
@click.option(
    "--explain",
    metavar="NAME",
    help="Show every source of one fact or variable, what it said, and how the value follows; "
    "e.g. usable_cores, bf16, OMP_NUM_THREADS.",
)
@click.option(
    "--doctor",
    is_flag=True,
    help="Examine this machine and this environment in a few seconds, and say what to mend; "
    "exit code 1 if there is a problem.",
)
@click.option(
    "--why-not",
    type=click.Choice(PRECISIONS[1:]),
    help="Say in one sentence why this precision is not taken here, or that it is.",
)
@click.option(
    "--record",
    type=click.Path(),
    metavar="FILE.tar.gz",
    help="Record what is read of this machine, and nothing private, for a bug report; "
    "--sysroot replays it.",
)
@click.option(
    "--sysroot",
    type=click.Path(),
    default="/",
    metavar="DIR",
    help="Answer for a recorded machine: the folder with its proc/ and sys/, or FILE.tar.gz.",
)
@click.option(
    "--install-hook",
    type=click.Choice(HOOKS),
    help="Let the active conda or virtual environment set the variables when it is activated.",
)
@click.option("--remove-hook", type=click.Choice(HOOKS), help="Take that hook out again.")
@click.option("--install-kernel", is_flag=True, help="Install a Jupyter kernel under nano-run.")
@click.option("--remove-kernel", is_flag=True, help="Take that kernel away again.")
@click.option(
    "-r",
    "--threads",
    metavar="N",
    help="Use at most N cores (NANO_INIT_THREADS does the same).",
)
@click.option(
    "--precision",
    type=PrecisionName(),
    default="auto",
    show_default=True,
    help="The precision that nano-run is to use in this shell.",
)
@click.option(
    "--allocator",
    type=click.Choice(ALLOCATOR_CHOICES),
    help="Preload a memory allocator that is found and seen to load; none is the default.",
)
@click.option("-p", "--pin", "--perf", is_flag=True, help="Bind OpenMP threads to cores.")
@click.option(
    "-o", "--no-openmp", "--disable-openmp", is_flag=True, help="Leave OpenMP's variables alone."
)
@click.option("--force", is_flag=True, help="Override what you have set or recorded yourself.")
@click.option(
    "-v",
    "--verbose",
    "-d",
    "--debug",
    is_flag=True,
    help="With --shell: show the plan on stderr too.",
)
@click.option("-j", "--enable-jemalloc", "jemalloc", is_flag=True, hidden=True)
@click.option("-t", "--enable-tcmalloc", "tcmalloc", is_flag=True, hidden=True)
@click.option("-c", "--disable-allocator", "no_allocator", is_flag=True, hidden=True)
@click.option("-g", "--gpu", is_flag=True, hidden=True)
@click.option("-s", "--sgx", is_flag=True, hidden=True)
@click.version_option(nano_init.__version__, prog_name="nano-init")
def nano_init_command(**given: Any) -> int:
    """Recommend the environment that fits here, each variable with its reason.

    What is recommended depends on the processor, on the limits of the container or the
    job, and on the TensorFlow that is installed beside nano-init.
    """
    _check_one_thing(given)
    for gone, why in _GONE.items():
        if given[gone]:
            say("nano-init", f"--{gone} of BigDL-Nano changes nothing here: {why}")
    threads = given["threads"]
    return init(
        InitRequest(
            shell=given["shell"],
            unset=given["unset"],
            output=given["output"] or "table",
            sysroot=given["sysroot"],
            explain=given["explain"],
            record=given["record"],
            install_hook=given["install_hook"],
            remove_hook=given["remove_hook"],
            install_kernel=given["install_kernel"],
            remove_kernel=given["remove_kernel"],
            doctor=given["doctor"],
            why_not=given["why_not"],
            options=Options(
                threads=None if threads is None else parse_threads(threads),
                precision=given["precision"],
                allocator=_allocator(given),
                pin=given["pin"],
                openmp=not given["no_openmp"],
                force=given["force"],
            ),
            verbose=given["verbose"],
        )
    )


def _check_one_thing(given: dict[str, Any]) -> None:
    asked = {
        "--print": given["show"],
        "--shell or --unset": given["shell"] or given["unset"],
        **{
            f"--{name.replace('_', '-')}": given[name]
            for name in (
                "explain",
                "doctor",
                "why_not",
                "record",
                "install_hook",
                "remove_hook",
                "install_kernel",
                "remove_kernel",
            )
        },
    }
    together = [name for name, wanted in asked.items() if wanted]
    if len(together) > 1:
        raise click.UsageError(f"{' and '.join(together)} are different things to do; give one")
    if given["doctor"] and given["output"] not in (None, "table", "json"):
        raise click.UsageError("--doctor answers in --format table or json")
    if given["sysroot"] != "/" and given["doctor"]:
        raise click.UsageError("--doctor examines this machine; it does not go with --sysroot")
    if given["output"] and together and together[0] not in ("--print", "--explain", "--doctor"):
        raise click.UsageError(f"--format shows the plan; it does not go with {together[0]}")


def _allocator(given: dict[str, Any]) -> str:
    asked = {
        given["allocator"],
        "jemalloc" if given["jemalloc"] else None,
        "tcmalloc" if given["tcmalloc"] else None,
        "none" if given["no_allocator"] else None,
    } - {None}
    if len(asked) > 1:
        raise click.UsageError(f"only one allocator can be used, not {' and '.join(sorted(asked))}")
    return asked.pop() if asked else "none"
