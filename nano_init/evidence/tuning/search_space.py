"""What the tuner tries: the configurations that differ most, and those next to a good one. Pure."""

from __future__ import annotations

from nano_init.frozen import frozen, replace
from nano_init.plan.configuration import INTEROP, INTRAOP, XLA, Configuration
from nano_init.protocol.faster_paths import path_groups
from nano_init.protocol.variables import DISABLE_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["PATH_GROUPS", "Choices", "first_candidates"]

# Faster paths that are left out together: of one kind of layer, or of one technique.
PATH_GROUPS = tuple(",".join(names) for names in path_groups())

# Of a script that trains with Keras 2.
_LEGACY_GROUPS = tuple(",".join(names) for names in path_groups("tf_keras"))

# Faster paths that bring less are looked at group by group.
_BROUGHT = 1.02


def first_candidates(
    precisions: tuple[str, ...], steps: str, environ: Mapping[str, str]
) -> list[Configuration]:
    """Return the configurations that differ most, the one to compare others with first.

    Args:
        precisions: those to try; "float32" is the first.
        steps: the steps per execution that the user allows, or "".
        environ: the user's environment; what it sets is not varied.
    """
    modes = (False,) if XLA in environ else (False, True)
    paths = ("",) if DISABLE_VARIABLE in environ else ("", "all")
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
        environ: the user's environment; what it sets is not varied.
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
        if self.cores > 1 and INTEROP not in self.environ:
            yield replace(base, interop=0 if base.interop else 1)
        if DISABLE_VARIABLE not in self.environ:
            yield replace(base, disable="" if base.disable == "all" else "all")
        if self.steps:
            yield replace(base, steps="" if base.steps else self.steps)
        if self.cores > 1 and INTRAOP not in self.environ:
            yield replace(base, threads=0 if base.threads else max(1, self.cores // 2))
        if "LD_PRELOAD" not in self.environ:
            names = ("none", *self.allocators)
            yield from (replace(base, allocator=n) for n in names if n != base.allocator)
        if DISABLE_VARIABLE not in self.environ and _is_bare_as_fast(base, measured):
            groups = _LEGACY_GROUPS if _is_legacy(self.environ) else PATH_GROUPS
            yield from (replace(base, disable=_without(base.disable, group)) for group in groups)


def _is_legacy(environ: Mapping[str, str]) -> bool:
    """Say whether `tf.keras` is Keras 2. A script that imports `tf_keras` by itself is not seen."""
    # TensorFlow accepts exactly these (tensorflow/python/util/lazy_loader.py).
    return environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True")


def _is_bare_as_fast(base: Configuration, measured: Mapping[Configuration, float]) -> bool:
    """Say whether the faster paths together bring nothing, so that one of them may cost."""
    bare = measured.get(replace(base, disable="all"))
    patched = measured.get(replace(base, disable=""))
    return bare is not None and patched is not None and bare < _BROUGHT * patched


def _without(disabled: str, group: str) -> str:
    """Return a list of paths with those of a group, or without them if it has them."""
    names = [] if disabled in ("", "all") else disabled.split(",")
    ours = group.split(",")
    if set(ours) <= set(names):
        return ",".join(name for name in names if name not in ours)
    return ",".join(sorted({*names, *ours}))
