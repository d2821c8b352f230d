"""`nano-run --precision measured`: check the instruction set's promise by a short measurement."""

from __future__ import annotations

from nano_init.evidence.tuning.matmul_benchmark import (
    matmul_file,
    measure_matmul,
    recall_matmul,
    recommend_from_matmul,
)
from nano_init.launch.locale_coercion import without_locale_coercion
from nano_init.message import NANO_RUN, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nano_init.plan.settings import Plan, PrecisionChoice
    from nano_init.run.request import RunRequest
    from nano_init.survey import Surroundings

__all__ = ["measure_precision"]


def measure_precision(
    request: RunRequest, plan: Plan, surroundings: Surroundings
) -> PrecisionChoice | None:
    """Return the precision that the matmul benchmark recommends, measured once per machine.

    Args:
        request: what the user asked for; a dry run measures nothing.
        plan: what was decided by the processor's instruction set.
        surroundings: what it was decided for.

    Returns:
        The choice, or None where nothing was measured.
    """
    if plan.precision.recommended != "mixed_bfloat16":  # no unit, nothing to measure
        return None
    path, key = matmul_file(surroundings)
    found = recall_matmul(path, key) if request.use_cache else None
    if found is None and not request.dry_run:
        if not request.quiet:
            say(NANO_RUN, "running the matmul benchmark, once per machine")
        environ = {**without_locale_coercion(surroundings.user_environ), **plan.environment()}
        found, fault = measure_matmul(path, key, environ, keep=request.use_cache)
        if fault and not request.quiet:
            say(NANO_RUN, fault)
    return None if found is None else recommend_from_matmul(found, plan.precision)
