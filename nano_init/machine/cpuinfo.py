"""Split the text of /proc/cpuinfo into what it says of each processor."""

from __future__ import annotations

from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["RELEVANT_FIELDS", "CpuInfo", "count_physical_ids", "parse_cpuinfo"]

# x86, Arm and LoongArch, s390, RISC-V.
_FLAG_KEYS = ("flags", "Features", "features", "isa")
# As many characters of a line of flags as find it quickly in the next block.
_PREFIX = len("\nflags")

# The fields that anything here reads. Others may be private: boards with Arm processors put
# their serial number into this file.
RELEVANT_FIELDS = frozenset(
    [
        *_FLAG_KEYS,
        "processor",
        "vendor_id",
        "cpu family",
        "model",
        "model name",
        "stepping",
        "physical id",
        "siblings",
        "core id",
        "cpu cores",
        "CPU implementer",
        "CPU architecture",
        "CPU variant",
        "CPU part",
        "CPU revision",
        "cpu",
        "mmu",
        "uarch",
    ]
)


@frozen
class CpuInfo:
    """What /proc/cpuinfo says.

    Args:
        fields: the fields of the first block that has flags, and of the file's tail.
        flags: (processor, its line of flags) in the file's order; processors of the same
            kind share one string.
        parts: the different "CPU part" numbers of Arm processors, in the file's order.
    """

    fields: dict[str, str]
    flags: tuple[tuple[int, str], ...]
    parts: tuple[str, ...] = ()

    @property
    def cpus(self) -> tuple[int, ...]:
        """Return the processors that the file names, ascending."""
        return tuple(sorted({cpu for cpu, _ in self.flags}))

    def common_flags(self, allowed: Collection[int]) -> frozenset[str]:
        """Return the flags that every allowed processor has.

        Args:
            allowed: processor ids; if the file names none of them, all that it names count.
        """
        wanted = frozenset(allowed)
        chosen = {line for cpu, line in self.flags if cpu in wanted}
        lines = chosen or {line for _, line in self.flags} or {_shared_flags(self.fields)}
        sets = [frozenset(line.split()) for line in lines]
        return frozenset.intersection(*sets)


def parse_cpuinfo(text: str) -> CpuInfo:
    """Parse /proc/cpuinfo of any architecture.

    The file has a block of "key : value" lines for each online processor, parted by blank
    lines; 32-bit Arm and others have one block of flags for all. Blocks after the first are
    only searched for their number and flags: the file of a 512-thread server has 800 KB.
    """
    fields: dict[str, str] = {}
    flags: list[tuple[int, str]] = []
    parts: dict[str, None] = {}
    last = raw = ""
    for block in text.split("\n\n"):
        if not fields.get("processor"):
            fields.update(_parse_block(block))
        number = _find_field(block, "processor")
        if number is None or not number.isascii() or not number.isdigit() or len(number) > 9:
            continue
        # Nearly all blocks repeat the line of the block before: no need to take it apart.
        if not raw or not block.startswith(raw, block.find(raw[:_PREFIX])):
            last, raw = _find_flags(block)
        flags.append((int(number), last))
        if "CPU part" in fields:
            parts[_find_field(block, "CPU part") or fields["CPU part"]] = None
    tail = _parse_block(text[-2048:].rpartition("\n\n")[2])
    for key, value in tail.items():
        fields.setdefault(key, value)
    shared = _shared_flags(fields)
    return CpuInfo(fields, tuple((cpu, line or shared) for cpu, line in flags), tuple(parts))


def count_physical_ids(text: str) -> int:
    """Return the number of sockets that the "physical id" fields of /proc/cpuinfo name."""
    lines = (line.partition(":") for line in text.split("\n") if line.startswith("physical id"))
    return len({number.strip() for _, _, number in lines})


def _shared_flags(fields: dict[str, str]) -> str:
    return next((fields[key] for key in _FLAG_KEYS if key in fields), "")


def _parse_block(block: str) -> dict[str, str]:
    fields = {}
    for line in block.split("\n"):
        key, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            fields[key.strip()] = value.strip()
    return fields


def _find_flags(block: str) -> tuple[str, str]:
    """Return a block's flags, and the whole line with its ends."""
    for key in _FLAG_KEYS:
        flags = _find_field(block, key)
        if flags:
            start = block.find("\n" + key)
            end = block.find("\n", start + 1)
            return flags, block[start : end + 1] if 0 <= start < end else ""
    return "", ""


def _find_field(block: str, key: str) -> str | None:
    start = 0 if block.startswith(key) else block.find("\n" + key) + 1
    if start == 0 and not block.startswith(key):
        return None
    end = block.find("\n", start)
    name, colon, value = block[start : end if end >= 0 else None].partition(":")
    return value.strip() if colon and name.strip() == key else None
