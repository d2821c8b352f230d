"""Tell in one line when a remembered choice was measured on another model.

The script's file is what a choice is remembered by; a module that it imports, or a file that it
reads, may have changed its model since. What tells is the shapes of the variables that its
first optimizer is built for.
"""

from __future__ import annotations

import functools
import json
import sys
from binascii import crc32

from nano_init.evidence.watch_hooks import optimizer_class

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

__all__ = ["SIGNATURE_VARIABLE", "digest", "expect_model", "shapes_of"]

# The digests of the models that a choice was measured on; the bootstrap takes it out.
SIGNATURE_VARIABLE = "NANO_INIT_SIGNATURE"

_OTHER_MODEL = "nano-run: the remembered choice was measured on another model; --tune measures anew"


def digest(signature: str) -> str:
    """Return a signature as short as a variable should be.

    Args:
        signature: for each optimizer the shapes of its variables, as JSON; "" if unknown.
    """
    shapes = json.loads(signature) if signature else []
    return ",".join(_digest(each) for each in shapes if each)


def shapes_of(variables: Iterable[Any]) -> list[list[int]]:
    """Return the shapes of an optimizer's variables."""
    return [[int(size) for size in variable.shape] for variable in variables]


def expect_model(expected: str, name: str) -> None:
    """Look at what the first optimizer is built for, and say if it is not what is expected.

    Args:
        expected: digests, as `digest` gives them.
        name: the package that has just been imported, "keras" or "tf_keras".
    """
    optimizer = optimizer_class(name)[0]
    build = optimizer.build
    is_known = False

    @functools.wraps(build)
    def looking_build(self: Any, variables: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal is_known
        if not is_known:
            is_known = True
            if _digest(shapes_of(variables)) not in expected.split(","):
                print(_OTHER_MODEL, file=sys.stderr)
        return build(self, variables, *args, **kwargs)

    optimizer.build = looking_build


def _digest(shapes: Sequence[Sequence[int]]) -> str:
    return f"{crc32(json.dumps(shapes).encode()):08x}"
