"""On which NUMA nodes a process's memory is, and on which its threads work."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nano_init.machine.facts import Node

__all__ = ["Locality", "add_up_pages"]

_USUAL_PAGE_KB = 4


@dataclass
class Locality:
    """Where the memory of a process was seen to be.

    Args:
        nodes: the machine's NUMA nodes; with one only there is nothing to see.
        kilobytes: the memory on each node, when it was last looked at.
    """

    nodes: Sequence[Node]
    kilobytes: Mapping[int, int] = field(default_factory=dict)
    _looks: int = 0

    def look(self, process: int, root: str = "/") -> None:
        """Note where its memory is, ever more rarely: the kernel walks all its pages for that.

        Args:
            process: the process id.
            root: the folder that stands for "/".
        """
        self._looks += 1
        if len(self.nodes) < 2 or self._looks & (self._looks - 1):  # powers of two are left
            return
        path = os.path.join(root, f"proc/{process}/numa_maps")
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                self.kilobytes = add_up_pages(file.read()) or self.kilobytes
        except OSError:  # it has ended, or the kernel does not say
            return

    def shares(self, processors: Mapping[int, int]) -> dict[int, tuple[float, float]]:
        """Return for each node its share of the memory, and of what the threads worked.

        Args:
            processors: how often a working thread was seen on each hardware thread.
        """
        memory, work = sum(self.kilobytes.values()), sum(processors.values())
        if not memory:
            return {}
        return {
            node.id: (
                self.kilobytes.get(node.id, 0) / memory,
                sum(processors.get(cpu, 0) for cpu in node.cpus) / max(1, work),
            )
            for node in self.nodes
        }


def add_up_pages(text: str) -> dict[int, int]:
    """Return the kilobytes on each node. Pure.

    Args:
        text: what /proc/PID/numa_maps holds: a line for each mapping, with its pages on each node
            as N0=3, and their size (proc(5)).
    """
    kilobytes: dict[int, int] = {}
    for line in text.splitlines():
        pairs = [word.partition("=")[::2] for word in line.split()]
        numbers = {name: int(value) for name, value in pairs if value.isdecimal()}
        size = numbers.get("kernelpagesize_kB", _USUAL_PAGE_KB)
        for name, pages in numbers.items():
            if name[:1] == "N" and name[1:].isdecimal():
                node = int(name[1:])
                kilobytes[node] = kilobytes.get(node, 0) + pages * size
    return kilobytes
