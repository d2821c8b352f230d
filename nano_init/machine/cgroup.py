"""Find the control groups of this process and the limits along the way to their root.

Sources: the kernel's `Documentation/admin-guide/cgroup-v2.rst`, `cgroup-v1/memory.rst` and
`Documentation/scheduler/sched-bwc.rst`; proc(5) and proc_pid_mountinfo(5) for the files. As
in the JDK (`cgroupV1Subsystem_linux.cpp`), a path that the mount does not show, because the
group was moved or the namespace hides it, stands for the mount's root.
"""

from __future__ import annotations

from nano_init.frozen import frozen
from nano_init.machine.reader import parse_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    from nano_init.machine.reader import Reader

    _N = TypeVar("_N", int, float)

__all__ = [
    "Folders",
    "Mount",
    "find_folders",
    "parse_membership",
    "parse_mountinfo",
    "read_cpuset",
    "read_memory",
    "read_quota",
]

# The period where cpu.max gives none (cgroup-v2.rst), in microseconds.
_DEFAULT_PERIOD = 100_000
# v1 writes "no limit" as the highest multiple of the page size below 2**63.
_NO_MEMORY_LIMIT = 1 << 62
_CONTROLLERS = frozenset(["cpu", "memory", "cpuset"])

# Where cgroups are by custom; for a recording that has no mountinfo.
_CUSTOMARY = {
    "cpu": ("sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/cpu"),
    "memory": ("sys/fs/cgroup/memory",),
    "cpuset": ("sys/fs/cgroup/cpuset",),
}


@frozen
class Mount:
    """A mounted cgroup hierarchy.

    Args:
        root: the cgroup that the mount point shows.
        point: the mount point.
        version: 1 or 2.
        controllers: the controllers of a v1 hierarchy; empty for v2.
    """

    root: str
    point: str
    version: int = 2
    controllers: frozenset[str] = frozenset()


@frozen
class Folders:
    """The folders of one controller, from this process's own up to the mount's root.

    Args:
        version: 1 or 2.
        paths: the folders below the root, the leaf first.
    """

    version: int
    paths: tuple[str, ...]


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Return the cgroup mounts of /proc/self/mountinfo; lines of another shape are skipped."""
    mounts = []
    for line in text.split("\n"):
        # Any number of optional fields precedes the dash.
        left, _, right = line.partition(" - ")
        if not right.startswith("cgroup"):
            continue
        fields, kind = left.split(" "), right.split(" ")
        if len(fields) < 6 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        root, point = _unescape(fields[3]), _unescape(fields[4])
        if kind[0] == "cgroup2":
            mounts.append(Mount(root, point))
        else:
            controllers = _CONTROLLERS.intersection(kind[-1].split(","))
            mounts.append(Mount(root, point, 1, controllers))
    return tuple(mounts)


def parse_membership(text: str) -> dict[str, str]:
    """Return the cgroup path of each controller in /proc/self/cgroup; "" means v2."""
    paths = {}
    for line in text.split("\n"):
        number, colon, rest = line.partition(":")
        controllers, second_colon, path = rest.partition(":")
        if colon and second_colon and number.isdigit() and path.startswith("/"):
            for controller in controllers.split(","):
                paths[controller] = path
    return paths


def find_folders(reader: Reader, controller: str) -> Folders:
    """Return the folders that limit this process by a controller.

    A controller that v1 has mounted is not available to v2, so v1 comes first.

    Args:
        reader: the files under a root.
        controller: "cpu", "memory" or "cpuset".
    """
    membership = parse_membership(reader.text("proc/self/cgroup") or "")
    mountinfo = reader.text("proc/self/mountinfo")
    if mountinfo is None:
        return _customary_folders(reader, controller, membership)
    mounts = parse_mountinfo(mountinfo)
    for version, name in ((1, controller), (2, "")):
        here = [m for m in mounts if m.version == version and (not name or name in m.controllers)]
        path = membership.get(name) if membership else "/"
        if here and path is not None:
            folder, top = _place(_choose_mount(here, path), path)
            return Folders(version, _climb(folder, top))
    return Folders(2, ())


def read_quota(reader: Reader) -> tuple[float | None, str]:
    """Return the tightest CPU quota, in processors, and the file that sets it.

    Every cgroup on the way to the root limits the process, so the minimum counts.
    """
    folders = find_folders(reader, "cpu")
    read = _read_quota_v1 if folders.version == 1 else _read_quota_v2
    return _tightest(read(reader, folder) for folder in folders.paths)


def read_memory(reader: Reader, total: int | None) -> tuple[int | None, str]:
    """Return the tightest memory limit in bytes, and the file that sets it.

    Args:
        reader: the files under a root.
        total: the memory of the machine in bytes; a limit that is no lower is none. None
            where it is not known.
    """
    folders = find_folders(reader, "memory")
    names = ("memory.limit_in_bytes",) if folders.version == 1 else ("memory.max", "memory.high")
    limits = (_read_bytes(reader, f"{f}/{name}") for f in folders.paths for name in names)
    limit, source = _tightest(limits)
    if limit is None or (total is not None and limit >= total):
        return None, ""
    return limit, source


def read_cpuset(reader: Reader) -> tuple[int, ...]:
    """Return the processors of this process's cpuset, or () where none is known."""
    folders = find_folders(reader, "cpuset")
    names = (
        ("cpuset.effective_cpus", "cpuset.cpus")
        if folders.version == 1
        else ("cpuset.cpus.effective", "cpuset.cpus")
    )
    for folder in folders.paths:
        for name in names:
            cpus = reader.cpus(f"{folder}/{name}")
            if cpus:
                return cpus
    return ()


