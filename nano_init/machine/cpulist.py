"""Read and write sets of processors the way Linux spells them.

Sources: the kernel's `Documentation/core-api/printk-formats.rst` (bitmap and its list)
and `lib/bitmap-str.c`; strides as `lscpu` and `taskset` print them.
"""

from __future__ import annotations

from nano_init.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["format_cpu_list", "format_cpu_mask", "parse_cpu_list", "parse_cpu_mask"]

# Eight times the most that Linux can be built for (NR_CPUS, arch/x86/Kconfig): an id above
# is damage, and a range up to it would only fill the memory.
_MOST_CPUS = 65536
_NOTHING = ("", "(null)")


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Return the processors of a list such as "0-3,8" or "0-62:2", ascending.

    Args:
        text: comma-separated ids, ranges and ranges with a stride. Blanks and NUL bytes at
            the ends do not count. An empty text and "(null)", which Linux before 4.9 printed
            for an empty set, are no processors.

    Raises:
        UsageError: the text is not a valid list.
    """
    cpus: set[int] = set()
    for piece in _strip(text).split(","):
        word = piece.strip()
        if word.isascii() and word.isdigit() and len(word) < 5:
            cpus.add(int(word))
        elif word not in _NOTHING:
            cpus.update(_parse_range(word, text))
    return tuple(sorted(cpus))


def format_cpu_list(cpus: Iterable[int]) -> str:
    """Return processors as the kernel writes them: "0-3,8", ascending."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def parse_cpu_mask(text: str) -> tuple[int, ...]:
    """Return the processors of a mask such as "00000000,0000000f", ascending.

    Args:
        text: groups of 32 bits in hexadecimal digits, the highest first, parted by commas.

    Raises:
        UsageError: the text is not a valid mask.
    """
    stripped = _strip(text).removeprefix("0x")
    if stripped in _NOTHING:
        return ()
    groups = stripped.split(",")
    # The kernel pads every group but the first to eight digits.
    grouped = all(0 < len(group) <= 8 and _is_hexadecimal(group) for group in groups)
    if not grouped and not _is_hexadecimal(stripped):
        raise UsageError(f"{_show(text)} is not a processor mask; expected one like ff,ffffffff")
    value = int("".join(group.rjust(8, "0") for group in groups), 16)
    if value.bit_length() > _MOST_CPUS:
        raise UsageError(f"{_show(text)} names processors above {_MOST_CPUS - 1}")
    digits = bin(value)[:1:-1]
    return tuple(cpu for cpu, bit in enumerate(digits) if bit == "1")


def format_cpu_mask(cpus: Iterable[int]) -> str:
    """Return processors as a mask of 32-bit groups, the highest first."""
    value = 0
    for cpu in cpus:
        value |= 1 << cpu
    groups = [f"{value & 0xFFFFFFFF:08x}"]
    while value := value >> 32:
        groups.append(f"{value & 0xFFFFFFFF:08x}")
    return ",".join(reversed(groups))


def _parse_range(word: str, text: str) -> range:
    bounds, colon, stride = word.partition(":")
    first, dash, last = bounds.partition("-")
    numbers = [first, last if dash else first, stride if colon else "1"]
    if not all(n.isascii() and n.isdigit() and len(n) < 10 for n in numbers):
        raise UsageError(
            f"{_show(text)} is not a processor list; expected one like 0-3,8 or 0-62:2"
        )
    low, high, step = map(int, numbers)
    if low > high or step == 0:
        raise UsageError(f"{_show(text)} is not a processor list; {word!r} contains no processor")
    if high >= _MOST_CPUS:
        raise UsageError(f"{_show(text)} names processors above {_MOST_CPUS - 1}")
    return range(low, high + 1, step)


def _is_hexadecimal(text: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in text)


def _strip(text: str) -> str:
    return text.strip(" \t\r\n\0")


def _show(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
