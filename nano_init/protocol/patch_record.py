"""What is known of one part of the patch: a faster path, a guard, a repair. Pure data.

A record names callables as text, so that the launcher, the documentation and the scripts read
it without Keras or TensorFlow.
"""

from __future__ import annotations

from nano_init.frozen import frozen
from nano_init.protocol.supported_versions import KERAS_RANGE, TENSORFLOW_RANGE

__all__ = ["GUARD", "OPTION", "PATH", "REPAIR", "WORKER", "PatchRecord"]

# The kinds of parts, and what it costs where one cannot be used.
PATH = "faster path"  # its speed
GUARD = "precision guard"  # mixed_bfloat16, which would be silently wrong
REPAIR = "repair"  # what it repairs
OPTION = "option"  # the option that the user asked for
WORKER = "part of a worker"  # training on several workers


@frozen
class PatchRecord:
    """One part of the patch.

    A callable is text: its module, a colon, and its name there, as in
    `"keras.src.layers.rnn.gru:GRU.inner_loop"`.

    Args:
        name: the part's name; that of a faster path is that of its module, too.
        kind: one of the kinds above.
        summary: what it does, in one line of Markdown.
        replaces: the callables that it replaces.
        optional: callables that it replaces where this version has them.
        uses: private names that its code reads and does not replace.
        keras: the first and the last minor version of Keras that it was verified on.
        tensorflow: the first and the last minor version of TensorFlow, and of tf_keras.
        group: the tuner leaves out all faster paths of a group together; "" for never.
        models: the models of the benchmarks that show what it brings.
        tolerance: the largest difference from Keras's float32 numbers in one call, over the
            largest number.
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
