"""What follows from a request and its surroundings: a plan, and what the patch is to do. Pure."""

from __future__ import annotations

from nano_init.frozen import frozen, replace
from nano_init.plan.decide import decide
from nano_init.plan.precision import TRAINABLE, check_precision, without_guards
from nano_init.plan.settings import Options
from nano_init.protocol.patch_options import PatchOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from nano_init.plan.configuration import Configuration
    from nano_init.plan.settings import Plan, PrecisionChoice
    from nano_init.survey import Surroundings

    class Request(Protocol):
        """What was asked for, whichever command it was."""

        @property
        def options(self) -> Options:
            """Return the options for the environment."""

        @property
        def patch(self) -> PatchOptions:
            """Return the options for the patch."""


__all__ = ["Choice", "Wishes", "choose"]


@frozen
class Wishes:
    """What was asked for where no command line is.

    Args:
        options: of the environment.
        patch: of the patch.
    """

    options: Options = Options()
    patch: PatchOptions = PatchOptions()


@frozen
class Choice:
    """What was decided for one process.

    Args:
        plan: the environment's variables.
        patch: the options of the patch, with the precision that was chosen.
    """

    plan: Plan
    patch: PatchOptions


def choose(
    request: Request,
    surroundings: Surroundings,
    configuration: Configuration | None = None,
    measured: PrecisionChoice | None = None,
) -> Choice:
    """Decide how a training process is to run.

    Args:
        request: what the user asked for.
        surroundings: what was read, with the library of the allocator that is asked for.
        configuration: what was measured to be fastest, which changes the request; or None.
        measured: the precision that a measurement recommends, in place of the one that the
            instruction set recommends; or None.

    Raises:
        UsageError: an option, or a variable that stands for one, has a wrong value.
    """
    options, patch = request.options, request.patch
    if configuration is not None:
        options, patch = configuration.options(options), configuration.patch(patch)
    asked = check_precision(patch.precision)
    environ, library = surroundings.user_environ, surroundings.libraries.get(options.allocator)
    plan = decide(surroundings.machine, environ, options, surroundings.build, library)
    if configuration is not None:
        plan = configuration.plan(plan, environ)
    elif measured is not None:
        plan = replace(plan, precision=measured)
    if surroundings.bfloat16_fault:
        plan = replace(plan, precision=without_guards(surroundings.bfloat16_fault))
    is_asked = asked in TRAINABLE and not surroundings.bfloat16_fault
    precision = asked if is_asked else plan.precision.recommended
    is_chosen = request.patch.precision == "auto" and precision == "mixed_bfloat16"
    return Choice(plan, replace(patch, precision=precision, is_chosen=is_chosen))
