"""Memory is bound as strictly as the kernel permits; each weaker binding is reported."""

from __future__ import annotations

import errno
import os

import pytest

from nano_init.launch.binding import bind_memory, memory_binder
from nano_init.launch.worker_spawn import try_binding
from nano_init.plan.placement import Place


def refusing(*modes):
    """Return a system call that refuses these modes, and the list of its calls."""
    calls = []

    def set_policy(mode, mask):
        calls.append((mode, mask))
        return errno.EPERM if mode in modes else 0

    return set_policy, calls


def test_without_nodes_memory_is_not_bound():
    set_policy, calls = refusing()

    assert bind_memory((), set_policy) == ""
    assert calls == []


def test_memory_is_bound_to_all_nodes_of_the_place():
    set_policy, calls = refusing()

    assert bind_memory((0, 3), set_policy) == ""
    assert calls == [(2, 0b1001)]


def test_if_binding_is_refused_the_first_node_is_preferred():
    set_policy, calls = refusing(2)

    assert "its node is only preferred" in bind_memory((1, 3), set_policy)
    assert calls == [(2, 0b1010), (1, 0b10)]


def test_if_preferring_is_refused_too_the_kernels_error_is_reported():
    set_policy, _ = refusing(1, 2)

    assert bind_memory((1,), set_policy).endswith(os.strerror(errno.EPERM))


def test_memory_cannot_be_bound_on_an_unknown_architecture():
    assert memory_binder("vax") is None
    assert "unknown system call" in bind_memory((0,), None)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="there is no affinity here")
def test_a_trial_binds_a_throwaway_process_and_reports_failures():
    before = os.sched_getaffinity(0)
    mask = tuple(sorted(before))[:1]

    assert try_binding(Place(mask, 1), None) == ()
    assert "cannot bind to cpus" in try_binding(Place((4095,), 1), None)[0]
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(
    not os.path.exists("/sys/devices/system/node/node0"), reason="this kernel has no NUMA nodes"
)
def test_the_kernel_applies_the_memory_policy():
    import platform

    set_policy = memory_binder(platform.machine())
    if set_policy is None:
        pytest.skip("the number of the system call is not known for this processor")
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = bind_memory((0,), set_policy)
            with open("/proc/self/numa_maps") as maps:
                text = answer or maps.read(4096)
            os.write(write_end, text.encode())
        except OSError as error:
            os.write(write_end, f"skip {error}".encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end) as file:
        text = file.read()
    os.waitpid(pid, 0)
    if text.startswith(("skip", "memory is")):
        pytest.skip(f"not permitted here: {text[:80]}")
    assert "bind:0" in text
