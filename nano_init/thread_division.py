"""Libraries that divide the cores among worker processes, and the variable that stops them.

joblib and loky (joblib/_parallel_backends.py, `_prepare_worker_env`), Dask, Ray and PyTorch's
elastic launcher give each worker its share of the cores as OMP_NUM_THREADS, but leave one that
`os.environ` has already: with the planned one, N workers would start N threads each.
"""

from __future__ import annotations

from nano_init.errors import StateError
from nano_init.protocol.variables import STATE_VARIABLE
from nano_init.shells.undo_state import parse_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

__all__ = ["withdraw_threads"]

_THREADS = "OMP_NUM_THREADS"


def withdraw_threads(environ: MutableMapping[str, str], put: Callable[[str, str], object]) -> None:
    """Remove OMP_NUM_THREADS from `os.environ` if nano-init set it and its value is unchanged.

    Args:
        environ: `os.environ`; a value that the user has set stays.
        put: `os.putenv`, which leaves the value for libraries of this process alone.
    """
    try:
        changes = parse_state(environ.get(STATE_VARIABLE, ""))
    except StateError:
        return
    value = environ.get(_THREADS)
    if value is not None and any(
        (change.name, change.before, change.after) == (_THREADS, None, value) for change in changes
    ):
        del environ[_THREADS]
        put(_THREADS, value)
