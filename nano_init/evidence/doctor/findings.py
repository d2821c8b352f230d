"""What is wrong, or right, with a machine and its environment for training. Pure.

Each check takes the facts and returns findings; a finding names what was seen and, unless all
is well, what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass

from nano_init.evidence.doctor.part_findings import list_part_findings
from nano_init.plan.library_variables import onednn_setting
from nano_init.plan.precision import cause_of, recommend_precision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Literal

    from nano_init.evidence.doctor.tensorflow_facts import TensorFlowFacts
    from nano_init.fingerprints.verdict import Verdict
    from nano_init.machine.facts import Machine
    from nano_init.plan.settings import Plan

    Level = Literal["problem", "warning", "note", "ok"]

__all__ = ["LEVELS", "Examined", "Finding", "diagnose", "why_not"]

LEVELS = ("problem", "warning", "note", "ok")

# Measured ratios below this are no reason for bfloat16: its casts cost more than it brings.
_LEAST_GAIN = 1.1


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Args:
        level: "problem" (training is wrong, or far slower than it could be), "warning" (it may
            be), "note" (worth knowing) or "ok".
        check: what was checked, in a word or two.
        seen: what was found, one sentence.
        fix: what to do about it; "" where nothing is to be done, or `seen` says it.
    """

    level: Level
    check: str
    seen: str
    fix: str = ""


@dataclass(frozen=True)
class Examined:
    """All that the checks look at.

    Args:
        machine: the computer.
        plan: what nano-init would set.
        environ: the user's environment, without what nano-init has set in it.
        tensorflow: the installed TensorFlow, as it was seen to compute.
        distributions: names of installed packages that plug into TensorFlow, with versions.
        preloads: the libraries in LD_PRELOAD, and whether each loads.
        huge_pages: the kernel's choice for transparent huge pages; "" if unknown.
        parts: whether each part of the patch fits the installed Keras; None if unknown.
    """

    machine: Machine
    plan: Plan
    environ: Mapping[str, str]
    tensorflow: TensorFlowFacts
    distributions: Mapping[str, str]
    preloads: Mapping[str, bool]
    huge_pages: str = ""
    parts: Mapping[str, Verdict] | None = None


def diagnose(examined: Examined) -> tuple[Finding, ...]:
    """Return all findings, the worst first."""
    found = [finding for check in _CHECKS for finding in check(examined)]
    return tuple(sorted(found, key=lambda finding: LEVELS.index(finding.level)))


def why_not(precision: str, examined: Examined) -> str:
    """Answer in one sentence why a precision is not taken here, or that it is.

    Args:
        precision: "float32" or "mixed_bfloat16".
        examined: the machine and its TensorFlow.
    """
    choice = examined.plan.precision
    gain = examined.tensorflow.bf16_gain
    measured = (
        "" if gain is None else f"; matrix products were measured to be {gain:.2f} times as fast"
    )
    if precision == "float32":
        if choice.recommended == "float32":
            return f"float32 is recommended here: {cause_of(choice)}"
        return (
            "float32 works everywhere, but mixed_bfloat16 is recommended here: "
            f"{cause_of(choice)}{measured}"
        )
    if choice.recommended != "mixed_bfloat16":
        return f"mixed_bfloat16 is not used here: {cause_of(choice)}"
    if gain is not None and gain < _LEAST_GAIN:
        return (
            f"mixed_bfloat16 is not worth it: {cause_of(choice)}, but its matrix products were "
            f"measured to be only {gain:.2f} times as fast as float32's"
        )
    return f"mixed_bfloat16 is recommended here: {cause_of(choice)}{measured}"


def _check_tensorflow(examined: Examined) -> Iterator[Finding]:
    facts = examined.tensorflow
    if facts.timeout:
        yield _late(facts, examined.plan.threads.usable_cores)
        return
    if facts.fault:
        yield Finding(
            "problem",
            "TensorFlow",
            f"TensorFlow does not start: {facts.fault}",
            "pip install 'nano-init[tensorflow]' in this environment, or reinstall its TensorFlow",
        )
        return
    yield Finding(
        "ok",
        "TensorFlow",
        f"TensorFlow {facts.tensorflow} with Keras {facts.keras}, imported in "
        f"{facts.import_seconds:.1f} s",
    )
    if facts.backend != "tensorflow":
        yield Finding(
            "problem",
            "Keras's backend",
            f"Keras runs on {facts.backend}, and nano-init speeds up TensorFlow",
            "unset KERAS_BACKEND, or set the backend in ~/.keras/keras.json to tensorflow",
        )


