"""Print the state that the import of TensorFlow leaves, without what only namespaces bring."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Iterator
from typing import Any


def main(moment: str) -> None:
    import keras  # noqa: F401
    import tensorflow as tf
    from absl import flags

    # Before the names of the namespaces are read, which imports the rest.
    functions = dict(functions_of_modules())
    if moment == "saved_model":
        tf.saved_model.load  # noqa: B018
    state = {
        "functions": functions,
        "registries": registries(),
        "flags": sorted(flags.FLAGS),
        "environ": dict(os.environ),
        "names": {name: dir(getattr(tf, name)) for name in ("nn", "data", "lite", "raw_ops")},
        "read": dict(functions_of_namespaces(tf)),
    }
    print(json.dumps({**state, "names": {**state["names"], "tf": sorted(dir(tf))}}))


def functions_of_modules() -> Iterator[tuple[str, str]]:
    """Yield the place of each function in the modules of TensorFlow, and in their classes."""
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("tensorflow.python.") and type(module) is types.ModuleType:
            for name, value in list(vars(module).items()):
                inner = vars(value) if type(value) is type else {}
                for inner_name, each in [("", value), *inner.items()]:
                    if place := place_of(each):
                        yield f"{module_name}.{name}{inner_name and '.' + inner_name}", place


def functions_of_namespaces(tf: Any) -> Iterator[tuple[str, str]]:
    for space in (
        "bitwise",
        "data",
        "image",
        "linalg",
        "math",
        "nn",
        "ragged",
        "signal",
        "strings",
    ):
        for name, value in vars(getattr(tf, space)).items():
            if place := place_of(value):
                yield f"{space}.{name}", place


def place_of(value: Any) -> str | None:
    """Return where a function's code is."""
    code = getattr(value, "__code__", None) if isinstance(value, types.FunctionType) else None
    return code and f"{code.co_filename}:{code.co_firstlineno}"


def registries() -> dict[str, list[str]]:
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session
    from tensorflow.python.framework import ops, type_spec_registry
    from tensorflow.python.saved_model import revived_types

    known = op_def_pb2.OpList()
    known.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return {
        "ops": sorted(op.name for op in known.op),
        "gradients": sorted(ops.gradient_registry._registry),
        "statistics": sorted(ops._stats_registry._registry),
        "types": sorted(type_spec_registry._NAME_TO_TYPE_SPEC),
        "revived": sorted(revived_types._REVIVED_TYPE_REGISTRY),
    }


if __name__ == "__main__":
    main(sys.argv[1])
