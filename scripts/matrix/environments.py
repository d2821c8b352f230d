"""One virtual environment for each pair of TensorFlow and Keras."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from pairs import PRE_RELEASE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pairs import Pair

__all__ = ["MATRIX_ENVIRONMENT_MARK", "EnvironmentFailedError", "find_python", "make_environment"]

MATRIX_ENVIRONMENT_MARK = "nano-init-matrix.json"
ROOT = Path(__file__).resolve().parents[2]


class EnvironmentFailedError(Exception):
    """An environment cannot be made; the message says why in one sentence."""


def find_python(version: str) -> str | None:
    """Return an interpreter of this version, or None where there is none.

    Args:
        version: As "3.11"; looked for on PATH and among pyenv's versions.
    """
    installed = Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    candidates = [sys.executable, shutil.which(f"python{version}"), *map(str, sorted(installed))]
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        # A shim of pyenv's is on PATH for versions that are switched off.
        said = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        if said.stdout.strip() == version:
            return candidate
    return None


def make_environment(pair: Pair, folder: Path, tools: Sequence[str]) -> Path:
    """Return a pair's interpreter, with this checkout installed; make what is not there yet.

    Args:
        pair: What to install. Its Python may be missing: this one is taken then.
        folder: Where the environments are.
        tools: Requirements besides TensorFlow and Keras.

    Raises:
        EnvironmentFailedError: pip fails, or no pre-release of Keras is in its index.
    """
    home = folder / pair.name
    mark = home / MATRIX_ENVIRONMENT_MARK
    python = home / "bin" / "python"
    asked = json.dumps({**asdict(pair), "tools": list(tools), "root": str(ROOT)})
    if mark.is_file() and mark.read_text(encoding="utf-8") == asked:
        return python
    if home.exists():
        if not (home / "pyvenv.cfg").is_file():
            raise EnvironmentFailedError(f"{home} is not a virtual environment; move it away")
        shutil.rmtree(home)
    base = find_python(pair.python) or sys.executable
    _run([base, "-m", "venv", str(home)])
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*install, *_requirements(pair), *tools])
    if pair.keras == PRE_RELEASE:
        # TensorFlow requires the distribution `keras`, which has the same files.
        _run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "keras"])
        _run([*install, "--no-deps", "--pre", "keras-nightly"])
    # Its requirement is the distribution `tensorflow`, even where `tensorflow-cpu` is installed.
    _run([*install, "--no-deps", f"tf_keras=={pair.tf_keras}", "-e", str(ROOT)])
    mark.write_text(asked, encoding="utf-8")
    return python


def _requirements(pair: Pair) -> list[str]:
    # A third of the download; there is none for other processors.
    suffix = "-cpu" if platform.machine().lower() in ("x86_64", "amd64") else ""
    tensorflow = f"tensorflow{suffix}=={pair.tensorflow}"
    return [tensorflow] if pair.keras == PRE_RELEASE else [tensorflow, f"keras=={pair.keras}"]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise EnvironmentFailedError(f"{' '.join(command[:4])} failed: {' '.join(errors)[:600]}")
