"""Every environment variable of nano-init's own, by name.

What must import nothing (`bootstrap/sitecustomize.py`, `instrumentation/isolation_main.py`) has
the names of those that it reads as literals; a test compares them with these.
"""

from __future__ import annotations

__all__ = [
    "ARGUMENTS_VARIABLE",
    "COMPILE_SOON_VARIABLE",
    "DISABLE_VARIABLE",
    "ISOLATED_PRELOAD_VARIABLE",
    "JOB_SECRET_VARIABLE",
    "JOINED_VARIABLE",
    "MEMBERSHIP_VARIABLE",
    "OPTION_PREFIX",
    "PATCH_VARIABLE",
    "PRECISION_VARIABLE",
    "PRELOAD_VARIABLE",
    "RESTARTS_VARIABLE",
    "SHARED_MEMORY_VARIABLE",
    "SIGNATURE_VARIABLE",
    "STARTED_VARIABLE",
    "STATE_VARIABLE",
    "THREADS_VARIABLE",
    "WATCH_VARIABLE",
]

# -- The user's own ------------------------------------------------------------------------------

# Options that `source bigdl-nano-init` takes.
ARGUMENTS_VARIABLE = "NANO_INIT_ARGS"

# Faster paths to switch off, with commas between them; "all" for all of them.
DISABLE_VARIABLE = "NANO_INIT_DISABLE"

# The most cores to use.
THREADS_VARIABLE = "NANO_INIT_THREADS"

# "1": XLA compiles kernels after one step, not when that pays, so that a benchmark of a few steps
# sees what a long training runs.
COMPILE_SOON_VARIABLE = "NANO_INIT_COMPILE_SOON"

# "0": the workers of a job on one host share no memory.
SHARED_MEMORY_VARIABLE = "NANO_INIT_SHARED_MEMORY"

# What stands before the name of each option of nano-run in its variable: NANO_RUN_PIN is --pin.
OPTION_PREFIX = "NANO_RUN_"

# The secret that the launchers of a job's hosts prove to each other; it stands for no option, so
# that nobody sees it in a list of processes.
JOB_SECRET_VARIABLE = "NANO_RUN_JOB_SECRET"  # noqa: S105 - its name

# The precision of nano-run; `nano-init --precision` leaves it in a shell.
PRECISION_VARIABLE = "NANO_RUN_PRECISION"

# -- From the launcher to the program, and to all Pythons that the program starts -----------------

# What nano-init has changed in the environment, so that it can be undone.
STATE_VARIABLE = "NANO_INIT_STATE"

# The options of the patch, as `PatchOptions.to_json` gives them.
PATCH_VARIABLE = "NANO_INIT_PATCH"

# How often the job was restarted.
RESTARTS_VARIABLE = "NANO_INIT_RESTARTS"

# Set in a worker of a cluster that somebody else has started: its own child is no worker.
JOINED_VARIABLE = "NANO_INIT_JOINED"

# -- From the launcher to the program alone: the bootstrap takes them out --------------------------

# LD_PRELOAD as the user has it: "-" for unset, else "+" and the value.
PRELOAD_VARIABLE = "NANO_INIT_PRELOAD"

# The worker's membership of its job, as `format_membership` gives it.
MEMBERSHIP_VARIABLE = "NANO_INIT_WORKER"

# What to record of the training, as JSON.
WATCH_VARIABLE = "NANO_INIT_WATCH"

# When the program was started, in seconds of the monotonic clock.
STARTED_VARIABLE = "NANO_INIT_WATCH_STARTED"

# LD_PRELOAD of a program that is to be isolated first.
ISOLATED_PRELOAD_VARIABLE = "NANO_INIT_WATCH_PRELOAD"

# Digests of the models that the tuned choice was measured on.
SIGNATURE_VARIABLE = "NANO_INIT_SIGNATURE"
