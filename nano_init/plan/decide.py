"""Decide what to set, and why. Pure: facts and wishes in, a plan out."""

from __future__ import annotations

from nano_init.errors import UsageError
from nano_init.plan.precision import recommend_precision
from nano_init.plan.settings import Plan, Setting
from nano_init.plan.threads import count_threads, thread_warnings
from nano_init.protocol.variables import THREADS_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.machine.facts import Machine
    from nano_init.plan.build import Build
    from nano_init.plan.settings import Options

__all__ = ["decide", "parse_threads", "thread_cap"]

# The most hardware threads that Linux can be built for (NR_CPUS, arch/x86/Kconfig).
_MOST_THREADS = 8192


def decide(
    machine: Machine,
    environ: Mapping[str, str],
    options: Options,
    build: Build | None,
    library: str | None = None,
) -> Plan:
    """Plan the environment of a training process.

    Args:
        machine: the computer, as the process sees it.
        environ: the user's environment, without anything that an earlier plan set.
        options: what the user asked for.
        build: the TensorFlow that will run, or None if that is not known.
        library: the allocator's library that was found for `options.allocator`, or None.

    Raises:
        UsageError: an option, or a variable that stands for one, has a wrong value.
    """
    cap, source = thread_cap(options, environ)
    threads = count_threads(machine, cap, source)
    wanted = _tensorflow_settings(threads.usable_cores)
    if options.openmp:
        wanted += _openmp_settings(machine, threads.usable_cores, options.pin, build)
    preload: tuple[Setting, ...] = ()
    if options.allocator != "none":  # nothing is imported for the default
        from nano_init.plan.allocator import allocator_settings

        preload = allocator_settings(options.allocator, library, environ)
        wanted += preload[1:]
    return Plan(
        threads=threads,
        precision=recommend_precision(machine.isa, environ),
        # The preload adds to the user's own value instead of replacing it.
        settings=(
            *(_respect_user(s, environ, force=options.force) for s in wanted),
            *preload[:1],
        ),
        warnings=machine.warnings + thread_warnings(machine, environ),
    )


def thread_cap(options: Options, environ: Mapping[str, str]) -> tuple[int | None, str]:
    """Return the user's bound on the number of cores, and where it comes from.

    Raises:
        UsageError: the bound is not a whole number from 1 to 8192.
    """
    if options.threads is not None:
        return parse_threads(str(options.threads), "--threads"), "--threads"
    text = environ.get(THREADS_VARIABLE, "")
    if not text:
        return None, ""
    return parse_threads(text, THREADS_VARIABLE), THREADS_VARIABLE


def parse_threads(text: str, source: str = "--threads") -> int:
    """Return a number of threads that the user gave as text.

    Args:
        text: what the user gave.
        source: the option or variable that holds it.

    Raises:
        UsageError: the text is not a whole number from 1 to 8192.
    """
    if text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= _MOST_THREADS:
        return int(text)
    raise UsageError(f"{source} is {text[:40]!r}; give a whole number from 1 to {_MOST_THREADS}")


def _tensorflow_settings(cores: int) -> tuple[Setting, ...]:
    return (
        Setting(
            "TF_NUM_INTRAOP_THREADS",
            str(cores),
            "threads within an operation: one per usable core. TensorFlow by itself counts the "
            "affinity mask and ignores the CPU quota",
        ),
        Setting(
            "TF_NUM_INTEROP_THREADS",
            str(cores),
            "threads for concurrent operations, including tf.data: one per usable core",
        ),
        Setting(
            "TF_ENABLE_ONEDNN_OPTS",
            "1",
            "oneDNN's kernels are on; without them bfloat16 is emulated",
        ),
    )


def _openmp_settings(
    machine: Machine, cores: int, pin: bool, build: Build | None
) -> tuple[Setting, ...]:
    smt = any(len(core.cpus) > 1 for core in machine.topology.cores)
    bound = "granularity=fine,compact,1,0" if smt else "granularity=fine,compact"
    reader = _openmp_reader(build)
    return (
        Setting("OMP_NUM_THREADS", str(cores), f"one OpenMP thread per usable core; {reader}"),
        Setting(
            "KMP_AFFINITY",
            bound if pin else "granularity=fine,none",
            (
                "one core per thread, as requested"
                if pin
                else "threads are not pinned: pinned threads of two processes would share cores"
            )
            + f"; {_kmp_reader(build)}",
        ),
        Setting(
            "KMP_BLOCKTIME",
            "1",
            f"idle OpenMP threads sleep after 1 ms and free their cores; {_kmp_reader(build)}",
        ),
    )


def _openmp_reader(build: Build | None) -> str:
    if build is None:
        return "NumPy and other OpenMP libraries read it"
    if build.pool == "openmp":
        return f"{build} sizes its pool by it"
    return f"NumPy and other OpenMP libraries read it, {build} (Eigen's thread pool) does not"


def _kmp_reader(build: Build | None) -> str:
    if build is not None and build.pool == "openmp":
        return f"{build} reads it"
    return "only Intel's and LLVM's OpenMP read it" + (f", {build} does not" if build else "")


def _respect_user(wanted: Setting, environ: Mapping[str, str], *, force: bool) -> Setting:
    own = environ.get(wanted.name)
    if own is None:
        return wanted
    if own == wanted.value:
        return Setting(wanted.name, own, f"already set by you: {wanted.reason}", "kept")
    if force:
        reason = f"{wanted.reason} (--force: was {own!r})"
        return Setting(wanted.name, wanted.value, reason)
    reason = f"your value is kept; nano-init would set {wanted.value}"
    return Setting(wanted.name, own, reason, "kept")
