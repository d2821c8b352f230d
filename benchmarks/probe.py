"""Measure the CPU time of the probe, on this machine and on a simulated one with 512 threads.

    python benchmarks/probe.py [REPEATS] [--json [FILE]]

Prints a table with the minimum and the median of the CPU time (user and system), with and without
the imports. Each repeat is a separate process, timed from after the interpreter's start.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

from record import Column, Table, add_json_option, format_table, write_record

REPEATS = 15
FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"

# The flags of a server processor of 2023, because their length matters.
FLAGS = " ".join(["lm sse4_1 avx avx2 avx512f avx512bw avx512vl avx512dq avx512_vnni avx512_bf16"])
MORE_FLAGS = " ".join(f"flag_number_{n}" for n in range(120))

CHILD = """
import sys, time
sys.path.insert(0, {folder!r})
start = time.process_time()
from nano_init.machine.probe import probe
imported = time.process_time()
machine = probe({root!r}, {{}})
probed = time.process_time()
print(imported - start, probed - imported, len(machine.topology.online))
"""


def build_server(root: str, sockets: int = 2, cores: int = 256) -> None:
    """Write the files of a server with two threads per core and one cache per eight cores."""
    threads = cores * 2
    write(root, "proc/cpuinfo", "\n".join(describe_thread(cpu, cores) for cpu in range(threads)))
    write(root, "proc/meminfo", "MemTotal: 1583457280 kB\n")
    write(root, "proc/self/status", f"Name:\tpython\nCpus_allowed_list:\t0-{threads - 1}\n")
    write(root, "proc/self/cgroup", "0::/kubepods.slice/pod.slice/container.scope\n")
    mount = "31 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    write(root, "proc/self/mountinfo", mount * 40)
    pod = "sys/fs/cgroup/kubepods.slice/pod.slice"
    write(root, f"{pod}/cpu.max", "1600000 100000\n")
    write(root, f"{CPU}/online", f"0-{threads - 1}\n")
    write(root, f"{NODE}/online", f"0-{sockets - 1}\n")
    for socket in range(sockets):
        write(root, f"{NODE}/node{socket}/cpulist", members(socket, sockets, cores))
        write(root, f"{NODE}/node{socket}/distance", "10 32\n")
    for cpu in range(threads):
        describe_topology(root, cpu, sockets, cores)


def describe_thread(cpu: int, cores: int) -> str:
    """Return a thread's block of /proc/cpuinfo."""
    return (
        f"processor\t: {cpu}\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\n"
        f"model name\t: Made up\nphysical id\t: {cpu % cores * 2 // cores}\n"
        f"flags\t\t: {FLAGS} {MORE_FLAGS}\nbugs\t\t: sysret_ss_attrs spectre_v1\n"
    )


def describe_topology(root: str, cpu: int, sockets: int, cores: int) -> None:
    """Write a thread's folder in /sys."""
    core = cpu % cores
    topology = f"{CPU}/cpu{cpu}/topology"
    package = members(core * sockets // cores, sockets, cores)
    write(root, f"{topology}/core_cpus_list", f"{core},{core + cores}\n")
    write(root, f"{topology}/physical_package_id", f"{core * sockets // cores}\n")
    write(root, f"{topology}/package_cpus_list", package)
    write(root, f"{topology}/die_id", "0\n")
    write(root, f"{topology}/die_cpus_list", package)
    write(root, f"{topology}/cluster_id", f"{core}\n")
    write(root, f"{topology}/cluster_cpus_list", f"{core},{core + cores}\n")
    write(root, f"{CPU}/cpu{cpu}/cpu_capacity", "1024\n")
    write(root, f"{CPU}/cpu{cpu}/acpi_cppc/highest_perf", "196\n")
    write(root, f"{CPU}/cpu{cpu}/cpufreq/cpuinfo_max_freq", "3700000\n")
    for index, level in enumerate((1, 1, 2, 3)):
        cache = f"{CPU}/cpu{cpu}/cache/index{index}"
        shared = members(core // 8, cores // 8, cores) if level == 3 else f"{core},{core + cores}"
        write(root, f"{cache}/level", f"{level}\n")
        write(root, f"{cache}/shared_cpu_list", shared)


def members(part: int, parts: int, cores: int) -> str:
    """Return the threads of one of several equal parts, as a list of processors."""
    first, last = part * cores // parts, (part + 1) * cores // parts - 1
    return f"{first}-{last},{first + cores}-{last + cores}\n"


def write(root: str, path: str, text: str) -> None:
    """Write a file under the root."""
    target = os.path.join(root, path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "w") as file:
        file.write(text)


def measure(root: str, repeats: int) -> list[tuple[float, float, int]]:
    """Return seconds of import, seconds of probe and the number of threads, sorted."""
    code = CHILD.format(folder=FOLDER, root=root)
    results = []
    for _ in range(repeats):
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        imported, probed, threads = out.split()
        results.append((float(probed), float(imported), int(threads)))
    return sorted(results)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repeats", type=int, nargs="?", default=REPEATS)
    add_json_option(parser, "probe")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        two, one = os.path.join(folder, "two"), os.path.join(folder, "one")
        build_server(two, sockets=2)
        build_server(one, sockets=1)
        for name, root in (("this one", "/"), ("two sockets", two), ("one socket", one)):
            results = measure(root, options.repeats)
            median = results[len(results) // 2]
            imports = sorted(result[1] for result in results)[len(results) // 2]
            times = (results[0][0] * 1e3, median[0] * 1e3, imports * 1e3)
            rows.append((name, median[2], *times))
    names = ("probe, least ms", "probe, median ms", "imports, median ms")
    columns = (Column("machine"), Column("threads"), *(Column(each, 1) for each in names))
    table = Table("probe", "Processor time to read a machine", columns, tuple(rows))
    print(format_table(table))
    if options.json:
        write_record(options.json, "probe", [table])


if __name__ == "__main__":
    main()
