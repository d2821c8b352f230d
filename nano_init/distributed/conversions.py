"""Conversions of a job's variables to Python numbers and NumPy arrays, as for plain variables.

`DistributedVariable` lacks the methods of `BaseResourceVariable` (tensorflow/python/ops/
resource_variable_ops.py, TensorFlow 2.21). Without them `float(variable)` is an error, and
`np.asarray(variable)` an array of objects. Its truth value stays that of an object, because
TensorFlow uses it to check whether there is a variable.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["convert_as_plain_variables"]

_CONVERSIONS = ("__float__", "__int__", "__complex__")


def convert_as_plain_variables() -> None:
    """Make variables of a job convertible as plain variables are."""
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

    # The value of a scalar variable is a NumPy scalar, not an array.
    return np.array(self.read_value().numpy(), dtype=dtype)
