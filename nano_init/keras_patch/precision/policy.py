"""The default dtype policy of new layers, in every thread.

Keras keeps the default policy in a `threading.local`, which it fills on first use and which
`clear_session()` replaces (keras/src/backend/common/global_state.py,
keras/src/dtype_policies/dtype_policy.py). Setting the policy once is therefore not enough:
a thread started later, or a model built after `clear_session()`, would be float32 again.
"""

from __future__ import annotations

import threading

from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.precision.own_policy import OwnName

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["DefaultPolicy", "default_policy_replacements"]

_NAME = "dtype_policy"


class DefaultPolicy:
    """A substitute for Keras's global state where the dtype policy is read and written.

    It stores nothing in Keras. A policy that the script sets while it is active wins in the
    thread that set it. A policy that a thread had before is ignored. When it is removed, all of
    them are as they were.

    Args:
        state: The module `keras.src.backend.common.global_state`.
        policy: The default policy to return.
        floatx: Keras's `floatx`; a script that changed it decides the default itself.
    """

    def __init__(self, state: Any, policy: Any, floatx: Any) -> None:
        self._state = state
        self._policy = policy
        self._floatx = floatx
        self._chosen = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def get_global_attribute(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Return the script's own policy, otherwise the default of the patch."""
        stored = self._state.get_global_attribute(name, *args, **kwargs)
        if name != _NAME or self._floatx() != "float32" or self._is_chosen(stored):
            return stored
        return self._policy

    def set_global_attribute(self, name: str, value: Any) -> None:
        """Store the script's own policy; setting the patch's policy clears it."""
        if name == _NAME:
            value = None if value is self._policy else value
            self._chosen.policy = value
            self._chosen.tracker = self._state.GLOBAL_STATE_TRACKER
        self._state.set_global_attribute(name, value)

    def _is_chosen(self, stored: Any) -> bool:
        # `clear_session()` creates a new tracker and so forgets the script's choice.
        return (
            stored is not None
            and stored is getattr(self._chosen, "policy", None)
            and getattr(self._chosen, "tracker", None) is self._state.GLOBAL_STATE_TRACKER
        )


def default_policy_replacements(precision: str) -> Iterator[Replacement]:
    """Yield the replacements that set new layers' precision; none for float32, Keras's default."""
    if precision == "float32":
        return
    from keras import DTypePolicy
    from keras.src.backend import floatx
    from keras.src.backend.common import global_state
    from keras.src.dtype_policies import dtype_policy

    hook = DefaultPolicy(global_state, DTypePolicy(OwnName(precision)), floatx)
    yield Replacement(dtype_policy, "global_state", hook)
