"""What the installed TensorFlow is and does here, found out by a child process in bounded time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from nano_init.evidence.onednn.primitive_kinds import unit_of
from nano_init.evidence.onednn.verbose_log import parse_verbose
from nano_init.evidence.sampling.unnamed_file import open_unnamed_file
from nano_init.protocol.programs import TENSORFLOW_PROBE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from nano_init.evidence.onednn.verbose_log import VerboseLog

__all__ = ["TensorFlowFacts", "examine_tensorflow", "read_facts"]

_MEASURE_SECONDS = 1.5


@dataclass(frozen=True)
class TensorFlowFacts:
    """An installed TensorFlow, as it is in this environment.

    Args:
        tensorflow: its version; "" if it cannot be imported.
        keras: Keras's version.
        backend: the backend that Keras runs on.
        onednn: oneDNN's version; "" if oneDNN computed nothing.
        runtime: what oneDNN's threads are: "threadpool" (TensorFlow's own) or "OpenMP".
        isa: what oneDNN says of the processor.
        unit: what multiplied bfloat16, as `unit_of` says; "" if oneDNN did not.
        gflops: billions of operations a second in matrix products, by data type.
        gigabytes_a_second: memory read and written by an addition.
        openmp: the OpenMP runtimes that were loaded with it, by file name.
        import_seconds: how long the import took.
        fault: why it cannot be examined, one sentence; "" if it was.
        timeout: the seconds after which the examination was given up; 0 if it was not.
        load: the load average of the last minute at that time; None where it is unknown.
    """

    tensorflow: str = ""
    keras: str = ""
    backend: str = ""
    onednn: str = ""
    runtime: str = ""
    isa: str = ""
    unit: str = ""
    gflops: tuple[tuple[str, float], ...] = ()
    gigabytes_a_second: float = 0.0
    openmp: tuple[str, ...] = ()
    import_seconds: float = 0.0
    fault: str = ""
    timeout: float = 0.0
    load: float | None = None

    @property
    def bf16_gain(self) -> float | None:
        """Return how many times as fast bfloat16 multiplies as float32, or None."""
        speeds = dict(self.gflops)
        if not speeds.get("float32") or "bfloat16" not in speeds:
            return None
        return speeds["bfloat16"] / speeds["float32"]


def examine_tensorflow(
    environ: Mapping[str, str], python: str = sys.executable, seconds: float = 60.0
) -> TensorFlowFacts:
    """Import TensorFlow in a child process, and let it multiply.

    Args:
        environ: the environment of the child, as the user's script would have it.
        python: the interpreter.
        seconds: how long to wait for it.
    """
    with open_unnamed_file("nano-init-facts") as record:
        command = [
            python,
            TENSORFLOW_PROBE,
            str(record.fileno()),
            str(_MEASURE_SECONDS),
        ]
        quiet = {"ONEDNN_VERBOSE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        try:
            done = subprocess.run(
                command,
                env={**environ, **quiet},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                pass_fds=(record.fileno(),),
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return TensorFlowFacts(
                fault=f"TensorFlow did not finish within {seconds:g} s",
                timeout=seconds,
                load=_read_load(),
            )
        record.seek(0)
        found = record.read()
        if done.returncode or not found:
            return TensorFlowFacts(fault=_last_line(done.stderr, done.returncode))
        return read_facts(json.loads(found), done.stdout)


def read_facts(found: Mapping[str, Any], output: str) -> TensorFlowFacts:
    """Return the facts in a child's answer and in what oneDNN printed. Pure.

    Args:
        found: the child's JSON object.
        output: the child's stdout.
    """
    log = parse_verbose(output.splitlines())
    names = {path.rsplit("/", 1)[-1] for path in found["libraries"]}
    return TensorFlowFacts(
        tensorflow=found["tensorflow"],
        keras=found["keras"],
        backend=found["backend"],
        onednn=log.version if log.executions else "",
        runtime=log.runtime,
        isa=log.isa,
        unit=_unit(log),
        gflops=tuple(found["gflops"].items()),
        gigabytes_a_second=found["gigabytes_a_second"],
        openmp=tuple(sorted(n for n in names if n.startswith(("libgomp", "libiomp5", "libomp")))),
        import_seconds=found["import_seconds"],
    )


def _unit(log: VerboseLog) -> str:
    units = [unit_of(execution, log.isa) for execution in log.executions]
    return next((unit for unit in units if unit), "")


def _read_load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _last_line(complaints: str, code: int) -> str:
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    if lines:
        return lines[-1][:200]
    return f"it was ended by signal {-code}" if code < 0 else f"it ended with status {code}"
