"""The options of `nano-init`, one row for each, as `option_table` has those of `nano-run`."""

from __future__ import annotations

from nano_init.errors import UsageError
from nano_init.frozen import frozen
from nano_init.plan.settings import Options
from nano_init.protocol.patch_options import PatchOptions
from nano_init.run.option_row import OptionRow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["HIDDEN", "INIT_OPTIONS", "InitRequest", "build_init_request"]


@frozen
class InitRequest:
    """One call of `nano-init`.

    Args:
        shell: the shell to print code for, or None to show the plan.
        unset: print the way back instead of the way in.
        output: how to show the plan: "table", "json" or the name of a data format.
        sysroot: the root of the machine to answer for.
        options: the options for the environment.
        patch: the options for the patch: only the precision.
        verbose: with a shell, show the table on stderr too.
        explain: the fact or variable to explain, or None.
        record: the file to record the machine in, or None.
        install_hook: "conda" or "venv": hook into that environment.
        remove_hook: likewise, and out of it.
        install_kernel: install the Jupyter kernel.
        remove_kernel: remove it.
        doctor: examine the machine and the environment.
        why_not: the precision to answer about, or None.
    """

    shell: str | None = None
    unset: bool = False
    output: str = "table"
    sysroot: str = "/"
    options: Options = Options()
    patch: PatchOptions = PatchOptions()
    verbose: bool = False
    explain: str | None = None
    record: str | None = None
    install_hook: str | None = None
    remove_hook: str | None = None
    install_kernel: bool = False
    remove_kernel: bool = False
    doctor: bool = False
    why_not: str | None = None


INIT_OPTIONS = (
    OptionRow(
        ("--print",),
        "show",
        "Show the machine and the recommended environment (default).",
        is_plain=True,
    ),
    OptionRow(
        ("--format",),
        "output",
        "Output format. Default: table.",
        "value",
        type="format",
        is_plain=True,
    ),
    OptionRow(
        ("--shell",),
        "shell",
        "Print code for this shell to evaluate.",
        "value",
        type="shell",
        is_plain=True,
    ),
    OptionRow(
        ("--unset",),
        "unset",
        "Print the code that restores the previous environment.",
        is_plain=True,
    ),
    OptionRow(
        ("--explain",),
        "explain",
        "Show every source of one fact or variable and how the value follows from them, e.g. "
        "usable_cores, bf16, OMP_NUM_THREADS.",
        "value",
        "NAME",
    ),
    OptionRow(
        ("--doctor",),
        "doctor",
        "Examine this machine and environment in a few seconds, and say what to fix. Exit status "
        "1 if there is a problem.",
    ),
    OptionRow(
        ("--why-not",),
        "why_not",
        "Say in one sentence why this precision is not used here, or that it is.",
        "value",
        type="trainable",
    ),
    OptionRow(
        ("--record",),
        "record",
        "Record what nano-init reads of this machine, and nothing private, for a bug report. "
        "--sysroot replays it.",
        "value",
        "FILE.tar.gz",
        "path",
    ),
    OptionRow(
        ("--sysroot",),
        "sysroot",
        "Answer for a recorded machine: a folder with its proc/ and sys/, or FILE.tar.gz.",
        "value",
        "DIR",
        "path",
        is_plain=True,
    ),
    OptionRow(
        ("--install-hook",),
        "install_hook",
        "Set the variables whenever the active conda or virtual environment is activated.",
        "value",
        type="hook",
    ),
    OptionRow(("--remove-hook",), "remove_hook", "Remove that hook.", "value", type="hook"),
    OptionRow(
        ("--install-kernel",),
        "install_kernel",
        "Install a Jupyter kernel that runs under nano-run.",
    ),
    OptionRow(("--remove-kernel",), "remove_kernel", "Remove that kernel."),
    OptionRow(
        ("-r", "--threads"),
        "threads",
        "Use at most N cores. NANO_INIT_THREADS does the same.",
        "value",
        "N",
    ),
    OptionRow(
        ("--precision",),
        "precision",
        "The precision that nano-run uses in this shell.",
        "value",
        type="precision",
    ),
    OptionRow(
        ("--allocator",),
        "allocator",
        "Preload a memory allocator, if one is installed and loads. Default: none.",
        "value",
        type="allocator",
    ),
    OptionRow(("-p", "--pin", "--perf"), "pin", "Bind OpenMP threads to cores.", is_plain=True),
    OptionRow(
        ("-o", "--no-openmp", "--disable-openmp"), "no_openmp", "Do not set OpenMP's variables."
    ),
    OptionRow(
        ("--force",),
        "force",
        "Override variables, and overwrite recordings, of your own.",
        is_plain=True,
    ),
    OptionRow(
        ("-v", "--verbose", "-d", "--debug"),
        "verbose",
        "With --shell: also show the plan on stderr.",
        is_plain=True,
    ),
    OptionRow(("-j", "--enable-jemalloc"), "jemalloc", ""),
    OptionRow(("-t", "--enable-tcmalloc"), "tcmalloc", ""),
    OptionRow(("-c", "--disable-allocator"), "no_allocator", ""),
    OptionRow(("-g", "--gpu"), "gpu", ""),
    OptionRow(("-s", "--sgx"), "sgx", ""),
)