def _customary_folders(reader: Reader, controller: str, membership: dict[str, str]) -> Folders:
    unified = membership.get("", "/")
    for point in _CUSTOMARY[controller]:
        path = membership.get(controller, "/" if "" not in membership else "")
        folders = _climb(*_place(Mount("/", "/" + point), path))
        if path and any(reader.text(f"{f}/{_V1_FILES[controller]}") for f in folders):
            return Folders(1, folders)
    return Folders(2, _climb(*_place(Mount("/", "/sys/fs/cgroup"), unified)))


_V1_FILES = {
    "cpu": "cpu.cfs_quota_us",
    "memory": "memory.limit_in_bytes",
    "cpuset": "cpuset.cpus",
}


def _choose_mount(mounts: list[Mount], path: str) -> Mount:
    """Return the mount that shows the path, and the customary one of several."""
    showing = [mount for mount in mounts if _shown(mount, path) is not None] or mounts
    customary = [m for m in showing if m.point.startswith("/sys/fs/cgroup")]
    return max(customary or showing, key=lambda mount: len(mount.root))


def _shown(mount: Mount, path: str) -> str | None:
    """Return the path relative to the mount's root, or None where the mount hides it."""
    if ".." in path.split("/") or ".." in mount.root.split("/"):
        return None
    root = mount.root.rstrip("/")
    if path == root or path.startswith(root + "/"):
        return path[len(root) :].strip("/")
    return None


def _place(mount: Mount, path: str) -> tuple[str, str]:
    top = mount.point.strip("/")
    below = _shown(mount, path)
    return (f"{top}/{below}" if below else top), top


def _climb(folder: str, top: str) -> tuple[str, ...]:
    folders = [folder]
    while len(folder) > len(top):
        folder = folder.rpartition("/")[0]
        folders.append(folder)
    return tuple(folders)


def _tightest(limits: Iterable[tuple[_N, str] | None]) -> tuple[_N | None, str]:
    found = [limit for limit in limits if limit is not None]
    if not found:
        return None, ""
    limit, path = min(found, key=lambda limit: limit[0])
    return limit, f"/{path}"


def _read_quota_v2(reader: Reader, folder: str) -> tuple[float, str] | None:
    path = f"{folder}/cpu.max"
    words = (reader.text(path) or "").split() or ["max"]
    if words[0] == "max":
        return None
    try:
        quota = parse_number(words[0])
        period = parse_number(words[1]) if len(words) > 1 else _DEFAULT_PERIOD
    except ValueError as error:
        reader.doubt(path, str(error))
        return None
    return _divide(reader, path, quota, period)


def _read_quota_v1(reader: Reader, folder: str) -> tuple[float, str] | None:
    path = f"{folder}/cpu.cfs_quota_us"
    quota = reader.number(path)
    if quota is None or quota == -1:
        return None
    period = reader.number(f"{folder}/cpu.cfs_period_us")
    return _divide(reader, path, quota, _DEFAULT_PERIOD if period is None else period)


def _divide(reader: Reader, path: str, quota: int, period: int) -> tuple[float, str] | None:
    if quota <= 0 or period <= 0:
        reader.doubt(path, f"a quota of {quota} µs in a period of {period} µs is none")
        return None
    return quota / period, path


def _read_bytes(reader: Reader, path: str) -> tuple[int, str] | None:
    said = reader.text(path)
    if said is None or said == "max":
        return None
    limit = reader.number(path)
    if limit is None or not 0 < limit < _NO_MEMORY_LIMIT:
        return None
    return limit, path


def _unescape(text: str) -> str:
    r"""Return a path of mountinfo with its octal escapes (\040 for a blank) read."""
    head, *pieces = text.split("\\")
    for piece in pieces:
        digits = piece[:3]
        is_octal = len(digits) == 3 and all(d in "01234567" for d in digits)
        head += chr(int(digits, 8)) + piece[3:] if is_octal else "\\" + piece
    return head
