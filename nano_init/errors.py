"""The errors that nano-init raises.

NanoError
├── UsageError (ValueError)       a value the user gave is not one of those allowed
│   └── PrecisionError            the value is a precision
├── RecordingError (OSError)      a recorded machine cannot be read or written
├── StateError (ValueError)       the undo state of the environment is damaged
├── PatchError (RuntimeError)     Keras cannot be patched as asked
├── LaunchError (OSError)         a script cannot be started
├── WorkerError (RuntimeError)    a worker that a script has started has failed
└── SampleError (RuntimeError)    a sample of a script's training cannot be taken
    ├── LateSampleError           its time was over before it had enough steps
    ├── MemorySampleError         the memory was too short for it
    └── ScriptError               the script failed in it, by an error of its own

Each child also inherits the builtin that it refines, so that either can be caught.
"""

from __future__ import annotations

__all__ = [
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
    """A value that the user gave is not one of those allowed."""


class PrecisionError(UsageError):
    """A precision is unknown, or unfit for training."""


class RecordingError(NanoError, OSError):
    """A recorded machine cannot be read or written."""


class StateError(NanoError, ValueError):
    """The undo state found in the environment is damaged."""


class PatchError(NanoError, RuntimeError):
    """Keras cannot be patched as asked."""


class LaunchError(NanoError, OSError):
    """A script cannot be started."""


class WorkerError(NanoError, RuntimeError):
    """A worker that a script has started has failed; its traceback follows the sentence."""

    exit_code = 1


class SampleError(NanoError, RuntimeError):
    """A sample of a script's training cannot be taken; the script itself was not run."""

    exit_code = 1


class LateSampleError(SampleError):
    """The time of a sample was over before it had enough steps."""


class MemorySampleError(SampleError):
    """The memory was too short for a sample; of the script itself that says nothing."""


class ScriptError(SampleError):
    """The script failed in a sample by an error of its own."""
