"""The files of nano-init that one process starts as a program in another.

They are named here by path, because the process that starts one never imports it.
"""

from __future__ import annotations

import os

__all__ = [
    "BOOTSTRAP_FOLDER",
    "CALL_LAUNCHER",
    "CALL_WORKER",
    "FORK_SERVER",
    "ISOLATION",
    "PACKAGE_PARENT",
    "TENSORFLOW_PROBE",
]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# The folder to import nano_init from.
PACKAGE_PARENT = os.path.dirname(_PACKAGE)

# The folder of the sitecustomize module that patches Keras in a program.
BOOTSTRAP_FOLDER = os.path.join(_PACKAGE, "bootstrap")

# Isolates itself from all files, and executes another program.
ISOLATION = os.path.join(_PACKAGE, "instrumentation", "isolation_main.py")

# Imports TensorFlow once, and forks trainings.
FORK_SERVER = os.path.join(_PACKAGE, "instrumentation", "fork_server_main.py")

# Examines the installed TensorFlow, and runs the matmul benchmark.
TENSORFLOW_PROBE = os.path.join(_PACKAGE, "instrumentation", "tensorflow_probe_main.py")

# Launches the workers for a call in a running script.
CALL_LAUNCHER = os.path.join(_PACKAGE, "run", "call_job_main.py")

# Executes the call of a running script, as one of those workers.
CALL_WORKER = os.path.join(_PACKAGE, "process_calls", "call_worker_main.py")
