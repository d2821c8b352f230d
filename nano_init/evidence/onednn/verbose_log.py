"""Parse what oneDNN prints under ONEDNN_VERBOSE. Pure: lines in, frozen values out.

Each primitive that runs prints one line of fields between commas. A template line names the
fields, and their order is taken from it, because it has changed:

    onednn_verbose,v1,primitive,info,template:operation,engine,primitive,implementation,...
    onednn_verbose,v1,primitive,exec,cpu,matmul,brg_matmul:avx512_core_bf16,undef,...

`v1` and `primitive` came with 3.x, `attributes` with 2.x, the engine with 1.x; earlier
libraries print `dnnl_verbose` and `mkldnn_verbose`, the oldest without a template. See
"Verbose Mode" in oneDNN's developer guide, and src/common/verbose.cpp.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "Descriptor",
    "Execution",
    "VerboseLog",
    "format_execution",
    "parse_descriptors",
    "parse_verbose",
]

# The fields of a line where no template was printed, by how many there are.
_FIELDS = (
    "operation",
    "engine",
    "primitive",
    "implementation",
    "prop_kind",
    "memory_descriptors",
    "attributes",
    "auxiliary",
    "problem_desc",
    "exec_time",
)
_FIELDS_BY_COUNT = {
    10: _FIELDS,
    9: tuple(name for name in _FIELDS if name != "attributes"),  # DNNL 1.x
    8: tuple(name for name in _FIELDS if name not in ("engine", "attributes")),  # MKL-DNN 0.x
}

# Other output may precede a line: a progress bar ends without a line break.
_MARKER = re.compile(r"(?:onednn|dnnl|mkldnn)_verbose,")
_TEMPLATE = re.compile(r"(?:prim_)?template:")
_VERSION = re.compile(r"(?:oneDNN|DNNL|Intel MKL-DNN) v?(\d[\w.]*)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.ASCII)
_DTYPES = "f64|f32|bf16|f16|f8_e5m2|f8_e4m3|f4_e2m1|f4_e3m0|e8m0|s32|s8|u8|s4|u4|boolean|undef"
_DESCRIPTOR = re.compile(rf"(\w+?)[:_]({_DTYPES}):(.*)", re.DOTALL)


@dataclass(frozen=True)
class Descriptor:
    """One tensor of a primitive.

    Args:
        argument: its part in the primitive, such as "src", "wei", "dst".
        dtype: oneDNN's name of its data type, such as "bf16"; "" where the log has none.
        layout: the rest, such as ":blocked:ab::f0".
    """

    argument: str
    dtype: str
    layout: str


@dataclass(frozen=True)
class Execution:
    """One primitive that ran.

    Args:
        engine: "cpu" or "gpu".
        primitive: its kind, such as "matmul" or "reorder".
        implementation: the kernel, such as "brg_matmul:avx512_core_bf16"; "" if unnamed.
        propagation: such as "forward_training"; "undef" where it has no direction.
        descriptors: its tensors as printed.
        attributes: such as "attr-scratchpad:user".
        auxiliary: such as "alg:convolution_direct".
        problem: its shape in benchdnn's notation, such as "128x256:256x512".
        milliseconds: how long it took.
    """

    engine: str
    primitive: str
    implementation: str
    propagation: str
    descriptors: str
    attributes: str
    auxiliary: str
    problem: str
    milliseconds: float


@dataclass(frozen=True)
class VerboseLog:
    """All that was read out of the output of one process.

    Args:
        version: oneDNN's version; "" if the log does not say.
        runtime: what its threads are, such as "threadpool" or "OpenMP"; "" if unknown.
        isa: what it says of the processor; "" if unknown.
        executions: the primitives in the order of their lines.
        damaged: lines that began as a primitive's and could not be read.
    """

    version: str = ""
    runtime: str = ""
    isa: str = ""
    executions: tuple[Execution, ...] = ()
    damaged: int = 0


def parse_verbose(lines: Iterable[str]) -> VerboseLog:
    """Read a process's output; what oneDNN has not printed is passed over.

    Args:
        lines: the output, with all that others have printed into it.
    """
    header = {"version": "", "runtime": "", "isa": ""}
    template: tuple[str, ...] | None = None
    executions, damaged = [], 0
    for payload in _payloads(lines):
        fields = _without_prefix(payload.split(","))
        if fields[0] == "info":
            template = _template_of(payload) or template
            header = {**header, **_facts_of(payload)}
        elif fields[0] == "exec":
            execution = _execution_of(fields, template)
            if execution is None:
                damaged += 1
            else:
                executions.append(execution)
    return VerboseLog(**header, executions=tuple(executions), damaged=damaged)


def parse_descriptors(text: str) -> tuple[Descriptor, ...]:
    """Return the tensors of a primitive, in the notation of 3.x or an earlier one.

    Args:
        text: such as "src:bf16::blocked:ab::f0 dst:f32::blocked:ab::f0", or with "src_bf16:".
    """
    found = []
    for word in text.split():
        match = _DESCRIPTOR.fullmatch(word)
        argument, _, layout = word.partition(":")
        found.append(Descriptor(*match.groups()) if match else Descriptor(argument, "", layout))
    return tuple(found)


def format_execution(execution: Execution) -> str:
    """Return the line that oneDNN 3.7 prints for a primitive."""
    fields = (
        "onednn_verbose,v1,primitive,exec",
        execution.engine,
        execution.primitive,
        execution.implementation,
        execution.propagation,
        execution.descriptors,
        execution.attributes,
        execution.auxiliary,
        execution.problem,
        f"{execution.milliseconds:g}",
    )
    return ",".join(fields)


def _payloads(lines: Iterable[str]) -> Iterator[str]:
    """Give what follows each marker; a line that another one broke into is two."""
    for line in lines:
        pieces = _MARKER.split(line.rstrip("\r\n"))
        yield from pieces[1:]


def _without_prefix(fields: list[str]) -> list[str]:
    """Drop the fields before the operation: version, timestamp, component."""
    rest = fields
    if re.fullmatch(r"v\d+", rest[0]):
        rest = rest[1:] or [""]
    if _NUMBER.fullmatch(rest[0]):
        rest = rest[1:] or [""]
    if rest[0] == "primitive":
        rest = rest[1:] or [""]
    return rest


def _template_of(payload: str) -> tuple[str, ...] | None:
    # A graph's template has other fields, and graphs print their primitives as well.
    match = _TEMPLATE.search(payload)
    if match is None or "graph,info" in payload[: match.start()]:
        return None
    names = payload[match.end() :].split(",")
    # The timestamp is printed before the component, whatever the template says.
    return tuple(name for name in names if name != "timestamp")


def _facts_of(payload: str) -> dict[str, str]:
    facts = {}
    version = _VERSION.search(payload)
    if version:
        facts["version"] = version[1]
    if ",cpu,runtime:" in payload:
        facts["runtime"] = payload.partition("runtime:")[2].partition(",")[0].strip()
    _, found, isa = payload.partition("cpu,isa:")
    if found:  # its text holds commas
        facts["isa"] = isa.strip()
    elif "Detected ISA is " in payload:  # DNNL 1.x
        facts["isa"] = payload.partition("Detected ISA is ")[2].strip()
    return facts


def _execution_of(fields: list[str], template: tuple[str, ...] | None) -> Execution | None:
    names = template if template and len(template) == len(fields) else None
    names = names or (None if template else _FIELDS_BY_COUNT.get(len(fields)))
    if names is None:
        return None
    named = dict(zip(names, fields, strict=True))
    milliseconds = named.get("exec_time", "").strip()
    if not _NUMBER.fullmatch(milliseconds) or not named.get("primitive"):
        return None
    return Execution(
        engine=named.get("engine", "cpu"),
        primitive=named["primitive"],
        implementation=named.get("implementation", ""),
        propagation=named.get("prop_kind", ""),
        descriptors=named.get("memory_descriptors", ""),
        attributes=named.get("attributes", ""),
        auxiliary=named.get("auxiliary", ""),
        problem=named.get("problem_desc", ""),
        milliseconds=float(milliseconds),
    )
