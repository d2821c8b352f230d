"""Record what the probe reads of a machine, so that its answers can be had elsewhere.

A recording is a FILE.tar.gz with the files that the probe looked at, under their own paths,
and of these only what it uses: no serial numbers, no mounts but cgroups, no names of users,
jobs or containers (cgroup names become g1, g2, …).
"""

from __future__ import annotations

import os
import sys

from nano_init.errors import RecordingError
from nano_init.machine.cgroup import parse_membership, parse_mountinfo
from nano_init.machine.cpuinfo import RELEVANT_FIELDS
from nano_init.machine.probe import probe_with_reader
from nano_init.machine.xfeatures import RECORDED_ANSWER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nano_init.machine.reader import Reader

__all__ = ["record", "select_contents"]

_CGROUP_MOUNTS = "sys/fs/cgroup"


def record(path: str, root: str = "/", force: bool = False) -> None:
    """Write a recording of the machine.

    Args:
        path: the file to write, FILE.tar.gz.
        root: the folder that stands for "/".
        force: overwrite a file that exists.

    Raises:
        RecordingError: the file exists or cannot be written, or the root is not a machine;
            or this system is not Linux.
    """
    if not force and os.path.lexists(path):
        raise RecordingError(f"{path} already exists; --force overwrites it")
    if root == "/" and not sys.platform.startswith("linux"):
        raise RecordingError(f"{sys.platform} has no /proc and /sys to record")
    _, reader = probe_with_reader(root, {})
    contents = select_contents(reader)
    partial = f"{path}.{os.getpid()}.partial"
    try:
        _write_archive(partial, contents, _list_folders(reader))
        _put_in_place(partial, path, force=force)
    except RecordingError:
        raise
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if os.path.lexists(partial):
            os.unlink(partial)


def select_contents(reader: Reader) -> dict[str, str]:
    """Return the files of a recording: path to text, with all that is private taken out.

    Args:
        reader: a reader with which a machine was probed.
    """
    rename = _Renaming(reader.log)
    contents = {}
    for path, said in reader.log.items():
        if said is None or "(" in path:
            continue
        select = _SELECTIONS.get(path)
        contents[rename.file(path)] = select(said) if select else said
    contents.update(rename.files())
    if reader.live:
        contents["proc/sys/kernel/arch"] = os.uname().machine
        allowed = reader.log.get("sched_getaffinity(0)")
        status = contents.get("proc/self/status", "")
        if allowed and "Cpus_allowed_list" not in status:
            contents["proc/self/status"] = f"Cpus_allowed_list:\t{allowed}\n{status}"
        answer = reader.log.get("arch_prctl(ARCH_GET_XCOMP_SUPP)")
        if answer:
            contents[RECORDED_ANSWER] = answer
    return contents


def _write_archive(path: str, contents: Mapping[str, str], folders: list[str]) -> None:
    import io
    import tarfile

    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    # The names and numbers of the user stay out: a TarInfo of its own has none.
    with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for folder in folders:
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
        for name, text in sorted(contents.items()):
            data = f"{text}\n".encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _put_in_place(partial: str, path: str, *, force: bool) -> None:
    if force:
        os.replace(partial, path)
        return
    try:
        # Unlike a rename, creating fails if the file exists by now.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError as error:
        raise RecordingError(f"{path} already exists; --force overwrites it") from error
    os.replace(partial, path)


def _list_folders(reader: Reader) -> list[str]:
    """Return the numbered folders that the probe listed: they are answers by being there."""
    return sorted(f"{folder}/{name}" for folder, names in reader.listed.items() for name in names)


