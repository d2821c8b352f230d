"""Print one line if a stored choice was measured on another model.

A choice is stored by the script's file. A module that the script imports, or a file that it reads,
may have changed the model since. The shapes of the variables of the first optimizer show that.
"""

from __future__ import annotations

import functools

from nano_init.instrumentation.watch_hooks import optimizer_class
from nano_init.message import NANO_RUN, say
from nano_init.protocol.model_signature import digest_shapes, shapes_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Optimizer

__all__ = ["expect_model"]

_OTHER_MODEL = "the stored choice was measured on another model; --tune measures again"


def expect_model(expected: str, name: str) -> None:
    """Compare the variables of the first optimizer with the expected ones, and report a mismatch.

    Args:
        expected: digests, as `digest_signature` returns them.
        name: the package that was just imported, "keras" or "tf_keras".
    """
    optimizer = optimizer_class(name)[0]
    build = optimizer.build
    is_known = False

    @functools.wraps(build)
    def looking_build(self: Optimizer, variables: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal is_known
        if not is_known:
            is_known = True
            if digest_shapes(shapes_of(variables)) not in expected.split(","):
                say(NANO_RUN, _OTHER_MODEL)
        return build(self, variables, *args, **kwargs)

    optimizer.build = looking_build
