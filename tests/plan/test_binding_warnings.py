"""Variables that bind threads give a warning if the binding leaves cores idle."""

from __future__ import annotations

import pytest

from nano_init.machine.facts import Core
from nano_init.plan.binding_warnings import binding_warnings

CORES = tuple(Core((core, core + 4), 0, 0) for core in range(4))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KMP_AFFINITY", "granularity=fine,proclist=[0],explicit"),
        ("KMP_AFFINITY", "explicit,proclist=[{1,5}]"),
        ("GOMP_CPU_AFFINITY", "2"),
        ("GOMP_CPU_AFFINITY", "0-3"),
        ("OMP_PLACES", "cores"),
        ("OMP_PLACES", " Threads(2)"),
        ("OMP_PLACES", "{0}:4:1"),
        ("OMP_PROC_BIND", "TRUE"),
        ("OMP_PROC_BIND", "spread,close"),
    ],
)
def test_binding_to_one_core_gives_a_warning(name, value):
    (warning,) = binding_warnings(CORES, {name: value})

    assert f"{name}={value}" in warning
    assert "one core" in warning


@pytest.mark.parametrize(
    "environ",
    [
        {"KMP_AFFINITY": "granularity=fine,compact,1,0"},
        {"KMP_AFFINITY": "granularity=core,compact"},
        {"KMP_AFFINITY": "compact"},
        {"KMP_AFFINITY": "granularity=fine,proclist=[0-3],explicit"},
        {"KMP_AFFINITY": "proclist=[0"},
        {"KMP_AFFINITY": "explicit,proclist=[nonsense]"},
        {"KMP_AFFINITY": "explicit,proclist=[77]"},
        {"GOMP_CPU_AFFINITY": ""},
        {"OMP_PLACES": ""},
        {"OMP_PLACES": "sockets"},
        {"OMP_PLACES": "{0:4},{4:4}"},
        {"OMP_PLACES": "sockets", "OMP_PROC_BIND": "close"},
        {"OMP_PLACES": "cores", "OMP_PROC_BIND": "false"},
        {"OMP_PROC_BIND": "False", "GOMP_CPU_AFFINITY": "0-3"},
        {"OMP_PROC_BIND": ""},
    ],
)
def test_other_bindings_give_no_warning(environ):
    assert binding_warnings(CORES, environ) == ()


def test_one_core_gives_no_warning():
    everything = {"OMP_PROC_BIND": "true", "KMP_AFFINITY": "explicit,proclist=[0]"}

    assert binding_warnings(CORES[:1], everything) == ()


@pytest.mark.parametrize("value", ["granularity=fine,compact", "Granularity=thread, compact,0"])
def test_filling_core_by_core_gives_a_warning_if_cores_have_siblings(value):
    (warning,) = binding_warnings(CORES, {"KMP_AFFINITY": value})

    assert "compact,1,0" in warning
    alone = tuple(Core((core,), 0, 0) for core in range(4))
    assert binding_warnings(alone, {"KMP_AFFINITY": value}) == ()
