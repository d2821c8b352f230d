"""`nano-init --doctor`: examine this machine and this environment, and say what was found."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import textwrap

import nano_init
from nano_init.evidence.doctor.findings import Examined, diagnose
from nano_init.evidence.doctor.tensorflow_facts import TensorFlowFacts, examine_tensorflow
from nano_init.fingerprints.installed_parts import find_installed, judge_installed
from nano_init.machine.allocators import loads
from nano_init.plan.build import read_build
from nano_init.plan.library_variables import LIBRARY_PREFIXES
from nano_init.protocol.patch_parts import ALL_RECORDS
from nano_init.protocol.variables import JOB_SECRET_VARIABLE
from nano_init.shells.preload import list_libraries
from nano_init.text import count_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from nano_init.evidence.doctor.findings import Finding
    from nano_init.fingerprints.verdict import Verdict
    from nano_init.machine.facts import Machine
    from nano_init.plan.settings import Plan

__all__ = ["diagnosis_to_json", "examine", "format_diagnosis"]

# Packages that put their own kernels under TensorFlow.
_PLUG_INS = ("zentf", "intel-extension-for-tensorflow", "intel-extension-for-tensorflow-lib")

_HUGE_PAGES = "sys/kernel/mm/transparent_hugepage/enabled"

# Variables that a bug report should show; only the job's secret is private. TF_ alone is
# Terraform's prefix, too.
_SHOWN = (
    *("TF_AUTO_", "TF_CPP_", "TF_DISABLE_", "TF_ENABLE_", "TF_NUM_", "TF_ONEDNN_", "TF_SET_"),
    *("TF_USE_", "TF_XLA_FLAGS", "XLA_FLAGS", "KERAS_BACKEND", "NANO_", "MALLOC_CONF"),
    *LIBRARY_PREFIXES,
)


def examine(machine: Machine, plan: Plan, environ: Mapping[str, str], root: str = "/") -> Examined:
    """Find out what the checks look at; TensorFlow is started once, in a child process.

    Args:
        machine: the computer.
        plan: what nano-init would set.
        environ: the user's environment, without what nano-init has set in it.
        root: the folder that stands for "/".
    """
    return Examined(
        machine=machine,
        plan=plan,
        environ=environ,
        tensorflow=examine_tensorflow(environ),
        distributions=_read_plug_ins(),
        preloads={path: loads(path) for path in list_libraries(environ.get("LD_PRELOAD", ""))},
        huge_pages=_read_huge_pages(root),
        parts=_judge_parts(environ),
    )


def format_diagnosis(examined: Examined, width: int | None = None) -> str:
    """Return the findings as text, and a block to paste into a bug report.

    Args:
        examined: what was found out.
        width: columns to fill; the terminal's by default.
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    findings = diagnose(examined)
    lines: list[str] = []
    for finding in findings:
        lines += _paragraph(f"{finding.level:8} {finding.check}: {finding.seen}", width)
        if finding.fix:
            lines += _paragraph(f"{'':8} fix: {finding.fix}", width)
    problems = sum(finding.level == "problem" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    verdict = f"{count_of(problems, 'problem')}, {count_of(warnings, 'warning')}."
    block = format_block(examined, findings)
    return "\n".join([*lines, "", verdict, "", "To paste into a bug report:", "", block, ""])


def format_block(examined: Examined, findings: Sequence[Finding]) -> str:
    """Return the facts that a bug report needs, fenced for Markdown."""
    rows = [f"{name}: {value}" for name, value in _facts(examined).items()]
    rows += [f"{name}={value}" for name, value in _variables(examined.environ).items()]
    rows += [f"{f.level}: {f.check}: {f.seen}" for f in findings if f.level != "ok"]
    return "\n".join(["```", *rows, "```"])


def diagnosis_to_json(examined: Examined) -> dict[str, Any]:
    """Return the findings and the facts as plain values."""
    facts = examined.tensorflow
    return {
        "findings": [
            {"level": f.level, "check": f.check, "seen": f.seen, "fix": f.fix}
            for f in diagnose(examined)
        ],
        "facts": _facts(examined),
        "variables": _variables(examined.environ),
        "measured": {
            "gflops": dict(facts.gflops),
            "gigabytes_a_second": facts.gigabytes_a_second,
            "bfloat16_gain": facts.bf16_gain,
            "unit": facts.unit,
        },
    }


def _facts(examined: Examined) -> dict[str, str]:
    isa, limits = examined.machine.isa, examined.machine.limits
    facts: TensorFlowFacts = examined.tensorflow
    return {
        "nano-init": nano_init.__version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {isa.arch}",
        "processor": f"{isa.model or isa.vendor or 'unknown'} ({isa.level or 'no oneDNN level'})",
        "bfloat16 unit": isa.bf16 or "none",
        "usable cores": examined.plan.threads.reason,
        "CPU quota": "none" if limits.cpu_quota is None else f"{limits.cpu_quota:g}",
        "TensorFlow": facts.tensorflow
        or f"{'unknown' if facts.timeout else 'none'} ({facts.fault})",
        "Keras": facts.keras or ("unknown" if facts.timeout else "none"),
        "oneDNN": _describe_onednn(facts),
    }


def _describe_onednn(facts: TensorFlowFacts) -> str:
    if facts.timeout:
        return "unknown"
    return f"{facts.onednn or 'none'} ({facts.runtime or 'no threads'}; {facts.isa})"


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    shown = {n: v for n, v in sorted(environ.items()) if n.startswith(_SHOWN)}
    # Users publish this block: a secret must not be in it.
    return {n: "(not shown)" if n == JOB_SECRET_VARIABLE else v for n, v in shown.items()}


def _paragraph(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(40, width),
        subsequent_indent=" " * 11,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _read_plug_ins() -> dict[str, str]:
    from importlib.metadata import distributions

    names = {d.metadata["Name"]: d.version for name in _PLUG_INS for d in distributions(name=name)}
    return {name: version for name, version in names.items() if name}


def _judge_parts(environ: Mapping[str, str]) -> dict[str, Verdict] | None:
    build = read_build()
    installed = build and find_installed(build.version, environ, sys.path)
    if not installed:
        return None
    # Those of the other Keras are not asked for.
    records = [
        record
        for record in ALL_RECORDS
        if record.targets and installed.keras in record.keras_packages
    ]
    return judge_installed(records, installed)


def _read_huge_pages(root: str) -> str:
    try:
        with open(os.path.join(root, _HUGE_PAGES), encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError:
        return ""
    return text.partition("[")[2].partition("]")[0]  # "always [madvise] never"