# BigDL-Nano's own, which no help text shows.
HIDDEN = frozenset({"jemalloc", "tcmalloc", "no_allocator", "gpu", "sgx"})

# Different things to do, of which one call does one.
_ACTIONS = (
    *("explain", "doctor", "why_not", "record", "install_hook", "remove_hook"),
    *("install_kernel", "remove_kernel"),
)


def build_init_request(given: Mapping[str, Any]) -> InitRequest:
    """Return the request that a command line makes, whichever parser has read it.

    Args:
        given: the values of the options that were given, by their fields.

    Raises:
        UsageError: a value is none of those allowed, or two options do not go together.
    """
    _check_one_action(given)
    threads = None
    if "threads" in given:
        from nano_init.plan.decide import parse_threads

        threads = parse_threads(given["threads"])
    direct = ("shell", "sysroot", "output", "verbose", "unset", *_ACTIONS)
    return InitRequest(
        options=Options(
            threads=threads,
            allocator=_allocator(given),
            pin=bool(given.get("pin")),
            openmp=not given.get("no_openmp"),
            force=bool(given.get("force")),
        ),
        patch=PatchOptions(given.get("precision", "auto")),
        **{field: given[field] for field in direct if field in given},
    )


def _check_one_action(given: Mapping[str, Any]) -> None:
    asked = {
        "--print": given.get("show"),
        "--shell or --unset": given.get("shell") or given.get("unset"),
        **{f"--{name.replace('_', '-')}": given.get(name) for name in _ACTIONS},
    }
    together = [name for name, wanted in asked.items() if wanted]
    output = given.get("output")
    if len(together) > 1:
        raise UsageError(f"{' and '.join(together)} cannot be combined")
    if given.get("doctor") and output not in (None, "table", "json"):
        raise UsageError("--doctor supports --format table and json only")
    if given.get("sysroot", "/") != "/" and given.get("doctor"):
        raise UsageError("--doctor examines this machine and cannot be combined with --sysroot")
    if output and together and together[0] not in ("--print", "--explain", "--doctor"):
        raise UsageError(f"--format cannot be combined with {together[0]}")


def _allocator(given: Mapping[str, Any]) -> str:
    named = {"jemalloc": "jemalloc", "tcmalloc": "tcmalloc", "no_allocator": "none"}
    asked = {name for field, name in named.items() if given.get(field)}
    if given.get("allocator"):
        asked.add(str(given["allocator"]))
    if len(asked) > 1:
        raise UsageError(f"only one allocator can be used, not {' and '.join(sorted(asked))}")
    return asked.pop() if asked else "none"
