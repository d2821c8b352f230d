"""How the benchmark of training steps starts a training: stock, by nano-run, or by a peer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from environments import python_of
from models import MODELS, SUITE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["CONFIGURATIONS", "PEERS", "Configuration", "Trial", "run_configuration"]

_HERE = os.path.dirname(os.path.abspath(__file__))

# The time limit of a process in seconds; a training that hangs is a failure. `torch.compile` and
# XLA compile large models for minutes.
_LONGEST = 600
_LONGEST_OF_PEER = 900

# The packages that a peer's environment needs.
PEERS = {"torch": ("torch", "numpy"), "jax": ("keras", "jax", "numpy")}


@dataclass(frozen=True)
class Configuration:
    """How the training script is started.

    Args:
        title: Its name in the table.
        script: Arguments of the training script.
        nano_run: Options of `nano-run`; None runs plain `python`.
        needs_unit: Whether to skip it where bfloat16 is emulated.
        environment: Whose virtual environment it runs in: "bigdl", a peer's, or "" for this one.
        models: The models for which it makes sense; all by default.
    """

    title: str
    script: tuple[str, ...] = ()
    nano_run: tuple[str, ...] | None = None
    needs_unit: bool = True
    environment: str = ""
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """How long each process trains, and what it times.

    Args:
        blocks: How many blocks of steps are timed.
        batch_factor: How many times as large the batches are.
        is_processor_time: Whether processor time is measured instead of elapsed time.
        folders: The virtual environments by name.
    """

    blocks: int
    batch_factor: int = 1
    is_processor_time: bool = False
    folders: Mapping[str, str] = field(default_factory=dict)


_SPARSE = ("encoder", "decoder", "recommender")
_STEPS = ("--steps-per-execution", "auto")
_LAZY = ("--lazy-adam",)
# Their steps are written for TensorFlow.
_IN_JAX = tuple(name for name in SUITE if name not in ("masked_lm", "vq_vae"))
_BFLOAT16 = "mixed_bfloat16"
CONFIGURATIONS = {
    "stock": Configuration("stock float32", needs_unit=False),
    "bare": Configuration("bare mixed_bfloat16", ("--policy", _BFLOAT16)),
    "rewrite": Configuration("graph rewrite", ("--rewrite",)),
    "float32": Configuration(
        "nano-run, float32", nano_run=("--precision", "float32"), needs_unit=False
    ),
    "nano": Configuration("nano-run", nano_run=()),
    # For processors where nano-run by itself chooses float32.
    "forced": Configuration("nano-run, mixed_bfloat16", nano_run=("--precision", _BFLOAT16)),
    "lazy": Configuration("nano-run, lazy Adam", nano_run=_LAZY, models=_SPARSE),
    "steps": Configuration("nano-run, steps per execution", nano_run=_STEPS),
    "both": Configuration("nano-run, both options", nano_run=(*_LAZY, *_STEPS), models=_SPARSE),
    "bigdl": Configuration("BigDL-Nano 2.4", ("--bigdl", _BFLOAT16), environment="bigdl"),
    "torch": Configuration("PyTorch", needs_unit=False, environment="torch"),
    "torch_compile": Configuration(
        "torch.compile", ("--compile",), needs_unit=False, environment="torch"
    ),
    "jax": Configuration("Keras on JAX", needs_unit=False, environment="jax", models=_IN_JAX),
    "torch_bfloat16": Configuration("PyTorch, autocast", ("--bfloat16",), environment="torch"),
    "torch_compile_bfloat16": Configuration(
        "torch.compile, autocast", ("--compile", "--bfloat16"), environment="torch"
    ),
    "jax_bfloat16": Configuration(
        "Keras on JAX, mixed_bfloat16", ("--policy", _BFLOAT16), environment="jax", models=_IN_JAX
    ),
}


def run_configuration(name: str, configuration: Configuration, trial: Trial) -> Any:
    """Return what one process that trains a model printed.

    Args:
        name: The model's key.
        configuration: How the script is started.
        trial: How long it trains, and where.

    Raises:
        RuntimeError: The process failed, or took too long.
    """
    whose = configuration.environment
    folder = trial.folders[whose] if whose else None
    command = [python_of(folder) if folder else sys.executable]
    if configuration.nano_run is not None:
        start = "import sys; from nano_init.cli.run import main; sys.exit(main())"
        command += ["-c", start, *configuration.nano_run]
    script = f"train_{whose}.py" if whose in PEERS else "train_one.py"
    command += [os.path.join(_HERE, script), name, *configuration.script]
    command += ["--blocks", str(trial.blocks), "--batch-factor", str(trial.batch_factor)]
    if trial.is_processor_time:
        command.append("--processor-time")
    if whose == "bigdl":
        source = f'. "{folder}/bin/bigdl-nano-init" >/dev/null; exec "$@"'
        command = ["bash", "-c", source, "bash", *command]
    longest = _LONGEST_OF_PEER if whose in PEERS else _LONGEST
    environ = _environ(whose, folder, trial)
    if MODELS[name].is_legacy:
        environ["TF_USE_LEGACY_KERAS"] = "1"
    output = _output_of(command, environ, longest)
    return json.loads(output.strip().splitlines()[-1])


def _output_of(command: Sequence[str], environ: dict[str, str], longest: int) -> str:
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, check=False, timeout=longest
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done after {longest} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(lines[-1])
    return done.stdout


def _environ(whose: str, folder: str | None, trial: Trial) -> dict[str, str]:
    dropped = ("NANO_", "TF_", "PYTHON", "KERAS_BACKEND")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    kept["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if folder:
        kept["PATH"] = f"{os.path.join(folder, 'bin')}{os.pathsep}{kept['PATH']}"
        kept["VIRTUAL_ENV"] = folder
    else:
        kept["PYTHONPATH"] = os.path.dirname(_HERE)
    if whose == "torch" and trial.is_processor_time:
        # Threads of OpenMP that wait for each other would count as work otherwise.
        kept["OMP_WAIT_POLICY"] = "PASSIVE"
    return kept
