"""A way to train that the tuner can choose: values, and what they set. Pure and lean."""

from __future__ import annotations

from nano_init.errors import UsageError
from nano_init.frozen import frozen, replace
from nano_init.plan.settings import Setting
from nano_init.protocol.variables import DISABLE_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.plan.settings import Options, Plan
    from nano_init.protocol.patch_options import PatchOptions

__all__ = ["FUSIBLE", "INTEROP", "INTRAOP", "XLA", "Configuration", "parse_configuration"]

# XLA fuses chains of elementwise operations and leaves matrix products to oneDNN
# (tensorflow/compiler/jit/flags.cc).
FUSIBLE = "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit --tf_xla_ops_to_cluster=FUSIBLE"

XLA = "TF_XLA_FLAGS"
INTEROP = "TF_NUM_INTEROP_THREADS"
INTRAOP = "TF_NUM_INTRAOP_THREADS"

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
        """Return the user's options with the allocator of this one."""
        return replace(given, allocator=self.allocator)

    def patch(self, given: PatchOptions) -> PatchOptions:
        """Return the user's options of the patch with this precision and steps per execution."""
        steps = int(self.steps) if self.steps.isdigit() else self.steps or None
        return replace(given, precision=self.precision, steps_per_execution=steps)

    def plan(self, plan: Plan, environ: Mapping[str, str]) -> Plan:
        """Return a plan with the variables of this one; the user's own values stay.

        Args:
            plan: the plan for the allocator of this one.
            environ: the user's environment.
        """
        wanted = {
            XLA: FUSIBLE if self.xla else None,
            DISABLE_VARIABLE: self.disable or None,
            INTRAOP: str(self.threads) if self.threads else None,
            INTEROP: str(self.interop) if self.interop else None,
        }
        tuned = {n: v for n, v in wanted.items() if v is not None and n not in environ}
        settings = tuple(s for s in plan.settings if s.name not in tuned) + tuple(
            Setting(name, value, "measured to be the fastest for this script")
            for name, value in tuned.items()
        )
        return replace(plan, settings=settings)

    def distance(self, other: Configuration) -> int:
        """Return in how many choices this one differs from another."""
        others = other.values()
        return sum(value != others[name] for name, value in self.values().items())

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
    from nano_init.protocol.faster_paths import FASTER_PATHS

    return all(name in FASTER_PATHS for name in text.split(","))


def _is_number_of_steps(text: str) -> bool:
    if text in ("", "auto"):
        return True
    from nano_init.protocol.patch_options import parse_steps_per_execution

    try:
        return parse_steps_per_execution(text) is not None
    except UsageError:
        return False
