"""Run the program of a request in this process: decide how, and become it."""

from __future__ import annotations

import os
import sys

from nano_init.frozen import frozen, replace
from nano_init.launch.command import Command, format_command, prepare_command
from nano_init.launch.execute import execute
from nano_init.message import NANO_RUN, say, write_output
from nano_init.plan.choice import choose
from nano_init.plan.precision import cause_of, slow_precision
from nano_init.survey import with_allocator
from nano_init.user_cache import tuned_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nano_init.evidence.tuning.cache import Recalled
    from nano_init.plan.configuration import Configuration
    from nano_init.plan.settings import Plan
    from nano_init.protocol.patch_options import PatchOptions
    from nano_init.run.request import RunRequest
    from nano_init.survey import Surroundings

__all__ = ["RunPlan", "announce", "become", "describe_choice", "may_use_tuned_choice", "prepare"]


@frozen
class RunPlan:
    """All that was decided for a request.

    Args:
        surroundings: what it was decided for.
        plan: the environment's variables.
        asked: the precision that was asked for.
        patch: the options of the patch, with the precision that was chosen.
        command: the process to become.
        tuned: how the choice was measured, in a phrase; "" if it was not.
    """

    surroundings: Surroundings
    plan: Plan
    asked: str
    patch: PatchOptions
    command: Command
    tuned: str = ""


def prepare(
    request: RunRequest, surroundings: Surroundings, configuration: Configuration | None = None
) -> RunPlan:
    """Decide how the program of a request is run.

    Args:
        request: the program, and what the user asked for.
        surroundings: what was read for the request.
        configuration: the configuration to run it in; None for the one that was measured to be
            the fastest for this script, if there is one, or else what fits the machine.

    Raises:
        NanoError: the program cannot be started as asked.
    """
    tuned = signature = ""
    # Before anything was tuned, a script need not be read.
    has_tuned = os.path.isdir(tuned_folder(surroundings.user_environ))
    if configuration is None and has_tuned and may_use_tuned_choice(request):
        found = _recall(request, surroundings)
        configuration, tuned, signature = found.configuration, found.note, found.signature
    allocator = request.options if configuration is None else configuration
    surroundings = with_allocator(surroundings, allocator.allocator)
    choice = choose(request, surroundings, configuration)
    if configuration is None and request.measures_precision:
        from nano_init.run.measured_precision import measure_precision

        measured = measure_precision(request, choice.plan, surroundings)
        choice = choose(request, surroundings, measured=measured)
    environ = surroundings.user_environ
    command = prepare_command(request.target, choice.plan, choice.patch, environ, sys.executable)
    if signature:
        command = _expecting(command, signature)
    return RunPlan(surroundings, choice.plan, request.patch.precision, choice.patch, command, tuned)


def become(request: RunRequest, prepared: RunPlan) -> int:
    """Become a program, or print how that would be done.

    Raises:
        NanoError: the program cannot be started.
    """
    command, environ = prepared.command, prepared.surroundings.user_environ
    if environ.get("TF_CONFIG") and not request.job.is_asked:
        from nano_init.run.cluster_member import join_cluster

        command = join_cluster(command, environ, request.job)
    if request.dry_run:
        write_output(os.fsencode(_explain(request, prepared) + format_command(command)))
        return 0
    if not request.quiet:
        announce(prepared)
    if request.warning:
        say(NANO_RUN, f"warning: {request.warning}")
    return execute(command, environ)


def may_use_tuned_choice(request: RunRequest) -> bool:
    """Say whether the user left to nano-run what a tuned choice decides."""
    given, patch = request.options, request.patch
    return (
        request.use_cache
        and (patch.precision, given.allocator, given.threads) == ("auto", "none", None)
        and not (given.pin or patch.keep_float32 or patch.disable)
    )


def announce(prepared: RunPlan) -> None:
    """Say in one line on stderr what was chosen, and what the user should be warned of."""
    say(NANO_RUN, f"{describe_choice(prepared)}; threads {prepared.plan.threads.reason}")
    for warning in prepared.plan.warnings:
        say(NANO_RUN, f"warning: {warning}")


def describe_choice(prepared: RunPlan) -> str:
    """Return the chosen precision with its reason, and what else changes how it trains."""
    return "; ".join([_describe_precision(prepared), *prepared.patch.describe()])


def _describe_precision(prepared: RunPlan) -> str:
    choice, precision = prepared.plan.precision, prepared.patch.precision
    if prepared.surroundings.bfloat16_fault and prepared.asked != "float32":
        instead = " instead of mixed_bfloat16" if prepared.asked == "mixed_bfloat16" else ""
        return f"{precision}{instead}: {cause_of(choice)}"
    if prepared.tuned:
        return prepared.tuned
    if prepared.asked == "auto":
        return f"{precision}: {cause_of(choice)}"
    slow = slow_precision(precision, choice)
    return f"{precision}, as requested" + (f"; warning: {slow}" if slow else "")


def _recall(request: RunRequest, surroundings: Surroundings) -> Recalled:
    from nano_init.evidence.tuning.cache import Recalled, describe_key, recall

    patch, environ = request.patch, surroundings.user_environ
    key = describe_key(request.target, surroundings, lazy_adam=patch.lazy_adam)
    found = recall(key, environ)
    if found.fault and not request.quiet:
        say(NANO_RUN, found.fault)
    if found.configuration is None or not patch.steps_per_execution:
        return found
    # Options of this run take precedence.
    configuration = replace(found.configuration, steps=str(patch.steps_per_execution))
    return Recalled(configuration, found.note, "", found.signature)


def _expecting(command: Command, signature: str) -> Command:
    """Let the program say if its model is not the one that the choice was measured on."""
    from nano_init.protocol.model_signature import digest_signature
    from nano_init.protocol.variables import SIGNATURE_VARIABLE

    expected = {SIGNATURE_VARIABLE: digest_signature(signature)}
    return replace(command, variables={**command.variables, **expected})


def _explain(request: RunRequest, prepared: RunPlan) -> str:
    plan = prepared.plan
    lines = [describe_choice(prepared), f"threads {plan.threads.reason}"]
    lines += [f"{s.name}: {s.reason}" for s in plan.settings]
    warnings = [*plan.warnings, *([request.warning] if request.warning else [])]
    lines += [f"warning: {sentence}" for sentence in warnings]
    return "".join(f"# {line}\n" for line in lines)
