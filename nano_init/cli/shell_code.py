"""The code that a shell evaluates to enter a plan, or to leave it."""

from __future__ import annotations

import sys

from nano_init.message import NANO_INIT, say
from nano_init.shells.render import render
from nano_init.shells.transition import enter, leave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.run.init_table import InitRequest
    from nano_init.shells.transition import Transition

__all__ = ["shell_code"]


def shell_code(request: InitRequest, environ: Mapping[str, str]) -> str:
    """Return the code that takes a shell from its environment to the one asked for.

    Raises:
        NanoError: it cannot be done; nothing has been printed then.
    """
    transition = leave(environ) if request.unset else _enter(request, environ)
    code = render(request.shell or "sh", transition.assignments)
    for note in transition.notes:
        say(NANO_INIT, note)
    return code


def _enter(request: InitRequest, environ: Mapping[str, str]) -> Transition:
    from nano_init.run.recommend import recommend

    found = recommend(request, environ)
    if request.verbose:
        from nano_init.cli.plan_table import format_plan

        sys.stderr.write(format_plan(found.surroundings.machine, found.plan, found.tensorflow))
    return enter(environ, found.plan.settings)
