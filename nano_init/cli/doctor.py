"""What `nano-init --doctor` and `--why-not` print."""

from __future__ import annotations

import json

from nano_init.evidence.doctor.examination import diagnosis_to_json, examine, format_diagnosis
from nano_init.evidence.doctor.findings import Examined, diagnose, why_not
from nano_init.evidence.doctor.tensorflow_facts import TensorFlowFacts
from nano_init.run.recommend import recommend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.run.init_table import InitRequest

__all__ = ["examination"]


def examination(request: InitRequest, environ: Mapping[str, str]) -> tuple[str, int]:
    """Return what was found as text or as JSON, and the exit code.

    Raises:
        NanoError: the machine or an option is wrong.
    """
    found = recommend(request, environ)
    machine, user_environ = found.surroundings.machine, found.surroundings.user_environ
    if request.why_not:
        unsupported = found.plan.precision.recommended != "mixed_bfloat16"
        if request.sysroot != "/" or unsupported:  # nothing is left to measure
            examined = Examined(machine, found.plan, user_environ, TensorFlowFacts(), {}, {})
        else:
            examined = examine(machine, found.plan, user_environ)
        return f"{why_not(request.why_not, examined)}\n", 0
    examined = examine(machine, found.plan, user_environ)
    is_ill = any(finding.level == "problem" for finding in diagnose(examined))
    if request.output == "json":
        text = json.dumps(diagnosis_to_json(examined), indent=2, ensure_ascii=False) + "\n"
    else:
        text = format_diagnosis(examined)
    return text, int(is_ill)