class _Renaming:
    """Cgroup paths with g1, g2, … for each name in them.

    Prefixes stay prefixes, so the way from the leaf to the mount's root is the same.
    """

    def __init__(self, log: Mapping[str, str | None]) -> None:
        self._names: dict[str, str] = {}
        self._membership = parse_membership(log.get("proc/self/cgroup") or "")
        self._has_membership = log.get("proc/self/cgroup") is not None
        self._has_mounts = log.get("proc/self/mountinfo") is not None
        self._mounts = parse_mountinfo(log.get("proc/self/mountinfo") or "")
        self._points: dict[str, str] = {}
        for mount in self._mounts:
            is_usual = f"{mount.point}/".startswith(f"/{_CGROUP_MOUNTS}/")
            unusual = f"/mnt/cgroup{len(self._points) + 1}"
            self._points.setdefault(mount.point, mount.point if is_usual else unusual)

    def path(self, path: str) -> str:
        """Return a cgroup path with other names."""
        return "/".join(
            name
            if name in ("", ".", "..")
            else self._names.setdefault(name, f"g{len(self._names) + 1}")
            for name in path.split("/")
        )

    def file(self, path: str) -> str:
        """Return the path of a file; only cgroups' own change."""
        # Mounts may be nested: the innermost one holds the file.
        for mount in sorted(self._mounts, key=lambda mount: -len(mount.point)):
            top = mount.point.strip("/")
            if path.startswith(f"{top}/"):
                folder, _, name = path[len(top) + 1 :].rpartition("/")
                new_top = self._points[mount.point].strip("/")
                return "/".join(part for part in (new_top, self.path(folder), name) if part)
        if path.startswith(f"{_CGROUP_MOUNTS}/") and not self._has_mounts:
            return self._customary_file(path)
        return path

    def _customary_file(self, path: str) -> str:
        folder, _, name = path[len(_CGROUP_MOUNTS) + 1 :].rpartition("/")
        first, _, rest = folder.partition("/")
        if first in ("cpu,cpuacct", "cpu", "memory", "cpuset"):
            below = f"{first}/{self.path(rest)}".rstrip("/")
        else:
            below = self.path(folder)
        return "/".join(part for part in (_CGROUP_MOUNTS, below, name) if part)

    def files(self) -> dict[str, str]:
        """Return /proc/self/cgroup and /proc/self/mountinfo with other names."""
        files = {}
        if self._has_membership:
            files["proc/self/cgroup"] = "\n".join(
                f"{number}:{controller}:{self.path(path)}"
                for number, (controller, path) in enumerate(self._membership.items())
                if "=" not in controller
            )
        if self._has_mounts:
            files["proc/self/mountinfo"] = "\n".join(
                f"{number} 0 0:{number} {self.path(mount.root)} {self._points[mount.point]} rw - "
                + (
                    "cgroup2 cgroup2 rw"
                    if mount.version == 2
                    else f"cgroup cgroup rw,{','.join(sorted(mount.controllers))}"
                )
                for number, mount in enumerate(self._mounts)
            )
        return files


def _keep_lines(*keys: str) -> Callable[[str], str]:
    def select(text: str) -> str:
        lines = text.split("\n")
        return "\n".join(line for line in lines if line.partition(":")[0].strip() in keys)

    return select


def _select_cpuinfo(text: str) -> str:
    return "\n".join(
        line
        for line in text.split("\n")
        if not line.strip() or line.partition(":")[0].strip() in RELEVANT_FIELDS
    ).strip("\n")


def _select_cmdline(text: str) -> str:
    return " ".join(word for word in text.split() if word.startswith("isolcpus="))


def _select_stat(text: str) -> str:
    lines = (line for line in text.split("\n") if line.startswith("cpu"))
    return "\n".join(line.partition(" ")[0] + " 0" for line in lines)


_SELECTIONS: dict[str, Callable[[str], str]] = {
    "cpuinfo": _select_cpuinfo,
    "proc/cpuinfo": _select_cpuinfo,
    "proc/self/status": _keep_lines("Cpus_allowed_list", "Mems_allowed_list"),
    "proc/meminfo": _keep_lines("MemTotal"),
    "proc/cmdline": _select_cmdline,
    "proc/stat": _select_stat,
}
