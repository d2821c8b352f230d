"""Generators are found while another thread imports NumPy's."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
from nano_init.keras_patch.faster.python_generators import reachable_generators
import numpy
if "numpy.random" in sys.modules:
    sys.exit("NumPy 1 imports it at once")
found = []
def look():
    while "numpy.random" not in sys.modules:
        pass
    found.append(reachable_generators(len))
sys.setswitchinterval(1e-5)
thread = threading.Thread(target=look)
thread.start()
import numpy.random
thread.join()
print(found)
"""


def test_an_import_in_another_thread_is_waited_for():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=120
    )
    if done.stderr.startswith("NumPy 1"):
        pytest.skip(done.stderr)
    assert done.stdout == "[[]]\n", done.stderr[-2000:]
