"""With namespaces that import on use, TensorFlow is in the state that its own import leaves."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

PROGRAM = Path(__file__).with_name("tensorflow_state.py")

# What replaces these concerns strategies alone, and is imported with the first of them.
BY_STRATEGIES = {
    "tensorflow.python.eager.tape._variables_override",
    "tensorflow.python.ops.ref_variable._from_proto_fn",
}


@pytest.fixture(scope="module")
def states(nano_run_once: Run) -> dict[str, dict[str, Any]]:
    """The state by TensorFlow's own import, with lazy namespaces, and after `tf.saved_model`."""
    pytest.importorskip("tensorflow")
    ways = {
        "plain": (("--disable", "lazy_namespaces"), "import"),
        "lazy": ((), "import"),
        "saved": ((), "saved_model"),
    }
    # Names that a loop over a set of TensorFlow's leaves behind depend on its order.
    order = {"PYTHONHASHSEED": "0"}
    return {
        name: _state(nano_run_once("-q", *options, str(PROGRAM), moment, env=order))
        for name, (options, moment) in ways.items()
    }


@pytest.mark.tensorflow
@pytest.mark.slow
def test_registries_are_filled_before_anything_reads_them(states: dict[str, Any]) -> None:
    """All registries once `tf.saved_model` was used; those read without it after the import."""
    plain, lazy, saved = (states[name] for name in ("plain", "lazy", "saved"))
    assert saved["registries"] == plain["registries"]
    assert lazy["registries"]["statistics"] == plain["registries"]["statistics"]


@pytest.mark.tensorflow
@pytest.mark.slow
def test_namespaces_have_the_same_names(states: dict[str, Any]) -> None:
    assert states["lazy"]["names"] == states["plain"]["names"]


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_program_has_the_same_flags_and_environment(states: dict[str, Any]) -> None:
    """Its logs may list them, and its processes inherit them."""
    plain, lazy = states["plain"], states["lazy"]
    assert "test_tmpdir" in lazy["flags"]
    assert lazy["flags"] == plain["flags"]
    varying = {name for name in lazy["environ"] if name.startswith("NANO_INIT")}
    assert {n: v for n, v in lazy["environ"].items() if n not in varying} == {
        n: v for n, v in plain["environ"].items() if n not in varying
    }


@pytest.mark.tensorflow
@pytest.mark.slow
def test_each_function_is_the_one_that_tensorflow_leaves_there(states: dict[str, Any]) -> None:
    """A module that replaces functions of other modules is imported before those are read.

    Such as the ops that promote dtypes as NumPy does: `tf.matmul` was not one of them.
    """
    plain, lazy = (states[name]["functions"] for name in ("plain", "lazy"))
    assert len(lazy) > 10_000
    # Names of modules that only one of both has imported may be absent from the other.
    assert {name for name in lazy if lazy[name] != plain[name]} == BY_STRATEGIES


@pytest.mark.tensorflow
@pytest.mark.slow
def test_names_that_are_read_late_are_the_same_functions(states: dict[str, Any]) -> None:
    """Except for `tf.bitwise.invert`, which TensorFlow takes before it replaces it."""
    plain, lazy = (states[name]["read"] for name in ("plain", "lazy"))
    assert {name for name in plain if lazy[name] != plain[name]} == {"bitwise.invert"}


def _state(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert result.stdout, result.stderr
    state: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return state
