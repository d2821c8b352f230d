"""Show a plan to a person, or as one JSON object to a program."""

from __future__ import annotations

import shutil

from nano_init.machine.cpulist import format_cpu_list
from nano_init.plan.precision import cause_of
from nano_init.text import align_wrapped, count_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from nano_init.machine.facts import Core, Limits, Machine
    from nano_init.plan.settings import Plan

__all__ = ["format_plan", "plan_to_json"]


def plan_to_json(machine: Machine, plan: Plan) -> dict[str, Any]:
    """Return a machine and its plan as plain values, in the documented shape."""
    isa, topology, limits = machine.isa, machine.topology, machine.limits
    return {
        "machine": {
            "vendor": isa.vendor,
            "model": isa.model,
            "arch": isa.arch,
            "isa_level": isa.level,
            "bf16": isa.bf16,
            "sockets": topology.sockets,
            "numa_nodes": _nodes_with_processors(machine),
            "cores": len(topology.cores),
            "threads": len(topology.online),
            "performance_cpus": _cpus_of(topology.cores, "performance", topology.hybrid),
            "efficiency_cpus": _cpus_of(topology.cores, "efficiency", topology.hybrid),
        },
        "limits": {
            "affinity": format_cpu_list(limits.affinity),
            "cpu_quota": limits.cpu_quota,
            "memory_bytes": limits.memory_bytes,
            "usable_cores": plan.threads.usable_cores,
        },
        "precision": {
            "recommended": plan.precision.recommended,
            "reason": plan.precision.reason,
        },
        "variables": [
            {"name": s.name, "value": s.value, "reason": s.reason, "status": s.status}
            for s in plan.settings
        ],
    }


def format_plan(machine: Machine, plan: Plan, tensorflow: str, width: int | None = None) -> str:
    """Return the machine, the choices and the table of variables as text.

    Args:
        machine: the computer.
        plan: what was decided for it.
        tensorflow: the TensorFlow that will run, as text.
        width: columns to fill; the terminal's by default.
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    facts = [
        ("Processor", _processor(machine)),
        ("Cores", _cores(machine)),
        ("Usable cores", plan.threads.reason),
        ("Memory limit", _memory(machine.limits)),
        ("TensorFlow", tensorflow),
        ("Precision", f"{plan.precision.recommended}: {cause_of(plan.precision)}"),
    ]
    facts = [(name, text) for name, text in facts if text]
    rows = [(s.name, _shown(s.value, s.status), s.reason) for s in plan.settings]
    lines = [
        *align_wrapped(facts, width),
        "",
        *align_wrapped([("Variable", "Value", "Why"), *rows], width),
    ]
    if plan.warnings:
        lines += ["", *align_wrapped([("Warning", text) for text in plan.warnings], width)]
    return "\n".join(lines) + "\n"


def _nodes_with_processors(machine: Machine) -> int:
    return max(1, sum(1 for node in machine.topology.nodes if node.cpus))


def _cpus_of(cores: Iterable[Core], kind: str, hybrid: bool) -> str | None:
    if not hybrid:
        return None
    kinds = {kind} if kind == "performance" else {"efficiency", "low-power"}
    return format_cpu_list(cpu for core in cores if core.kind in kinds for cpu in core.cpus)


def _processor(machine: Machine) -> str:
    isa = machine.isa
    name = isa.model or isa.vendor or "unknown processor"
    unit = {"amx": "AMX", "avx512": "AVX512_BF16", "arm": "Arm bf16", None: "no bfloat16 unit"}
    return f"{name} ({isa.arch}, {isa.level or 'no oneDNN level'}, {unit[isa.bf16]})"


def _cores(machine: Machine) -> str:
    topology = machine.topology
    parts = [
        count_of(len(topology.cores), "core"),
        count_of(len(topology.online), "hardware thread"),
        count_of(topology.sockets, "socket"),
        count_of(_nodes_with_processors(machine), "NUMA node"),
    ]
    if topology.hybrid:
        performance = _cpus_of(topology.cores, "performance", topology.hybrid)
        parts.append(f"performance threads {performance}")
    return ", ".join(parts)


def _memory(limits: Limits) -> str:
    if limits.memory_bytes is None:
        return ""
    return f"{limits.memory_bytes / 2**30:.1f} GiB ({limits.memory_source})"


def _shown(value: str | None, status: str) -> str:
    text = "(unset)" if value is None else value or "(empty)"
    return f"{text} (kept)" if status == "kept" else text
