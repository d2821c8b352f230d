"""Show where one fact or variable comes from."""

from __future__ import annotations

import shutil
import textwrap

from nano_init.plan.explain import Explanation, explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from nano_init.machine.facts import Machine
    from nano_init.plan.settings import Plan, Setting

__all__ = ["explain_name", "explanation_to_json", "format_explanation"]

_INDENT = "  "


def explain_name(
    name: str,
    machine: Machine,
    log: Mapping[str, str | None],
    environ: Mapping[str, str],
    plan: Plan,
    cap: tuple[int | None, str],
) -> Explanation:
    """Return where a fact of the machine, or a variable of the plan, comes from.

    Args:
        name: a fact such as "usable_cores", or a variable such as "OMP_NUM_THREADS".
        machine: the computer.
        log: what each source said when it was probed.
        environ: the user's environment.
        plan: what was decided.
        cap: the user's bound on the cores, and where it comes from.

    Raises:
        UsageError: there is neither a fact nor a variable of that name.
    """
    settings = {setting.name: setting for setting in plan.settings}
    if name not in settings:
        return explain(name, machine, log, environ, *cap)
    setting = settings[name]
    own = ((f"environment {name}", repr(environ[name]) if name in environ else "unset"),)
    if not _follows_cores(setting, plan):
        return Explanation(name, str(setting.value), own, setting.reason)
    cores = explain("usable_cores", machine, log, environ, *cap)
    conclusion = f"{setting.reason}; usable cores {cores.conclusion}"
    return Explanation(name, str(setting.value), own + cores.said, conclusion)


def format_explanation(explanation: Explanation, width: int | None = None) -> str:
    """Return an explanation as text: the value, what each source said, how it follows.

    Args:
        explanation: what to show.
        width: columns to fill; the terminal's by default.
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    lines = [f"{explanation.name} = {explanation.value}"]
    for source, said in explanation.said:
        lines += textwrap.wrap(
            f"{source}: {said}",
            width,
            initial_indent=_INDENT,
            subsequent_indent=_INDENT * 3,
            break_on_hyphens=False,
        )
    lines += textwrap.wrap(
        f"so: {explanation.conclusion}",
        width,
        subsequent_indent=_INDENT * 2,
        break_on_hyphens=False,
    )
    return "\n".join(lines) + "\n"


def explanation_to_json(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as plain values."""
    return {
        "name": explanation.name,
        "value": explanation.value,
        "sources": [{"source": source, "said": said} for source, said in explanation.said],
        "conclusion": explanation.conclusion,
    }


def _follows_cores(setting: Setting, plan: Plan) -> bool:
    return setting.name.endswith("_THREADS") and setting.value == str(plan.threads.usable_cores)
