"""`nano-run --precision auto`: hold the processor's promise against a short measurement."""

from __future__ import annotations

from nano_init.evidence.tuning.matmul_benchmark import (
    choose_by_products,
    measure_products,
    products_file,
    recall_products,
)
from nano_init.launch.locale_coercion import without_coercion
from nano_init.message import say
from nano_init.plan.settings import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.cli.run import RunRequest
    from nano_init.machine.facts import Machine
    from nano_init.plan.build import Build

__all__ = ["with_measured_precision"]

_PROGRAM = "nano-run"


def with_measured_precision(
    request: RunRequest,
    plan: Plan,
    machine: Machine,
    build: Build | None,
    environ: Mapping[str, str],
) -> Plan:
    """Return a plan whose precision matrix products speak for, measured once a machine.

    Args:
        request: what the user asked for; a dry run measures nothing.
        plan: what the processor's instruction set speaks for.
        machine: the computer.
        build: the installed TensorFlow.
        environ: the user's environment, without what nano-init has set in it.
    """
    if plan.precision.recommended != "mixed_bfloat16":  # no unit, nothing to measure
        return plan
    path, key = products_file(machine, build, environ)
    found = recall_products(path, key) if request.use_cache else None
    if found is None and not request.dry_run:
        if not request.quiet:
            say(_PROGRAM, "measuring matrix products, once on this machine")
        found, fault = measure_products(
            path, key, _environment(plan, environ), keep=request.use_cache
        )
        if fault and not request.quiet:
            say(_PROGRAM, fault)
    if found is None:
        return plan
    choice = choose_by_products(found, plan.precision)
    return Plan(plan.threads, choice, plan.settings, plan.warnings)


def _environment(plan: Plan, environ: Mapping[str, str]) -> dict[str, str]:
    return {**without_coercion(environ), **plan.environment()}
