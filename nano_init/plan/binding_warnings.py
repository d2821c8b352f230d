"""Warn of the user's variables that bind threads so that cores stay idle. Pure."""

from __future__ import annotations

from nano_init.machine.cpulist import parse_cpu_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nano_init.machine.facts import Core

__all__ = ["binding_warnings"]


def binding_warnings(cores: Sequence[Core], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for each binding that leaves most of the cores idle.

    Args:
        cores: the cores to train on.
        environ: the user's environment.
    """
    if len(cores) < 2:
        return ()
    return (
        *_warn_of_gomp(environ),
        *_warn_of_proclist(cores, environ),
        *_warn_of_siblings(cores, environ),
    )


def _warn_of_gomp(environ: Mapping[str, str]) -> list[str]:
    """Warn of what makes GCC's OpenMP bind the thread that loads it to its first place.

    Seen with GCC 12's libgomp (initialize_env in libgomp/env.c): from the moment it is
    loaded, sched_getaffinity(2) gives one place, to the process, to the threads that others
    start in it and to its children. Places of more than a core do no such harm.
    """
    bind = environ.get("OMP_PROC_BIND", "").strip().lower()
    places = environ.get("OMP_PLACES", "").strip().lower()
    if bind == "false" or (places and not _is_place_small(places)):
        return []
    name = next(
        (n for n in ("OMP_PLACES", "GOMP_CPU_AFFINITY", "OMP_PROC_BIND") if environ.get(n)), ""
    )
    if not name:
        return []
    return [
        (
            f"{name}={environ[name]} makes GCC's OpenMP, if a library brings it, bind the first "
            "thread to one core when it is loaded; TensorFlow's threads inherit that; unset it"
        )
    ]


def _is_place_small(places: str) -> bool:
    """Tell whether the first place of OMP_PLACES is a core or a hardware thread."""
    return places.startswith(("threads", "cores")) or places[1:].partition("}")[0].strip().isdigit()


def _warn_of_proclist(cores: Sequence[Core], environ: Mapping[str, str]) -> list[str]:
    text = environ.get("KMP_AFFINITY", "")
    core_of = {cpu: core.cpus for core in cores for cpu in core.cpus}
    bound = {core_of[cpu] for cpu in _parse_proclist(text) if cpu in core_of}
    if len(bound) != 1:
        return []
    return [f"KMP_AFFINITY={text} puts all OpenMP threads on one core of {len(cores)}; unset it"]


def _warn_of_siblings(cores: Sequence[Core], environ: Mapping[str, str]) -> list[str]:
    """Warn of "compact" without its permutation where cores have several hardware threads.

    Source: "Thread Affinity Interface" in Intel's compiler guide, "permute and offset".
    """
    text = environ.get("KMP_AFFINITY", "")
    words = [word.strip() for word in text.lower().split(",")]
    is_fine = not {"granularity=fine", "granularity=thread"}.isdisjoint(words)
    if "compact" not in words or not is_fine or all(len(core.cpus) == 1 for core in cores):
        return []
    if words[words.index("compact") + 1 :][:1] not in ([], ["0"]):
        return []
    return [
        (
            f"KMP_AFFINITY={text} fills the hardware threads of one core before the next, and "
            "leaves other cores idle; use compact,1,0"
        )
    ]


def _parse_proclist(text: str) -> tuple[int, ...]:
    """Return the processors of `proclist=[0,{2,3},4-5]` in KMP_AFFINITY; () without one."""
    _, found, rest = text.partition("proclist=[")
    words = rest.partition("]")[0]
    if not found or "explicit" not in text:
        return ()
    try:
        return parse_cpu_list(words.replace("{", "").replace("}", ""))
    except ValueError:
        return ()  # the user's own text; its OpenMP library complains itself
