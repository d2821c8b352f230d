"""Libraries that divide the cores among workers do so under nano-run as in plain Python."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nano_init.protocol.variables import STATE_VARIABLE
from nano_init.shells.change import Change
from nano_init.shells.undo_state import format_state
from nano_init.thread_division import withdraw_threads

Run = Callable[..., "subprocess.CompletedProcess[str]"]

PLANNED = {STATE_VARIABLE: format_state([Change("OMP_NUM_THREADS", None, "8")])}


@pytest.mark.parametrize(
    ("environ", "left"),
    [
        ({**PLANNED, "OMP_NUM_THREADS": "8"}, None),
        ({**PLANNED, "OMP_NUM_THREADS": "3"}, "3"),
        ({"OMP_NUM_THREADS": "8"}, "8"),
        ({STATE_VARIABLE: "damaged", "OMP_NUM_THREADS": "8"}, "8"),
        (
            {
                STATE_VARIABLE: format_state([Change("OMP_NUM_THREADS", "64", "8")]),
                "OMP_NUM_THREADS": "8",
            },
            "8",
        ),
    ],
)
def test_only_a_planned_value_is_withdrawn_and_native_libraries_keep_it(
    environ: dict[str, str], left: str | None
) -> None:
    put: dict[str, str] = {}
    withdraw_threads(environ, put.__setitem__)
    assert environ.get("OMP_NUM_THREADS") == left
    assert put == ({} if left else {"OMP_NUM_THREADS": "8"})


WORKERS = """
import os
from joblib import Parallel, delayed

def threads():
    return os.environ.get("OMP_NUM_THREADS")

if __name__ == "__main__":
    print(Parallel(n_jobs=2)(delayed(threads)() for _ in range(4)))
"""

LIBRARY = """
import ctypes, os
before = os.environ["OMP_NUM_THREADS"]
import joblib
getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p
print("OMP_NUM_THREADS" in os.environ, getenv(b"OMP_NUM_THREADS").decode() == before)
"""


class TestUnderNanoRun:
    @pytest.fixture(autouse=True)
    def _joblib(self) -> None:
        pytest.importorskip("joblib")

    def test_a_joblib_worker_gets_its_share_of_the_cores(
        self, nano_run: Run, python: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "s.py").write_text(WORKERS)
        theirs, ours = python("s.py"), nano_run("--quiet", "s.py")
        assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)

    def test_the_users_own_value_reaches_the_workers(self, nano_run: Run, tmp_path: Path) -> None:
        (tmp_path / "s.py").write_text(WORKERS)
        result = nano_run("--quiet", "s.py", env={"OMP_NUM_THREADS": "7"})
        assert result.stdout == "['7', '7', '7', '7']\n"

    def test_native_libraries_of_the_process_read_the_planned_value(
        self, nano_run: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "s.py").write_text(LIBRARY)
        assert nano_run("--quiet", "s.py").stdout == "False True\n"


CHILDREN = """
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

def threads_of_tensorflow(_):
    import tensorflow as tf
    ones = tf.ones((1024, 1024))
    tf.function(lambda x: tf.reduce_sum(tf.exp(x) @ x))(ones)
    return len(os.listdir("/proc/self/task"))

def threads_of_numpy(_):
    import numpy as np
    import threadpoolctl
    return sum(pool["num_threads"] for pool in threadpoolctl.threadpool_info())

def in_children(function, way):
    if way == "joblib":
        from joblib import Parallel, delayed
        return Parallel(n_jobs=2)(delayed(function)(i) for i in range(2))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        return list(pool.map(function, range(2)))

if __name__ == "__main__":
    print(max(in_children(globals()[sys.argv[1]], sys.argv[2])))
"""


@pytest.mark.tensorflow
@pytest.mark.slow
class TestChildren:
    """Child processes of the script start no more threads than in plain Python."""

    @pytest.mark.parametrize(
        ("function", "way"),
        [
            ("threads_of_tensorflow", "spawn"),
            ("threads_of_numpy", "spawn"),
            ("threads_of_numpy", "joblib"),
        ],
    )
    def test_children_start_no_more_threads(
        self, nano_run: Run, python: Run, tmp_path: Path, function: str, way: str
    ) -> None:
        pytest.importorskip("threadpoolctl")
        pytest.importorskip("joblib")
        (tmp_path / "s.py").write_text(CHILDREN)
        plain = int(python("s.py", function, way).stdout)
        ours = int(nano_run("--quiet", "s.py", function, way).stdout)
        assert 0 < ours <= plain

    def test_a_thread_limit_reaches_tensorflow_in_child_processes(
        self, nano_run: Run, python: Run, tmp_path: Path
    ) -> None:
        """There, plain TensorFlow counts all processors of the machine."""
        (tmp_path / "s.py").write_text(CHILDREN)
        arguments = ("s.py", "threads_of_tensorflow", "spawn")
        plain = int(python(*arguments).stdout)
        limited = nano_run("--quiet", *arguments, env={"NANO_INIT_THREADS": "1"})
        assert int(limited.stdout) < plain
