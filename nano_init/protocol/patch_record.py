"""The record of one part of the patch: a faster path, a guard, a repair. Pure data.

A record names callables as text, so that the launcher, the documentation and the scripts can read
it without Keras or TensorFlow.
"""

from __future__ import annotations

from nano_init.frozen import frozen
from nano_init.protocol.supported_versions import KERAS_RANGE, TENSORFLOW_RANGE

__all__ = ["GUARD", "OPTION", "PATH", "REPAIR", "WORKER", "PatchRecord"]

# The kinds of parts, and what is lost if a part cannot be used.
PATH = "faster path"  # its speed
GUARD = "precision guard"  # mixed_bfloat16, which would be silently wrong
REPAIR = "repair"  # what it repairs
OPTION = "option"  # the option that the user requested
WORKER = "part of a worker"  # training on several workers

_KERAS_PACKAGES = frozenset({"keras", "tf_keras"})


@frozen
class PatchRecord:
    """One part of the patch.

    A callable is text: its module, a colon, and its qualified name, as in
    `"keras.src.layers.rnn.gru:GRU.inner_loop"`.

    Args:
        name: the part's name; for a faster path also the name of its module.
        kind: one of the kinds above.
        summary: what it does, in one line of Markdown.
        replaces: the callables that it replaces.
        optional: callables that it replaces if this version has them.
        uses: private names that its code reads but does not replace.
        keras: the first and the last minor version of Keras that it was verified on.
        tensorflow: the first and the last minor version of TensorFlow, and of tf_keras.
        group: the tuner switches off all faster paths of a group together; "" for never.
        models: the benchmark models that show its effect.
        tolerance: the largest difference from Keras's float32 results in one call, relative to
            the largest result.
    """

    name: str
    kind: str
    summary: str
    replaces: tuple[str, ...]
    optional: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    keras: tuple[str, str] = KERAS_RANGE
    tensorflow: tuple[str, str] = TENSORFLOW_RANGE
    group: str = ""
    models: tuple[str, ...] = ()
    tolerance: float = 0.0

    @property
    def targets(self) -> tuple[str, ...]:
        """All callables that it may replace."""
        return (*self.replaces, *self.optional)

    @property
    def keras_packages(self) -> frozenset[str]:
        """The Keras packages that it is for: `"keras"` (Keras 3), `"tf_keras"` (Keras 2) or both.

        A part that changes TensorFlow alone, or the import, is for both.
        """
        named = {text.partition(".")[0] for text in self.targets} & _KERAS_PACKAGES
        return frozenset(named) or _KERAS_PACKAGES
