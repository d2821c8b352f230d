"""All environment variables of nano-init, by name.

The comment above a name is its description in the documentation, and the heading above says who
sets it. Files that must not import anything (`bootstrap/sitecustomize.py`,
`instrumentation/isolation_main.py`) repeat the names they read as literals; a test compares them.
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
    "UNVERIFIED_VARIABLE",
    "WATCH_VARIABLE",
]

# -- Set by the user -----------------------------------------------------------------------------

# Options for `source bigdl-nano-init`, such as `--threads 4`.
ARGUMENTS_VARIABLE = "NANO_INIT_ARGS"

# Faster paths to switch off, separated by commas; `all` switches off every one.
DISABLE_VARIABLE = "NANO_INIT_DISABLE"

# `1` keeps parts of the patch on a Keras or TensorFlow version that they were not verified on.
UNVERIFIED_VARIABLE = "NANO_INIT_UNVERIFIED"

# The maximum number of cores to use, like `--threads`.
THREADS_VARIABLE = "NANO_INIT_THREADS"

# `1` lets XLA compile its kernels after the first step instead of when that pays off, so that a
# benchmark of a few steps runs the same code as a long training.
COMPILE_SOON_VARIABLE = "NANO_INIT_COMPILE_SOON"

# `0` makes the workers of a job on one host exchange gradients through TensorFlow's collectives
# instead of shared memory.
SHARED_MEMORY_VARIABLE = "NANO_INIT_SHARED_MEMORY"

# The value of an option of nano-run: `NANO_RUN_PIN=1` is `--pin`, `NANO_RUN_THREADS=4` is
# `--threads 4`. An option on the command line wins.
OPTION_PREFIX = "NANO_RUN_"

# The secret by which the launchers of a job's hosts authenticate each other. There is no option
# for it, because command lines show in process lists.
JOB_SECRET_VARIABLE = "NANO_RUN_JOB_SECRET"

# The default of `nano-run --precision`; `nano-init --precision` sets it in a shell.
PRECISION_VARIABLE = "NANO_RUN_PRECISION"

# -- Set by nano-run for the program and every Python process that it starts --------------------

# What nano-init changed in the environment, so that it can be undone.
STATE_VARIABLE = "NANO_INIT_STATE"

# The options of the Keras patch, as JSON.
PATCH_VARIABLE = "NANO_INIT_PATCH"

# How many times the job has been restarted.
RESTARTS_VARIABLE = "NANO_INIT_RESTARTS"

# Set in a worker of a cluster that another launcher started, so that its child processes do not
# take themselves for workers.
JOINED_VARIABLE = "NANO_INIT_JOINED"

# -- Set by nano-run for the program alone; removed before the script runs -----------------------

# The user's own `LD_PRELOAD`: `-` if it was unset, otherwise `+` and its value.
PRELOAD_VARIABLE = "NANO_INIT_PRELOAD"

# The worker's index, the number of workers and what else it needs to join its job.
MEMBERSHIP_VARIABLE = "NANO_INIT_WORKER"

# What to record of the training, as JSON; used by `--compare`, `--tune` and `--report`.
WATCH_VARIABLE = "NANO_INIT_WATCH"

# When the program was started, in seconds of the monotonic clock.
STARTED_VARIABLE = "NANO_INIT_WATCH_STARTED"

# The `LD_PRELOAD` of a sample, which is set after its file system has been isolated.
ISOLATED_PRELOAD_VARIABLE = "NANO_INIT_WATCH_PRELOAD"

# Digests of the models that a tuned choice was measured on.
SIGNATURE_VARIABLE = "NANO_INIT_SIGNATURE"