def _check_parts(examined: Examined) -> Iterator[Finding]:
    for level, seen, fix in list_part_findings(examined.parts or {}, examined.environ):
        yield Finding(level, "patch", seen, fix)


def _late(facts: TensorFlowFacts, cores: int) -> Finding:
    load = "" if facts.load is None else f" (load average {facts.load:.1f}, usable cores {cores})"
    return Finding(
        "warning",
        "TensorFlow",
        f"{facts.fault}{load}, so its version, Keras's backend, oneDNN, the speed of bfloat16 and "
        "the OpenMP runtimes were not checked",
        "run nano-init --doctor again when the machine is idle; if it is idle now, see where "
        "python -X importtime -c 'import tensorflow' spends its time",
    )


def _check_onednn(examined: Examined) -> Iterator[Finding]:
    facts = examined.tensorflow
    if facts.fault:
        return
    if facts.onednn:
        pool = "TensorFlow's own threads" if facts.runtime == "threadpool" else facts.runtime
        yield Finding("ok", "oneDNN", f"oneDNN {facts.onednn} computes, on {pool}")
        return
    switch = examined.environ.get("TF_ENABLE_ONEDNN_OPTS", "")
    if switch.lower() in ("0", "false"):
        seen = f"oneDNN is switched off by TF_ENABLE_ONEDNN_OPTS={switch}"
        fix = "unset TF_ENABLE_ONEDNN_OPTS"
    else:
        seen = "oneDNN computed no matrix product: this TensorFlow was built without it"
        fix = "install TensorFlow from PyPI for x86-64 Linux, which has it built in"
    yield Finding("problem", "oneDNN", seen, fix)


def _check_unit(examined: Examined) -> Iterator[Finding]:
    choice, isa = examined.plan.precision, examined.machine.isa
    without_variables = recommend_precision(isa, {})
    if without_variables.recommended == "float32":
        cause = cause_of(without_variables)
        yield Finding("note", "bfloat16 unit", f"float32 is recommended: {cause}")
    elif choice.recommended == "float32":
        yield Finding(
            "warning",
            "bfloat16 unit",
            f"the processor has bfloat16 instructions, but {cause_of(choice)}",
            "unset that variable",
        )
    else:
        yield Finding("ok", "bfloat16 unit", cause_of(choice))
    if isa.amx_denied:
        yield Finding(
            "warning",
            "AMX",
            f"the processor has AMX, but {isa.amx_denied}",
            "ask for a kernel (5.16 or newer) and a hypervisor or seccomp filter that permit it",
        )


def _check_speed(examined: Examined) -> Iterator[Finding]:
    facts = examined.tensorflow
    gain, speeds = facts.bf16_gain, dict(facts.gflops)
    if gain is None:
        return
    seen = (
        f"matrix products ran at {speeds['float32']:.0f} GFLOP/s in float32 and "
        f"{speeds['bfloat16']:.0f} in bfloat16, {gain:.2f} times as fast"
    )
    wanted = examined.plan.precision.recommended == "mixed_bfloat16"
    if facts.unit == "emulated" and wanted:
        yield Finding(
            "problem", "measured speed", f"{seen}; bfloat16 was emulated", "use --precision float32"
        )
    elif wanted and gain < _LEAST_GAIN:
        yield Finding(
            "warning",
            "measured speed",
            f"{seen}, which is less than its casts cost",
            "compare on your own script: nano-run --compare --precision mixed_bfloat16 train.py",
        )
    elif not wanted and gain > 1 / _LEAST_GAIN and examined.machine.isa.bf16 is None:
        yield Finding("note", "measured speed", f"{seen}, without a unit")
    else:
        yield Finding("ok", "measured speed", seen)


