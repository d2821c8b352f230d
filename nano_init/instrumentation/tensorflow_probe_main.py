"""Examine the installed TensorFlow, as a program in its own process.

    python tensorflow_probe_main.py FD SECONDS

Writes one JSON object to the file descriptor. nano-init itself never imports TensorFlow.
Matrix products in float32 and bfloat16 are interleaved, so that a machine whose speed drifts does
not favour one of them. The fastest of each counts, since the aim is the peak.
"""

from __future__ import annotations

import json
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["main"]

# Large enough for the peak of a core, small enough to finish in emulated bfloat16.
_SIZE = 1024
_BYTES = 64 * 2**20
_MOST_ROUNDS = 40


def main(file: int, seconds: float) -> None:
    """Examine TensorFlow and write the results.

    Args:
        file: the file descriptor to write to.
        seconds: the time limit for all measurements together.
    """
    started = time.perf_counter()
    import keras
    import tensorflow as tf

    found: dict[str, Any] = {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "import_seconds": time.perf_counter() - started,
        "build": dict(tf.sysconfig.get_build_info()),
    }
    found["gflops"], found["gigabytes_a_second"] = _measure(tf, seconds)
    found["libraries"] = _mapped_libraries()
    found["threads"] = len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self") else None
    os.write(file, json.dumps(found, default=str).encode())


def _measure(tf: Any, seconds: float) -> tuple[dict[str, float], float]:
    factors = {
        name: tf.cast(tf.random.stateless_uniform((_SIZE, _SIZE), (1, 2)), name)
        for name in ("float32", "bfloat16")
    }
    fastest: dict[str, float] = {}
    end = time.perf_counter() + seconds
    for number in range(_MOST_ROUNDS):
        for name, factor in factors.items():
            taken = _timed(lambda x=factor: tf.linalg.matmul(x, x))  # type: ignore[misc]
            if number or name not in fastest:  # the first one creates kernels and starts threads
                fastest[name] = min(taken, fastest.get(name, taken) if number > 1 else taken)
        if number > 2 and time.perf_counter() > end:
            break
    operations = 2 * _SIZE**3
    stream = tf.zeros((_BYTES // 4,))
    passes = min(_timed(lambda: tf.add(stream, stream)) for _ in range(8))
    return (
        {name: operations / taken / 1e9 for name, taken in fastest.items()},
        2 * _BYTES / passes / 1e9,
    )


def _timed(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _mapped_libraries() -> list[str]:
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            paths = {line.split(maxsplit=5)[5].strip() for line in file if "/" in line}
    except OSError:
        return []
    return sorted(path for path in paths if ".so" in path)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
