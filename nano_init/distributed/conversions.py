"""Variables of a job as Python's numbers and NumPy's arrays, as TensorFlow's plain ones are.

`DistributedVariable` lacks what `BaseResourceVariable` has for that (tensorflow/python/ops/
resource_variable_ops.py, TensorFlow 2.21): `float(variable)` is an error otherwise, and
`np.asarray(variable)` an array of objects. Its truth stays that of an object: TensorFlow asks
for it to see whether there is a variable at all.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["convert_as_plain_variables"]

_CONVERSIONS = ("__float__", "__int__", "__complex__")


def convert_as_plain_variables() -> None:
    """Let variables of a job be converted where plain ones are."""
    from tensorflow.python.distribute.values import DistributedVariable
    from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable

    for name in _CONVERSIONS:
        if not hasattr(DistributedVariable, name) and hasattr(BaseResourceVariable, name):
            setattr(DistributedVariable, name, _by_value(name))
    if not hasattr(DistributedVariable, "__array__"):
        DistributedVariable.__array__ = _as_array


def _by_value(name: str) -> Callable[..., Any]:
    def convert(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.read_value(), name)(*args, **kwargs)

    return convert


def _as_array(self: Any, dtype: Any = None) -> Any:
    import numpy as np

    # The value of a scalar is a scalar, which is not an array yet.
    return np.array(self.read_value().numpy(), dtype=dtype)
