"""Made-up machines: folders that replace "/"."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"


@pytest.fixture
def make_root(tmp_path):
    """Return a function that writes files, given as path to text, under a new root."""

    def make(files, name="root"):
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for path, text in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(root)

    return make


@pytest.fixture
def server():
    """Return a function that describes a server as path to text.

    Hardware threads are numbered as Linux does on x86: first the first thread of every core,
    then their siblings.
    """

    def describe(cores=4, smt=1, sockets=1, nodes=1, flags="lm sse4_1 avx avx2", **extra):
        threads = cores * smt
        files = {
            "proc/cpuinfo": "\n".join(
                f"processor\t: {cpu}\nvendor_id\t: GenuineIntel\nmodel name\t: Made up\n"
                f"flags\t\t: {flags}\n"
                for cpu in range(threads)
            ),
            f"{CPU}/online": f"0-{threads - 1}\n",
            f"{CPU}/present": f"0-{threads - 1}\n",
            f"{NODE}/online": f"0-{nodes - 1}\n",
        }

        def members(part, parts):
            first, last = part * cores // parts, (part + 1) * cores // parts - 1
            return ",".join(f"{first + n * cores}-{last + n * cores}" for n in range(smt))

        for node in range(nodes):
            files[f"{NODE}/node{node}/cpulist"] = members(node, nodes)
        for cpu in range(threads):
            core = cpu % cores
            topology = f"{CPU}/cpu{cpu}/topology"
            socket = core * sockets // cores
            siblings = ",".join(str(core + n * cores) for n in range(smt))
            files[f"{topology}/core_cpus_list"] = siblings + "\n"
            files[f"{topology}/physical_package_id"] = f"{socket}\n"
            files[f"{topology}/package_cpus_list"] = members(socket, sockets) + "\n"
        return {**files, **extra}

    return describe


@pytest.fixture(scope="session")
def machines():
    """Return the folder with recorded machines; skip the test if there is none."""
    beside = Path(__file__).parents[2].parent / "shared" / "machines"
    folder = Path(os.environ.get("NANO_INIT_MACHINES", beside))
    if not (folder / "expected.json").is_file():
        pytest.skip(f"no recorded machines in {folder}; NANO_INIT_MACHINES may name another folder")
    return folder
