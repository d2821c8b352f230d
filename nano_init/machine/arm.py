"""Names of Arm processors: the kernel gives numbers only.

Sources: the implementer and part numbers of MIDR_EL1 in the kernel's
`arch/arm64/include/asm/cputype.h`, and util-linux's `sys-utils/lscpu-arm.c`.
"""

from __future__ import annotations

__all__ = ["name_arm_model", "name_arm_vendor"]

_VENDORS = {
    0x41: "Arm",
    0x42: "Broadcom",
    0x43: "Cavium",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x4E: "NVIDIA",
    0x50: "APM",
    0x51: "Qualcomm",
    0x53: "Samsung",
    0x56: "Marvell",
    0x61: "Apple",
    0x6D: "Microsoft",
    0x70: "Phytium",
    0xC0: "Ampere",
}

_MODELS = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4A): "Neoverse-E1",
    (0x41, 0xD4B): "Cortex-A78C",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
    (0x41, 0xD83): "Neoverse-V3AE",
    (0x41, 0xD84): "Neoverse-V3",
    (0x41, 0xD85): "Cortex-X925",
    (0x41, 0xD87): "Cortex-A725",
    (0x41, 0xD8E): "Neoverse-N3",
    (0x42, 0x516): "ThunderX2",
    (0x43, 0x0A1): "ThunderX",
    (0x43, 0x0AF): "ThunderX2",
    (0x46, 0x001): "A64FX",
    (0x46, 0x003): "MONAKA",
    (0x48, 0xD01): "Kunpeng 920",
    (0x4E, 0x003): "Denver 2",
    (0x4E, 0x004): "Carmel",
    (0x4E, 0x010): "Olympus",
    (0x50, 0x000): "X-Gene",
    (0x51, 0x001): "Oryon",
    (0x51, 0xC00): "Falkor",
    (0x61, 0x022): "M1",
    (0x61, 0x023): "M1",
    (0x61, 0x024): "M1 Pro",
    (0x61, 0x025): "M1 Pro",
    (0x61, 0x028): "M1 Max",
    (0x61, 0x029): "M1 Max",
    (0x61, 0x032): "M2",
    (0x61, 0x033): "M2",
    (0x61, 0x034): "M2 Pro",
    (0x61, 0x035): "M2 Pro",
    (0x61, 0x038): "M2 Max",
    (0x61, 0x039): "M2 Max",
    (0x6D, 0xD49): "Azure Cobalt 100",
    (0x70, 0x662): "FTC662",
    (0x70, 0x663): "FTC663",
    (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1a",
    (0xC0, 0xAC5): "Ampere-1b",
}


def name_arm_vendor(implementer: str) -> str:
    """Return the vendor's name for "CPU implementer", or the number itself."""
    return _VENDORS.get(_parse_number(implementer), implementer)


def name_arm_model(implementer: str, part: str) -> str:
    """Return the processor's name for "CPU implementer" and "CPU part", or "part 0x…"."""
    key = (_parse_number(implementer), _parse_number(part))
    return _MODELS.get(key, f"part {part}" if part else "")


def _parse_number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return -1
