"""Create the strategy of a job at the last moment that TensorFlow allows.

`MultiWorkerMirroredStrategy` must be created before TensorFlow's context is initialized, which
the first operation does (tensorflow/python/distribute/collective_all_reduce_strategy.py,
"Known Issues"). If created earlier, it would initialize the context itself, and a program's own
`tf.config.threading...` would fail. So it is created inside that first initialization, unless the
program creates its own strategy, which then replaces it.

The program itself runs outside of the strategy's scope, as under plain Python: it sees the default
strategy, number of replicas and context. Only its variables, models and optimizers are created in
the scope (`in_scope_of_job`), as in TensorFlow's guides.
"""

from __future__ import annotations

import functools
import signal
import threading

from nano_init.distributed.averages import average_as_one_replica
from nano_init.distributed.conversions import convert_as_plain_variables
from nano_init.distributed.job_strategy import (
    adopt_strategy,
    in_scope_of_job,
    is_job_strategy,
    job_strategy,
)
from nano_init.distributed.own_strategies import (
    adapt_default_strategy,
    share_own_strategies,
)
from nano_init.distributed.refusal import is_eager_disabled, refuse_sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nano_init.keras_patch.tensor_types import Strategy
    from nano_init.protocol.membership import Membership

__all__ = ["await_first_use"]

# A worker that is silent for so long has died or is stopped.
_HEARTBEAT_SECONDS = 30

_LOCK = threading.RLock()
_is_making = False
_is_own = False


def await_first_use(membership: Membership) -> None:
    """Create the job's strategy when TensorFlow is first used; TensorFlow is already imported.

    Args:
        membership: This worker's place in the job.
    """
    import tensorflow as tf
    from tensorflow.python.eager import context
    from tensorflow.python.eager.context import Context
    from tensorflow.python.framework import ops
    from tensorflow.python.ops.variables import VariableMetaclass

    tf.random.set_seed(membership.seed)
    initialize = Context.ensure_initialized

    @functools.wraps(initialize)
    def initialize_in_job(self: Any) -> Any:
        with _LOCK:
            if is_eager_disabled():
                return initialize(self)
            Context.ensure_initialized = initialize
            if not _is_own and not _is_making:
                _make(membership)
        return initialize(self)

    make_variable = VariableMetaclass.__call__

    @functools.wraps(make_variable)
    def make_variable_in_job(cls: Any, *args: Any, **kwargs: Any) -> Any:
        # A variable whose initial value is the first use would be created outside of the strategy.
        if ops.executing_eagerly_outside_functions():
            context.ensure_initialized()
        with in_scope_of_job():
            return make_variable(cls, *args, **kwargs)

    Context.ensure_initialized = initialize_in_job
    VariableMetaclass.__call__ = make_variable_in_job
    _adapt_strategies()


def _adapt_strategies() -> None:
    """Make the job's strategy coexist with the program's own strategies, which take precedence."""
    from tensorflow.python.distribute import distribute_lib, mirrored_strategy
    from tensorflow.python.distribute.collective_all_reduce_strategy import (
        CollectiveAllReduceStrategy,
    )
    from tensorflow.python.distribute.values import DistributedVariable
    from tensorflow.python.framework.func_graph import FuncGraph

    FuncGraph.capture_call_time_value = _wrap_capture(FuncGraph.capture_call_time_value)
    DistributedVariable.handle = property(_wrap_handle(DistributedVariable.handle.fget))
    extended = distribute_lib.StrategyExtendedV2
    extended.__init__ = _wrap_extended_init(extended.__init__)
    mirrored_strategy.all_local_devices = _wrap_list_devices(mirrored_strategy.all_local_devices)
    adapt_default_strategy()
    average_as_one_replica(is_job_strategy)
    convert_as_plain_variables()
    share_own_strategies(_is_joint)
    refuse_sessions()
    strategy_class: Any = CollectiveAllReduceStrategy
    strategy_class.__new__ = _answering_with_the_job_s
    strategy_class.__init__ = _wrap_strategy_init(strategy_class.__init__)


def _make(membership: Membership) -> None:
    global _is_making
    import tensorflow as tf
    from tensorflow.python.eager import context

    from nano_init.distributed.all_reduce import open_group
    from nano_init.distributed.worker_startup import report_status

    _is_making = True
    try:
        with tf.init_scope(), context.eager_mode():  # a TensorFlow 1 graph is not eager
            _configure_coordination(membership)
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
            # One replica per worker needs no thread for merge calls, and optimizers that update
            # inside `tf.cond` cannot have one.
            strategy.extended._use_merge_call = lambda: False
            adopt_strategy(strategy)
    finally:
        _is_making = False
    _leave_sigterm_to_the_program()
    open_group()
    report_status("joined")


