"""What `nano-init` recommends for a request."""

from __future__ import annotations

from nano_init.frozen import frozen, replace
from nano_init.plan.choice import choose
from nano_init.plan.settings import Setting
from nano_init.protocol.variables import PRECISION_VARIABLE
from nano_init.survey import survey, with_allocator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.plan.settings import Plan
    from nano_init.run.init_table import InitRequest
    from nano_init.survey import Surroundings

__all__ = ["Recommendation", "recommend"]


@frozen
class Recommendation:
    """A plan, and what it was made of.

    Args:
        surroundings: what was read.
        plan: what was decided.
        tensorflow: the TensorFlow that will run, as text.
    """

    surroundings: Surroundings
    plan: Plan
    tensorflow: str


def recommend(request: InitRequest, environ: Mapping[str, str]) -> Recommendation:
    """Read the machine of a request, and decide for it.

    Args:
        request: the request.
        environ: this process's environment.

    Raises:
        NanoError: the machine or an option is wrong.
    """
    surroundings = with_allocator(survey(environ, request.sysroot), request.options.allocator)
    plan = choose(request, surroundings).plan
    asked = request.patch.precision
    if asked != "auto":
        wish = Setting(PRECISION_VARIABLE, asked, "the precision that you requested")
        plan = replace(plan, settings=(*plan.settings, wish))
    is_here = request.sysroot == "/"
    nothing = "not installed with nano-init" if is_here else "unknown for a recorded machine"
    return Recommendation(surroundings, plan, str(surroundings.build or nothing))
