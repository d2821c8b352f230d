"""The errors that nano-init raises.

NanoError
├── UsageError (ValueError)       a value that the user gave is not allowed
│   └── PrecisionError            that value is a precision
├── RecordingError (OSError)      a recorded machine cannot be read or written
├── StateError (ValueError)       the undo state of the environment is damaged
├── PatchError (RuntimeError)     Keras cannot be patched as requested
├── LaunchError (OSError)         a script cannot be started
├── WorkerError (RuntimeError)    a worker that a script started has failed
└── SampleError (RuntimeError)    a sample of a script's training cannot be taken
    ├── LateSampleError           time ran out before it had enough steps
    ├── MemorySampleError         it ran out of memory
    └── ScriptError               the script itself failed in it

Each class also inherits the builtin that it refines, so either can be caught.
"""

from __future__ import annotations

__all__ = [
    "HostLostError",
    "LateSampleError",
    "LaunchError",
    "MemorySampleError",
    "NanoError",
    "PatchError",
    "PrecisionError",
    "RecordingError",
    "SampleError",
    "ScriptError",
    "StateError",
    "UsageError",
    "WorkerError",
]


class NanoError(Exception):
    """The root of all errors of nano-init; its text is one sentence for the user."""

    exit_code = 2


class UsageError(NanoError, ValueError):
    """A value that the user gave is not allowed."""


class PrecisionError(UsageError):
    """A precision is unknown, or unfit for training."""


class RecordingError(NanoError, OSError):
    """A recorded machine cannot be read or written."""


class StateError(NanoError, ValueError):
    """The undo state found in the environment is damaged."""


class PatchError(NanoError, RuntimeError):
    """Keras cannot be patched as requested."""


class LaunchError(NanoError, OSError):
    """A script cannot be started."""


class HostLostError(LaunchError):
    """Another host of a job was lost while the hosts connected to each other."""


class WorkerError(NanoError, RuntimeError):
    """A worker that a script started has failed; its traceback follows the sentence."""

    exit_code = 1


class SampleError(NanoError, RuntimeError):
    """A sample of a script's training cannot be taken; the script itself was not run."""

    exit_code = 1


class LateSampleError(SampleError):
    """Time ran out before a sample had enough steps."""


class MemorySampleError(SampleError):
    """A sample ran out of memory, which does not mean that the script would."""


class ScriptError(SampleError):
    """The script itself failed in a sample."""
