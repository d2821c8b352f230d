"""Memory and thread placement is read only on machines with several NUMA nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nano_init.evidence.report.locality import Locality, add_up_pages
from nano_init.machine.facts import Node

NODES = (Node(0, (0, 1)), Node(2, (4, 5)), Node(3, ()))

# As Linux writes them: a huge page counts as 2 MB, and a file name may contain anything.
MAPS = """\
55d0c8a00000 default file=/usr/bin/python3.11 mapped=10 N0=8 N2=2 kernelpagesize_kB=4
7f1c20000000 default anon=3 dirty=3 N2=3 kernelpagesize_kB=2048
7f1c30000000 default heap anon=4 dirty=4 N0=4
7f1c40000000 default file=/tmp/N0=9\\040N2=x mapped=1 N3=1 kernelpagesize_kB=4
7ffd00000000 default stack
"""


def write(root: Path, text: str) -> None:
    (root / "proc/7").mkdir(parents=True, exist_ok=True)
    (root / "proc/7/numa_maps").write_text(text)


def test_pages_are_weighted_by_their_size() -> None:
    assert add_up_pages(MAPS) == {0: 48, 2: 8 + 3 * 2048, 3: 4}
    assert add_up_pages("") == add_up_pages("nonsense N= N0=-1 Nx=1 N0=\xb2") == {}


def test_memory_and_work_are_given_per_node(tmp_path: Path) -> None:
    write(tmp_path, "7f0000000000 default anon=4 N0=3 N2=1 kernelpagesize_kB=4\n")
    locality = Locality(NODES)
    locality.look(7, str(tmp_path))
    assert locality.shares({0: 2, 5: 6}) == {0: (0.75, 0.25), 2: (0.25, 0.75), 3: (0.0, 0.0)}
    assert locality.shares({}) == {0: (0.75, 0.0), 2: (0.25, 0.0), 3: (0.0, 0.0)}


@pytest.mark.parametrize("nodes", [(), NODES[:1]])
def test_a_single_node_gives_no_shares(tmp_path: Path, nodes: tuple[Node, ...]) -> None:
    write(tmp_path, MAPS)
    locality = Locality(nodes)
    locality.look(7, str(tmp_path))
    assert locality.shares({0: 1}) == {}


def test_without_numa_maps_there_are_no_shares(tmp_path: Path) -> None:
    locality = Locality(NODES)
    locality.look(7, str(tmp_path))
    assert locality.shares({0: 1}) == {}


def test_readings_become_rarer_and_the_last_one_counts(tmp_path: Path) -> None:
    """The map of an exiting process is empty and does not count."""
    locality = Locality(NODES)
    seen = []
    for number in range(1, 9):
        write(tmp_path, f"7f0000000000 default N0={number}\n" if number < 8 else "")
        locality.look(7, str(tmp_path))
        seen.append(locality.kilobytes[0] // 4)
    assert seen == [1, 2, 2, 4, 4, 4, 4, 4]
