"""How much faster this machine multiplies bfloat16: measured once, and remembered.

Only `nano-run --precision measured` asks, so that nothing here is on the way of a plain start.
"""

from __future__ import annotations

import json
import math
import os
import time
from binascii import crc32
from dataclasses import dataclass

from nano_init.evidence.doctor.tensorflow_facts import examine_tensorflow
from nano_init.evidence.tuning.cache import describe_machine, read_entry, write_entry
from nano_init.plan.settings import PrecisionChoice
from nano_init.user_cache import cache_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nano_init.evidence.doctor.tensorflow_facts import TensorFlowFacts
    from nano_init.survey import Surroundings

__all__ = ["MatmulSpeed", "matmul_file", "measure_matmul", "recall_matmul", "recommend_from_matmul"]

# A unit must multiply this much faster than float32 before bfloat16 is taken unsampled.
_LEAST_GAIN = 1.1

_FORM = 1


@dataclass(frozen=True)
class MatmulSpeed:
    """What was measured of matrix products.

    Args:
        gain: how many times as fast bfloat16 multiplies as float32.
        date: when that was measured.
    """

    gain: float
    date: str


def matmul_file(surroundings: Surroundings) -> tuple[str, str]:
    """Return the file of a machine's measurement, and the key that it must hold.

    Args:
        surroundings: the computer, the TensorFlow and the environment that are measured.
    """
    key = "\n".join(describe_machine(surroundings))
    folder = cache_folder(surroundings.user_environ)
    return os.path.join(folder, f"products-{crc32(os.fsencode(key)):08x}.json"), key


def recall_matmul(path: str, key: str) -> MatmulSpeed | None:
    """Return what was measured before, or None.

    Args:
        path: the file.
        key: what it must hold.
    """
    try:
        entry = json.loads(read_entry(path))
    except (OSError, ValueError, RecursionError):  # measured again, and written over
        return None
    if not isinstance(entry, dict) or (entry.get("form"), entry.get("key")) != (_FORM, key):
        return None
    gain = entry.get("gain")
    if not isinstance(gain, float) or not 0 < gain < math.inf:
        return None
    return MatmulSpeed(gain, str(entry.get("date", ""))[:40])


def measure_matmul(
    path: str,
    key: str,
    environ: Mapping[str, str],
    examine: Callable[[Mapping[str, str]], TensorFlowFacts] = examine_tensorflow,
    *,
    keep: bool = True,
) -> tuple[MatmulSpeed | None, str]:
    """Let TensorFlow multiply in a child process, and remember what it shows.

    Args:
        path: the file.
        key: what it is to hold.
        environ: the environment of the program.
        examine: examines TensorFlow in an environment.
        keep: whether to remember it.

    Returns:
        What was measured, or None; and why it was not, or cannot be remembered, or "".
    """
    facts = examine(environ)
    if facts.bf16_gain is None:
        return None, f"the matmul benchmark failed: {facts.fault or 'it returned no speed'}"
    found = MatmulSpeed(facts.bf16_gain, time.strftime("%Y-%m-%d"))
    entry = {"form": _FORM, "key": key, "gain": found.gain, "date": found.date}
    fault = write_entry(path, entry) if keep else ""
    return found, fault and f"the result of the matmul benchmark cannot be stored in {fault}"


def recommend_from_matmul(measured: MatmulSpeed, recommended: PrecisionChoice) -> PrecisionChoice:
    """Return the precision that the benchmark recommends, with the reason. Pure.

    Args:
        measured: what was measured.
        recommended: what the processor's instruction set recommends: mixed_bfloat16.
    """
    seen = (
        f"matrix products are {measured.gain:.2f} times as fast in bfloat16 as in float32 on "
        f"this machine (measured {measured.date})"
    )
    if measured.gain < _LEAST_GAIN:
        return PrecisionChoice("float32", f"mixed_bfloat16 not recommended: {seen}")
    return PrecisionChoice("mixed_bfloat16", f"{recommended.reason}; {seen}")
