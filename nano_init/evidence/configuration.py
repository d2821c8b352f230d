"""A way to train that the tuner can choose: values, and what they set. Pure and lean."""

from __future__ import annotations

from nano_init.frozen import frozen
from nano_init.plan.settings import Options, Plan, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "FUSIBLE",
    "Configuration",
    "first_candidates",
    "neighbours",
    "parse_configuration",
    "with_configuration",
]

# XLA fuses chains of elementwise operations and leaves matrix products to oneDNN
# (tensorflow/compiler/jit/flags.cc).
FUSIBLE = "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit --tf_xla_ops_to_cluster=FUSIBLE"

_XLA = "TF_XLA_FLAGS"
_DISABLE = "NANO_INIT_DISABLE"
_INTEROP = "TF_NUM_INTEROP_THREADS"
_INTRAOP = "TF_NUM_INTRAOP_THREADS"

_PRECISIONS = ("float32", "mixed_bfloat16")
_ALLOCATORS = ("none", "jemalloc", "tcmalloc")


@frozen
class Configuration:
    """One point of the tuner's space.

    Args:
        precision: "float32" or "mixed_bfloat16".
        xla: let XLA fuse elementwise chains.
        disable: switch all faster paths off.
        threads: threads inside an operation; 0 for one a usable core.
        interop: threads for operations side by side; 0 for one a usable core.
        allocator: "none", "jemalloc" or "tcmalloc".
    """

    precision: str = "float32"
    xla: bool = False
    disable: bool = False
    threads: int = 0
    interop: int = 0
    allocator: str = "none"

    def __str__(self) -> str:
        """Return what the configuration is, in a phrase."""
        words = [self.precision]
        if self.xla:
            words.append("XLA for elementwise chains")
        if self.disable:
            words.append("no faster paths")
        if self.threads:
            words.append(f"threads {self.threads}")
        if self.interop:
            words.append(f"inter-op threads {self.interop}")
        if self.allocator != "none":
            words.append(self.allocator)
        return ", ".join(words)

    def options(self, given: Options) -> Options:
        """Return the user's options with the precision and the allocator of this one."""
        return Options(
            threads=given.threads,
            precision=self.precision,
            allocator=self.allocator,
            pin=given.pin,
            openmp=given.openmp,
            force=given.force,
        )

    def values(self) -> dict[str, object]:
        """Return the fields by name, as `parse_configuration` takes them."""
        return dict(vars(self))


def parse_configuration(values: object) -> Configuration | None:
    """Return the configuration of some plain values, or None if they are not one's.

    Args:
        values: what a cache entry holds; it may be anything.
    """
    if not isinstance(values, dict) or set(values) != set(Configuration().values()):
        return None
    found = Configuration(**values)
    counts = (found.threads, found.interop)
    sound = (
        found.precision in _PRECISIONS
        and found.allocator in _ALLOCATORS
        and isinstance(found.xla, bool)
        and isinstance(found.disable, bool)
        and all(type(count) is int and 0 <= count <= 8192 for count in counts)
    )
    return found if sound else None


def first_candidates(
    precisions: tuple[str, ...], environ: Mapping[str, str]
) -> list[Configuration]:
    """Return the configurations that differ most, the one to hold others against first.

    Args:
        precisions: those to try; "float32" is the first.
        environ: the user's environment; what he has set himself is not varied.
    """
    modes = (False,) if _XLA in environ else (False, True)
    return [Configuration(precision, xla) for xla in modes for precision in precisions]


def neighbours(
    best: Configuration, cores: int, allocators: tuple[str, ...], environ: Mapping[str, str]
) -> Iterator[Configuration]:
    """Give the configurations that differ from one in a single choice.

    Args:
        best: the configuration to start from.
        cores: the usable cores.
        allocators: those that are found and load.
        environ: the user's environment; what he has set himself is not varied.
    """
    if cores > 1 and _INTEROP not in environ:
        yield _changed(best, interop=1)
    if _DISABLE not in environ:
        yield _changed(best, disable=True)
    if cores > 1 and _INTRAOP not in environ:
        yield _changed(best, threads=max(1, cores // 2))
    if "LD_PRELOAD" not in environ:
        yield from (_changed(best, allocator=name) for name in allocators)


def with_configuration(plan: Plan, chosen: Configuration, environ: Mapping[str, str]) -> Plan:
    """Return a plan with the variables of a configuration; the user's own values stay.

    Args:
        plan: the plan for the precision and the allocator of the configuration.
        chosen: the configuration.
        environ: the user's environment.
    """
    wanted = {
        _XLA: FUSIBLE if chosen.xla else None,
        _DISABLE: "all" if chosen.disable else None,
        _INTRAOP: str(chosen.threads) if chosen.threads else None,
        _INTEROP: str(chosen.interop) if chosen.interop else None,
    }
    tuned = {n: v for n, v in wanted.items() if v is not None and n not in environ}
    settings = tuple(s for s in plan.settings if s.name not in tuned) + tuple(
        Setting(name, value, "measured to be the fastest for this script")
        for name, value in tuned.items()
    )
    return Plan(plan.threads, plan.precision, settings, plan.warnings)


def _changed(base: Configuration, **changes: object) -> Configuration:
    return Configuration(**{**base.values(), **changes})  # type: ignore[arg-type]