def _check_threads(examined: Examined) -> Iterator[Finding]:
    cores, environ = examined.plan.threads.usable_cores, examined.environ
    for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        text = environ.get(name, "")
        if not text.isdigit() or int(text) in (0, cores):
            continue
        if int(text) < cores:
            left = " (launchers such as torchrun leave that behind)" if text == "1" else ""
            yield Finding(
                "warning",
                name,
                f"{name}={text}{left} uses {text} of {cores} usable cores",
                f"unset {name}, or nano-run --force",
            )
        else:
            yield Finding(
                "warning",
                name,
                f"{name}={text} starts more threads than there are usable cores ({cores})",
                f"unset {name}, or nano-run --force",
            )
    quota = examined.machine.limits.cpu_quota
    if quota is not None and "TF_NUM_INTRAOP_THREADS" not in environ:
        allowed = len(examined.machine.limits.affinity)
        if allowed > cores:
            yield Finding(
                "warning",
                "CPU quota",
                f"TensorFlow alone starts {allowed} threads under a quota of {quota:g} processors "
                f"({examined.machine.limits.cpu_quota_source}) and is throttled in every period",
                "start scripts with nano-run, or source bigdl-nano-init",
            )


def _check_switches(examined: Examined) -> Iterator[Finding]:
    environ = examined.environ
    flags = environ.get("TF_XLA_FLAGS", "")
    if "--tf_xla_auto_jit" in flags and "FUSIBLE" not in flags:
        yield Finding(
            "warning",
            "TF_XLA_FLAGS",
            f"TF_XLA_FLAGS={flags} lets XLA compile matrix products too, instead of oneDNN",
            "add --tf_xla_ops_to_cluster=FUSIBLE, or unset it, and compare: nano-run --compare",
        )
    elif flags:
        yield Finding("note", "TF_XLA_FLAGS", f"TF_XLA_FLAGS={flags} is set")
    for name in ("ONEDNN_VERBOSE", "DNNL_VERBOSE", "MKLDNN_VERBOSE"):
        if environ.get(name, "0") not in ("", "0", "none"):
            yield Finding(
                "warning",
                name,
                f"{name}={environ[name]} prints a line for every primitive on stdout",
                f"unset {name}",
            )
    name, capacity = onednn_setting(environ, "PRIMITIVE_CACHE_CAPACITY")
    if capacity == "0":
        yield Finding(
            "problem",
            "primitive cache",
            f"{name}=0 compiles every primitive again at each call",
            f"unset {name}",
        )


def _check_plug_ins(examined: Examined) -> Iterator[Finding]:
    for name, version in examined.distributions.items():
        if name == "zentf":
            yield Finding(
                "problem",
                "zentf",
                f"the plug-in zentf {version} is made for inference: in training it was measured "
                "to be slower than TensorFlow alone, with a wrong loss on convolutions",
                "pip uninstall zentf in the environment that trains",
            )
        else:
            yield Finding(
                "note",
                name,
                f"the plug-in {name} {version} changes what TensorFlow computes with",
                "compare with and without it: nano-run --compare",
            )


def _check_libraries(examined: Examined) -> Iterator[Finding]:
    runtimes = examined.tensorflow.openmp
    if len({_family(name) for name in runtimes}) > 1:
        yield Finding(
            "warning",
            "OpenMP runtimes",
            f"one process loads several ({', '.join(runtimes)}), each with its own threads",
            "install libraries that share one, as conda-forge's do",
        )
    for path, loads in examined.preloads.items():
        if not loads:
            yield Finding(
                "problem",
                "LD_PRELOAD",
                f"{path} does not load, and every program prints an error about it",
                f"remove {path} from LD_PRELOAD",
            )


def _family(name: str) -> str:
    return name.split(".so")[0].split("-")[0]


def _check_kernel(examined: Examined) -> Iterator[Finding]:
    if examined.huge_pages == "never":
        yield Finding(
            "note",
            "huge pages",
            "transparent huge pages are off: large tensors cost more page faults and TLB misses",
            "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )
    elif examined.huge_pages:
        yield Finding("ok", "huge pages", f"transparent huge pages: {examined.huge_pages}")
    for warning in examined.plan.warnings:
        yield Finding("warning", "machine", warning)
    yield Finding("ok", "usable cores", examined.plan.threads.reason)


_CHECKS = (
    _check_tensorflow,
    _check_parts,
    _check_onednn,
    _check_unit,
    _check_speed,
    _check_threads,
    _check_switches,
    _check_plug_ins,
    _check_libraries,
    _check_kernel,
)
