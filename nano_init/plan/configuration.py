"""A way to train that the tuner can choose: values, and what they set. Pure and lean."""

from __future__ import annotations

from nano_init.errors import UsageError
from nano_init.frozen import frozen
from nano_init.plan.settings import Options, Plan, Setting
from nano_init.protocol.patch_options import TrainingOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "FUSIBLE",
    "PATH_GROUPS",
    "Choices",
    "Configuration",
    "first_candidates",
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

# Faster paths that are left out together: of one kind of layer, or of one technique.
PATH_GROUPS = (
    "activations,attention,cross_entropy,layer_norm",
    "adam,rmsprop,sgd",
    "batch_norm,convolution,depthwise",
    "gru,lstm",
    "dropout,einsum_dense,embedding",
    "step_call",
)

# Faster paths that bring less are looked at group by group.
_BROUGHT = 1.02

_PRECISIONS = ("float32", "mixed_bfloat16")
_ALLOCATORS = ("none", "jemalloc", "tcmalloc")


@frozen
class Configuration:
    """One point of the tuner's space.

    Args:
        precision: "float32" or "mixed_bfloat16".
        xla: let XLA fuse elementwise chains.
        disable: faster paths to switch off, with commas between them; "all" for all.
        steps: training steps between two returns to Python, or "auto"; "" for one.
        threads: threads inside an operation; 0 for one a usable core.
        interop: threads for operations side by side; 0 for one a usable core.
        allocator: "none", "jemalloc" or "tcmalloc".
    """

    precision: str = "float32"
    xla: bool = False
    disable: str = ""
    steps: str = ""
    threads: int = 0
    interop: int = 0
    allocator: str = "none"

    def __str__(self) -> str:
        """Return what the configuration is, in a phrase."""
        words = [self.precision]
        if self.xla:
            words.append("XLA for elementwise chains")
        if self.disable:
            is_all = self.disable == "all"
            names = self.disable.replace(",", ", ")
            words.append("no faster paths" if is_all else f"without {names}")
        if self.steps:
            number = "several" if self.steps == "auto" else self.steps
            words.append(f"{number} steps per execution")
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

    def training(self, given: TrainingOptions) -> TrainingOptions:
        """Return the user's options of training with the steps per execution of this one."""
        steps = int(self.steps) if self.steps.isdigit() else self.steps or None
        return TrainingOptions(given.disable, given.lazy_adam, steps, given.warning)

    def with_steps(self, steps: str) -> Configuration:
        """Return this one with other steps per execution."""
        return _changed(self, steps=steps)

    def distance(self, other: Configuration) -> int:
        """Return in how many choices this one differs from another."""
        theirs = other.values()
        return sum(value != theirs[name] for name, value in self.values().items())

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
        and isinstance(found.disable, str)
        and isinstance(found.steps, str)
        and _is_list_of_paths(found.disable)
        and _is_number_of_steps(found.steps)
        and all(type(count) is int and 0 <= count <= 8192 for count in counts)
    )
    return found if sound else None


def _is_list_of_paths(text: str) -> bool:
    if text in ("", "all"):
        return True
    from nano_init.keras_patch.faster.registry import FASTER_PATHS

    return all(name in FASTER_PATHS for name in text.split(","))


def _is_number_of_steps(text: str) -> bool:
    if text in ("", "auto"):
        return True
    from nano_init.plan.steps import parse_steps_per_execution

    try:
        return parse_steps_per_execution(text) is not None
    except UsageError:
        return False


def first_candidates(
    precisions: tuple[str, ...], steps: str, environ: Mapping[str, str]
) -> list[Configuration]:
    """Return the configurations that differ most, the one to hold others against first.

    Args:
        precisions: those to try; "float32" is the first.
        steps: the steps per execution that the user allows, or "".
        environ: the user's environment; what he has set himself is not varied.
    """
    modes = (False,) if _XLA in environ else (False, True)
    paths = ("",) if _DISABLE in environ else ("", "all")
    return [
        Configuration(precision, xla, disable, steps)
        for xla in modes
        for disable in paths
        for precision in precisions
    ]


@frozen
class Choices:
    """What may be varied on this machine.

    Args:
        cores: the usable cores.
        allocators: those that are found and load.
        steps: the steps per execution that the user allows, or "".
        environ: the user's environment; what he has set himself is not varied.
    """

    cores: int
    allocators: tuple[str, ...]
    steps: str
    environ: Mapping[str, str]

    def beside(
        self, base: Configuration, measured: Mapping[Configuration, float]
    ) -> Iterator[Configuration]:
        """Give the configurations that differ from one in a single choice.

        Args:
            base: the configuration to start from.
            measured: step times of what was tried, over any one of them.
        """
        if self.cores > 1 and _INTEROP not in self.environ:
            yield _changed(base, interop=0 if base.interop else 1)
        if _DISABLE not in self.environ:
            yield _changed(base, disable="" if base.disable == "all" else "all")
        if self.steps:
            yield _changed(base, steps="" if base.steps else self.steps)
        if self.cores > 1 and _INTRAOP not in self.environ:
            yield _changed(base, threads=0 if base.threads else max(1, self.cores // 2))
        if "LD_PRELOAD" not in self.environ:
            names = ("none", *self.allocators)
            yield from (_changed(base, allocator=n) for n in names if n != base.allocator)
        if _DISABLE not in self.environ and _is_bare_as_fast(base, measured):
            yield from (_changed(base, disable=_without(base.disable, g)) for g in PATH_GROUPS)


def _is_bare_as_fast(base: Configuration, measured: Mapping[Configuration, float]) -> bool:
    """Say whether the faster paths together bring nothing, so that one of them may cost."""
    bare = measured.get(_changed(base, disable="all"))
    patched = measured.get(_changed(base, disable=""))
    return bare is not None and patched is not None and bare < _BROUGHT * patched


def _without(disabled: str, group: str) -> str:
    """Return a list of paths with those of a group, or without them if it has them."""
    names = [] if disabled in ("", "all") else disabled.split(",")
    ours = group.split(",")
    if set(ours) <= set(names):
        return ",".join(name for name in names if name not in ours)
    return ",".join(sorted({*names, *ours}))


def with_configuration(plan: Plan, chosen: Configuration, environ: Mapping[str, str]) -> Plan:
    """Return a plan with the variables of a configuration; the user's own values stay.

    Args:
        plan: the plan for the precision and the allocator of the configuration.
        chosen: the configuration.
        environ: the user's environment.
    """
    wanted = {
        _XLA: FUSIBLE if chosen.xla else None,
        _DISABLE: chosen.disable or None,
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
