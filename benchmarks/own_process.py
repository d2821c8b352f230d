"""Figures that a benchmark's script prints in a process of its own, in plain Python or nano-run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["figures_of_process"]

_HERE = os.path.dirname(os.path.abspath(__file__))


def figures_of_process(
    script: str,
    arguments: Sequence[str],
    nano_run: Sequence[str] | None,
    environ: Mapping[str, str],
) -> dict[str, float]:
    """Return the figures that a script printed as JSON on its last line; exit if it failed.

    Args:
        script: The script's file name in this folder.
        arguments: Its arguments.
        nano_run: Options of `nano-run`; None runs plain `python`.
        environ: The environment, of which variables of nano-init, TensorFlow and Python are left
            out.
    """
    command = [sys.executable]
    if nano_run is not None:
        start = "import sys; from nano_init.cli.run import main; sys.exit(main())"
        command += ["-c", start, *nano_run]
    command += [os.path.join(_HERE, script), *arguments]
    kept = {n: v for n, v in environ.items() if not n.startswith(("NANO_", "TF_", "PYTHON"))}
    kept |= {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.path.dirname(_HERE)}
    done = subprocess.run(command, env=kept, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures
