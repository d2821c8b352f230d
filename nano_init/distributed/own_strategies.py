"""Strategies that a program itself creates or uses, in addition to the job's strategy.

In plain Python on a CPU most of them have one replica on one device, and change nothing: the
default strategy, `MirroredStrategy()`, `OneDeviceStrategy("/cpu:0")`. In a job these all become the
default strategy, under which the job's models train on their shards. Strategies with several
replicas in one process, or with their own cluster, cannot run on several workers.
"""

from __future__ import annotations

import contextlib
import functools

from nano_init.distributed.refusal import refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Strategy

__all__ = ["adapt_default_strategy", "share_own_strategies"]

_WAY_OUT = "run it without --nproc-per-node, or remove the strategy"


def adapt_default_strategy() -> None:
    """Let the default strategy's scope and steps use variables and models of the job."""
    from tensorflow.python.distribute import distribute_lib

    extended: Any = distribute_lib._DefaultDistributionExtended
    extended._scope = _without_creator
    extended._update = _wrap_update(extended._update)
    extended.variable_created_in_scope = lambda _self, _variable: not distribute_lib.has_strategy()
    name = "_require_cross_replica_or_default_context_extended"
    setattr(distribute_lib, name, _wrap_require(getattr(distribute_lib, name)))


def _without_creator(
    _extended: Any, strategy: Strategy
) -> contextlib.AbstractContextManager[Strategy]:
    """Return the scope of the default strategy, which is active where no other is.

    TensorFlow's own scope refuses variables of other strategies, and cannot be nested in their
    scope (tensorflow/python/distribute/distribute_lib.py, `_DefaultDistributionContext`).
    """
    return _yielding(strategy)


@contextlib.contextmanager
def _yielding(strategy: Strategy) -> Iterator[Strategy]:
    yield strategy


def _wrap_update(update: Callable[..., Any]) -> Callable[..., Any]:
    """Return an update of a job's variable, whose only replica here is the first.

    TensorFlow's own passes the variable instead of a replica's index.
    """

    @functools.wraps(update)
    def update_the_one(
        self: Any, var: Any, fn: Callable[..., Any], args: Any, kwargs: Any, group: bool
    ) -> Any:
        from tensorflow.python.distribute.distribute_lib import UpdateContext

        def update_replica(*args: Any, **kwargs: Any) -> Any:
            with UpdateContext(0):
                return fn(*args, **kwargs)

        return update(self, var, update_replica, args, kwargs, group)

    return update_the_one


def _wrap_require(require: Callable[..., None]) -> Callable[..., None]:
    """Return a check that treats steps of the default strategy as outside of steps."""

    @functools.wraps(require)
    def require_unless_default(extended: Any, *args: Any, **kwargs: Any) -> None:
        from tensorflow.python.distribute import distribute_lib

        if distribute_lib.has_strategy():
            require(extended, *args, **kwargs)

    return require_unless_default


def share_own_strategies(is_joint: Callable[[Strategy], bool]) -> None:
    """Replace strategies of one replica by the default one, and refuse those of several.

    Args:
        is_joint: Returns whether a strategy spans the workers itself; it is not changed.
    """
    from tensorflow.python.distribute import distribute_lib, parameter_server_strategy_v2

    base: Any = distribute_lib.StrategyBase
    base.__init__ = _wrap_strategy_init(base.__init__, is_joint)
    # It connects to its cluster first.
    servers: Any = parameter_server_strategy_v2.ParameterServerStrategyV2
    servers.__init__ = _wrap_server_init(servers.__init__)


def _wrap_strategy_init(
    initialize: Callable[..., None], is_joint: Callable[[Strategy], bool]
) -> Callable[..., None]:
    @functools.wraps(initialize)
    def initialize_shared(self: Strategy, extended: Any) -> None:
        from tensorflow.python.distribute import distribute_lib

        initialize(self, extended)
        if type(self).__name__.startswith("_Default") or is_joint(self):
            return
        _check_shareable(self)
        self._extended = distribute_lib._get_default_strategy().extended

    return initialize_shared


def _check_shareable(strategy: Strategy) -> None:
    from tensorflow.python.distribute import (
        central_storage_strategy,
        mirrored_strategy,
        one_device_strategy,
    )

    name = type(strategy).__name__.removesuffix("V1")
    known = (
        mirrored_strategy.MirroredStrategy,
        mirrored_strategy.MirroredStrategyV1,
        one_device_strategy.OneDeviceStrategy,
        one_device_strategy.OneDeviceStrategyV1,
        central_storage_strategy.CentralStorageStrategy,
        central_storage_strategy.CentralStorageStrategyV1,
    )
    if not isinstance(strategy, known):
        refuse(f"the script creates its own {name}, which workers cannot share; {_WAY_OUT}")
    replicas = strategy.num_replicas_in_sync
    if replicas > 1:
        refuse(
            f"the script creates its own {name} of {replicas} replicas in one process, which "
            f"workers cannot share; {_WAY_OUT}"
        )
    (device,) = strategy.extended.worker_devices
    if "CPU" not in device.upper():
        refuse(f"the script creates its own {name} on {device}, but workers use CPUs; {_WAY_OUT}")


def _wrap_server_init(initialize: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(initialize)
    def refuse_own_cluster(_self: Any, *_args: Any, **_kwargs: Any) -> None:
        refuse(
            "the script creates its own ParameterServerStrategy, whose servers are not workers "
            f"of nano-run; {_WAY_OUT}"
        )

    return refuse_own_cluster
