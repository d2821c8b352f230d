"""The options of `nano-init`, as click shows, completes and checks them."""

from __future__ import annotations

from typing import Any

import click

import nano_init
from nano_init.cli.init_answer import answer
from nano_init.cli.table_options import given_values, with_options
from nano_init.message import NANO_INIT, say
from nano_init.plan.precision import TRAINABLE
from nano_init.run.init_table import HIDDEN, INIT_OPTIONS, build_init_request
from nano_init.shells.formats import FORMATS
from nano_init.shells.hooks import HOOKS
from nano_init.shells.render import SHELLS

__all__ = ["nano_init_command"]

_EPILOG = """\b
Examples:
  nano-init --print                      what suits this machine, and why
  nano-init --print --format json        the same for a program
  nano-init --format docker > nano.env   and docker run --env-file nano.env …
  nano-init --explain usable_cores       where a value comes from
  nano-init --doctor                     what is wrong here, and how to fix it
  nano-init --why-not mixed_bfloat16     one sentence
  nano-init --record machine.tar.gz      record this machine for a bug report
  nano-init --print --sysroot machine.tar.gz    give its answers anywhere
  eval "$(nano-init --shell bash)"       set it in this shell
  eval "$(nano-init --shell bash --unset)"   restore what was there

\b
In other shells:
  nano-init --shell fish | source
  eval "`nano-init --shell csh`"
  nano-init --shell powershell | Out-String | Where-Object { $_ } | Invoke-Expression

`source bigdl-nano-init` and `source bigdl-nano-unset-env` do the same as the two evals and
read options from NANO_INIT_ARGS. BigDL-Nano's short options work there:
-o (--no-openmp), -j and -t (--allocator jemalloc, tcmalloc), -c (--allocator none),
-p (--pin), -r N (--threads N), -d (-v).

\b
Completion: eval "$(_NANO_INIT_COMPLETE=bash_source nano-init)", or zsh_source, fish_source.
"""

_GONE = {
    "gpu": "nano-init is for CPUs",
    "sgx": "no variable is known to help inside an enclave",
}

_TYPES: dict[str, Any] = {
    "format": click.Choice(("table", "json", *FORMATS)),
    "shell": click.Choice(SHELLS),
    "hook": click.Choice(HOOKS),
    "trainable": click.Choice(TRAINABLE),
    "path": click.Path(),
}

_EXTRAS: dict[str, dict[str, Any]] = {
    "precision": {"default": "auto", "show_default": True},
    **{field: {"hidden": True} for field in HIDDEN},
}


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
@with_options(INIT_OPTIONS, _EXTRAS, _TYPES)
@click.version_option(nano_init.__version__, prog_name="nano-init")
def nano_init_command(**values: Any) -> int:
    """Recommend environment variables for this machine, each with its reason.

    They depend on the processor, on the limits of the container or job, and on the
    installed TensorFlow.
    """
    given = given_values(INIT_OPTIONS, values)
    request = build_init_request(given)
    for gone, why in _GONE.items():
        if given.get(gone):
            say(NANO_INIT, f"BigDL-Nano's --{gone} has no effect: {why}")
    return answer(request)
