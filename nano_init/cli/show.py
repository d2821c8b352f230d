"""What `nano-init` shows: the plan, or where one part of it comes from."""

from __future__ import annotations

from nano_init.message import NANO_INIT, say
from nano_init.run.recommend import recommend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.run.init_table import InitRequest

__all__ = ["explained", "shown"]


def shown(request: InitRequest, environ: Mapping[str, str]) -> str:
    """Return the plan as a table, as JSON, or as data for another program.

    Raises:
        NanoError: the machine or an option is wrong.
    """
    from nano_init.cli.plan_table import format_plan, plan_to_json

    found = recommend(request, environ)
    if request.output == "table":
        return format_plan(found.surroundings.machine, found.plan, found.tensorflow)
    for warning in found.plan.warnings:
        say(NANO_INIT, f"warning: {warning}")
    if request.output == "json":
        return _format_json(plan_to_json(found.surroundings.machine, found.plan))
    from nano_init.shells.formats import render_data

    return render_data(request.output, found.plan.settings)


def explained(request: InitRequest, name: str, environ: Mapping[str, str]) -> str:
    """Return where a fact or a variable comes from, as text or as JSON.

    Raises:
        NanoError: there is no such fact, or the machine or an option is wrong.
    """
    from nano_init.cli.explanation import explain_name, explanation_to_json, format_explanation
    from nano_init.plan.decide import thread_cap

    found = recommend(request, environ)
    seen = found.surroundings
    cap = thread_cap(request.options, seen.user_environ)
    explanation = explain_name(name, seen.machine, seen.log, seen.user_environ, found.plan, cap)
    if request.output == "json":
        return _format_json(explanation_to_json(explanation))
    return format_explanation(explanation)


def _format_json(value: object) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
