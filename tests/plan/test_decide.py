"""Which variables are set or kept, and for what reason."""

from __future__ import annotations

import pytest

from nano_init.errors import UsageError
from nano_init.machine.facts import Core, Isa, Limits, Machine, Node, Topology
from nano_init.plan.build import Build
from nano_init.plan.decide import decide, thread_cap
from nano_init.plan.settings import Options, Plan, Setting

STOCK = Build("tensorflow", "2.21.0", "eigen")
INTEL = Build("intel-tensorflow", "2.10.0", "openmp")


def machine(cores: int = 4, smt: int = 1, quota: float | None = None) -> Machine:
    groups = [tuple(c + cores * t for t in range(smt)) for c in range(cores)]
    cpus = tuple(sorted(cpu for group in groups for cpu in group))
    return Machine(
        Isa("x86_64", "GenuineIntel", "Model", frozenset(["avx2"]), "AVX2", None),
        Topology(tuple(Core(g, socket=0, node=0) for g in groups), (Node(0, cpus),), sockets=1),
        Limits(cpus, cpu_quota=quota, cpu_quota_source="cpu.max" if quota else ""),
    )


def setting(plan: Plan, name: str) -> Setting:
    (found,) = [s for s in plan.settings if s.name == name]
    return found


class TestDecide:
    def test_every_documented_variable_is_set_with_a_reason(self) -> None:
        plan = decide(machine(), {}, Options(), STOCK)
        assert {s.name for s in plan.settings} == {
            "OMP_NUM_THREADS",
            "KMP_AFFINITY",
            "KMP_BLOCKTIME",
            "TF_ENABLE_ONEDNN_OPTS",
            "TF_NUM_INTRAOP_THREADS",
            "TF_NUM_INTEROP_THREADS",
        }
        assert all(s.reason and s.status == "set" for s in plan.settings)

    @pytest.mark.parametrize(
        "name", ["OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"]
    )
    def test_thread_pools_have_one_thread_per_usable_core(self, name: str) -> None:
        assert setting(decide(machine(4, smt=2), {}, Options(), STOCK), name).value == "4"
        assert setting(decide(machine(4, quota=2.5), {}, Options(), STOCK), name).value == "2"

    def test_the_users_value_is_kept_and_the_reason_says_so(self) -> None:
        plan = decide(machine(), {"OMP_NUM_THREADS": "3"}, Options(), STOCK)
        assert setting(plan, "OMP_NUM_THREADS") == Setting(
            "OMP_NUM_THREADS", "3", "your value is kept; nano-init would set 4", "kept"
        )
        assert "OMP_NUM_THREADS" not in plan.environment()

    def test_an_empty_value_of_the_user_is_kept(self) -> None:
        plan = decide(machine(), {"KMP_BLOCKTIME": ""}, Options(), STOCK)
        assert setting(plan, "KMP_BLOCKTIME").status == "kept"
        assert setting(plan, "KMP_BLOCKTIME").value == ""

    def test_a_user_value_equal_to_the_planned_one_counts_as_kept(self) -> None:
        plan = decide(machine(), {"OMP_NUM_THREADS": "4"}, Options(), STOCK)
        assert setting(plan, "OMP_NUM_THREADS").status == "kept"

    def test_force_overrides_and_reports_the_old_value(self) -> None:
        plan = decide(machine(), {"OMP_NUM_THREADS": "3"}, Options(force=True), STOCK)
        assert setting(plan, "OMP_NUM_THREADS").value == "4"
        assert "was '3'" in setting(plan, "OMP_NUM_THREADS").reason

    def test_the_reason_says_whether_this_tensorflow_reads_openmp_variables(self) -> None:
        stock = setting(decide(machine(), {}, Options(), STOCK), "OMP_NUM_THREADS").reason
        intel = setting(decide(machine(), {}, Options(), INTEL), "OMP_NUM_THREADS").reason
        assert "tensorflow 2.21.0 (Eigen's thread pool) does not" in stock
        assert "intel-tensorflow 2.10.0 sizes its pool by it" in intel

    def test_threads_are_pinned_only_on_request(self) -> None:
        loose = setting(decide(machine(2, smt=2), {}, Options(), STOCK), "KMP_AFFINITY")
        pinned = setting(decide(machine(2, smt=2), {}, Options(pin=True), STOCK), "KMP_AFFINITY")
        assert loose.value == "granularity=fine,none"
        assert pinned.value == "granularity=fine,compact,1,0"


class TestThreadCap:
    def test_the_option_takes_precedence_over_the_variable(self) -> None:
        assert thread_cap(Options(threads=2), {"NANO_INIT_THREADS": "3"}) == (2, "--threads")

    def test_the_variable_is_used_without_the_option(self) -> None:
        assert thread_cap(Options(), {"NANO_INIT_THREADS": "3"}) == (3, "NANO_INIT_THREADS")

    def test_there_is_no_cap_by_default(self) -> None:
        assert thread_cap(Options(), {})[0] is None

    @pytest.mark.parametrize("text", ["0", "-1", "all", "2.5", "9999", "１", "1" * 5000])
    def test_an_invalid_cap_is_rejected_in_one_sentence(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"^NANO_INIT_THREADS is .*; give a whole number"):
            thread_cap(Options(), {"NANO_INIT_THREADS": text})

    def test_the_cap_limits_the_threads(self) -> None:
        plan = decide(machine(4), {"NANO_INIT_THREADS": "2"}, Options(), STOCK)
        assert plan.threads.usable_cores == 2
        assert "NANO_INIT_THREADS" in plan.threads.reason
