"""From a request of `nano-init` to the plan that answers it."""

from __future__ import annotations

from nano_init.frozen import frozen
from nano_init.machine.probe import probe_with_log
from nano_init.plan.build import read_build
from nano_init.plan.decide import decide
from nano_init.plan.settings import Plan, Setting
from nano_init.shells.transition import original

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.cli.init import InitRequest
    from nano_init.machine.facts import Machine


__all__ = ["Answer", "find_library", "make_plan"]


@frozen
class Answer:
    """A plan, and what it was made of.

    Args:
        machine: the computer.
        log: what each source said when it was probed.
        environ: the environment that the plan was decided for.
        tensorflow: the TensorFlow that will run, as text.
        plan: what was decided.
    """

    machine: Machine
    log: Mapping[str, str | None]
    environ: Mapping[str, str]
    tensorflow: str
    plan: Plan


def make_plan(request: InitRequest, environ: Mapping[str, str]) -> Answer:
    """Probe the machine of a request, and decide for it.

    A recorded machine is answered for as its own shell would be: without this shell's
    variables, and without the TensorFlow that is installed here.

    Raises:
        NanoError: the machine or an option is wrong.
    """
    here = request.sysroot == "/"
    theirs: Mapping[str, str] = original(environ)[0] if here else {}
    build = read_build() if here else None
    machine, log = probe_with_log(request.sysroot, theirs)
    library = find_library(request.options.allocator, theirs)
    plan = decide(machine, theirs, request.options, build, library)
    if request.options.precision != "auto":
        wish = Setting(
            "NANO_RUN_PRECISION", request.options.precision, "the precision that you asked for"
        )
        plan = Plan(plan.threads, plan.precision, (*plan.settings, wish), plan.warnings)
    nothing = "not installed beside nano-init" if here else "not known of a recorded machine"
    return Answer(machine, log, theirs, str(build) if build else nothing, plan)


def find_library(allocator: str, environ: Mapping[str, str]) -> str | None:
    """Return the allocator's library that was asked for, if it is found and loads."""
    if allocator == "none":
        return None
    from nano_init.machine.allocators import ALLOCATORS, find_allocator

    if allocator not in (*ALLOCATORS, "auto"):
        return None
    return find_allocator(allocator, environ)