def _leave_sigterm_to_the_program() -> None:
    """Restore the program's handler of SIGTERM, or the default: TensorFlow's only sets a flag.

    The coordination service installs it for preemption (tsl/distributed_runtime/preemption/
    preemption_notifier.cc, `SigtermNotifier`). With it a worker would continue training.
    """
    handler = signal.getsignal(signal.SIGTERM)  # as Python knows it: the program's
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _configure_coordination(membership: Membership) -> None:
    """Limit the time to wait for peers that never start, and for those that have stopped.

    Sets the same fields as `CollectiveAllReduceExtended._initialize_multi_worker`, which keeps an
    existing configuration of the service.
    """
    import tensorflow as tf
    from tensorflow.python.distribute import multi_worker_util
    from tensorflow.python.eager import context

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    spec = multi_worker_util.normalize_cluster_spec(resolver.cluster_spec())
    # The module with these messages differs between versions of TensorFlow.
    job = context.coordination_config_pb2.CoordinatedJob
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=multi_worker_util.coordination_leader(spec),
        coordinated_jobs=[
            job(name=name, num_tasks=spec.num_tasks(name))
            for name in ("chief", "worker")
            if name in spec.jobs
        ],
        cluster_register_timeout_in_ms=membership.start_timeout * 1000,
        heartbeat_timeout_in_ms=_HEARTBEAT_SECONDS * 1000,
    )


def _wrap_capture(capture: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `capture_call_time_value` that works for functions called inside control flow.

    A collective's key is captured that way (tensorflow/python/distribute/
    cross_device_utils.py, `_next_instance_key`). It handles branches and loop bodies around the
    collective, but not around a function that contains it. Keras calls its step function inside
    the loop of `steps_per_execution`.
    """

    @functools.wraps(capture)
    def capture_outside(self: Any, *args: Any, **kwargs: Any) -> Any:
        graph = self
        while getattr(graph, "is_control_flow_graph", False):
            graph = graph.outer_graph
        with graph.as_default():
            return capture(graph, *args, **kwargs)

    return capture_outside


def _wrap_handle(get: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a getter of a variable's handle that works outside of replicas too.

    A script's own loop runs outside of replicas, and takes gradients by its variables
    (tensorflow/python/distribute/values.py, DistributedVariable.handle).
    """

    @functools.wraps(get)
    def get_the_one(self: Any) -> Any:
        from tensorflow.python.distribute import values_util

        is_outside = values_util.get_current_replica_id_as_int() is None
        return self._values[0].handle if is_outside and len(self._values) == 1 else get(self)

    return get_the_one


def _wrap_list_devices(list_devices: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Return an `all_local_devices` without the devices of other workers.

    The program's own `MirroredStrategy` uses all listed devices, and crashes with a segmentation
    fault if they belong to another process (TensorFlow 2.21, with and without nano-init, for any
    `MirroredStrategy()` after a `MultiWorkerMirroredStrategy`).
    """

    @functools.wraps(list_devices)
    def list_own(*args: Any, **kwargs: Any) -> list[Any]:
        from tensorflow.python.eager.context import context

        devices = list_devices(*args, **kwargs)  # first, because it may create the strategy
        server = context()._collective_ops_server_def
        if server is None:
            return devices
        place = f"/job:{server.job_name}/replica:0/task:{server.task_index}/"
        return [device for device in devices if device.name.startswith(place)] or devices

    return list_own


def _wrap_extended_init(initialize: Callable[..., None]) -> Callable[..., None]:
    """Return an `__init__` that steps aside for the program's own multi-worker strategy."""

    @functools.wraps(initialize)
    def initialize_and_notice(self: Any, container_strategy: Strategy) -> None:
        global _is_own
        initialize(self, container_strategy)
        if _is_joint(container_strategy) and not _is_making:
            _is_own = True

    return initialize_and_notice


def _is_joint(strategy: Strategy) -> bool:
    name = type(strategy).__name__
    return "CollectiveAllReduce" in name or "MultiWorker" in name


def _answering_with_the_job_s(cls: type, *_args: Any, **_kwargs: Any) -> Any:
    strategy = job_strategy()
    return object.__new__(cls) if strategy is None else strategy


def _wrap_strategy_init(initialize: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(initialize)
    def initialize_once(self: Strategy, *args: Any, **kwargs: Any) -> None:
        if not is_job_strategy(self):
            initialize(self, *args, **kwargs)

    return initialize_once
