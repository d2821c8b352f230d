"""Start a command that can read all files but change none: writes go to scratch space.

    python -I -S isolation_main.py STATUS_FD SCRATCH MEGABYTES COMMAND [ARGS]...

The command runs in its own mount namespace, where each folder is an overlay with a tmpfs as upper
layer. The tmpfs vanishes when the last process of the command ends. File systems that cannot be
overlaid are read-only. Paths, the working directory and the user stay the same. An unprivileged
user needs a user namespace for this (user_namespaces(7), overlayfs of Linux 5.11). If the kernel
or a container's seccomp filter forbids it, nothing is started, and one sentence says so.

It is a separate program that uses the standard library only, because it runs before the command
does, and because the caller itself must not enter the namespace.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "forbid_writing",
    "isolate",
    "main",
    "parse_mounts",
]

# The start of the command in seconds of the monotonic clock.
_STARTED_VARIABLE = "NANO_INIT_WATCH_STARTED"

_PRELOAD_VARIABLE = "NANO_INIT_WATCH_PRELOAD"

REFUSED = 125

# sched.h and sys/mount.h of Linux.
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC = 1, 32, 4096, 16384
_MS_PRIVATE, _MS_RELATIME = 1 << 18, 1 << 21
_ST_RELATIME = 4096
_PR_SET_PDEATHSIG = 1
# Mount flags that an unprivileged user may not remove. ro, nosuid, nodev, noexec, noatime and
# nodiratime have the same bits in statvfs(3) as in mount(2).
_ST_SAME = 1 | 2 | 4 | 8 | 1024 | 2048

# The kernel's own file systems, which hold no user files and must not be covered.
_KERNEL = frozenset(
    [
        *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts"),
        *("devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore"),
        *("rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs"),
    ]
)


def main(argv: Sequence[str]) -> int:
    """Isolate this process and execute the command; on failure write why to the status fd."""
    status, scratch, megabytes, *command = argv
    try:
        isolate(scratch, int(megabytes))
    except OSError as error:
        os.write(int(status), f"{error.strerror} ({error.filename})".encode())
        return REFUSED
    # The command must not outlive the process that measures it, even if that is killed (prctl(2)).
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 9)
    if _PRELOAD_VARIABLE in os.environ:
        os.environ["LD_PRELOAD"] = os.environ.pop(_PRELOAD_VARIABLE)
    os.environ[_STARTED_VARIABLE] = repr(time.monotonic())
    os.execv(command[0], command)
    return None


def isolate(scratch: str, megabytes: int) -> None:
    """Mount an overlay on every folder that this process sees.

    Args:
        scratch: an empty folder to mount the tmpfs of the upper layers on.
        megabytes: the maximum amount of data that may be written.

    Raises:
        OSError: the kernel does not permit it; the process must not go on.
    """
    cwd = os.getcwd()
    mounts = list(parse_mounts("/proc/self/mountinfo"))
    privileged = _enter_namespaces()
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    # Opened first, because an overlay hides the mounts below it.
    own = [] if privileged else _own_folders((cwd, os.environ.get("HOME", "/")))
    folders = [(path, os.open(path, os.O_PATH)) for path in (*_folders(mounts), *own)]
    _mount("tmpfs", scratch, "tmpfs", 0, f"size={megabytes}m,mode=0700")
    upper = os.open(scratch, os.O_PATH)
    covered = {p for p, fd in folders if _overlay(p, fd, upper, privileged=privileged)}
    for path, kind in mounts:
        if path not in covered and kind not in _KERNEL:
            _make_read_only(path)
    for _, fd in folders:
        os.close(fd)
    os.close(upper)
    os.chdir(cwd)


def forbid_writing(scratch: str) -> None:
    """Make every file that this process sees read-only, except temporary ones.

    A child process can still `isolate` itself, and then write.

    Args:
        scratch: an empty folder to mount a tmpfs on, for temporary files.

    Raises:
        OSError: the kernel does not permit it.
    """
    mounts = list(parse_mounts("/proc/self/mountinfo"))
    _enter_namespaces()
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    for path, kind in mounts:
        if kind not in _KERNEL:
            _make_read_only(path)
    _mount("tmpfs", scratch, "tmpfs", 0, "size=64m,mode=0700")


def parse_mounts(path: str) -> Iterator[tuple[str, str]]:
    """Return the mount points and types of file systems in /proc/self/mountinfo (proc(5)).

    Args:
        path: the file.
    """
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            if right:
                point = left.split(" ")[4]
                for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
                    point = point.replace(f"\\{code}", character)
                yield point, right.split(" ")[0]


def _enter_namespaces() -> bool:
    """Enter a mount namespace; return whether that worked without a user namespace."""
    if os.geteuid() == 0 and _unshare(_CLONE_NEWNS):
        return True
    uid, gid = os.geteuid(), os.getegid()
    if not _unshare(_CLONE_NEWUSER | _CLONE_NEWNS):
        raise _error("user and mount namespaces")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    return False


def _folders(mounts: Sequence[tuple[str, str]]) -> list[str]:
    """Return the folders to overlay, parents first: those in the root folder, and other mounts."""
    points = [point for point, _ in mounts]
    below_root = [entry.path for entry in os.scandir("/") if entry.is_dir(follow_symlinks=False)]
    return [
        *(path for path in below_root if path not in points),
        *dict.fromkeys(
            point
            for point, kind in mounts
            if point != "/" and kind not in _KERNEL and os.path.isdir(point)
        ),
    ]


def _own_folders(paths: Iterable[str]) -> list[str]:
    """Return the topmost folders on the way to some paths that this user owns, parents first.

    In a user namespace another user's folder cannot be copied to an upper layer, so a write
    below it would fail. The root of an overlay needs no copy.
    """
    found = []
    for path in filter(os.path.isdir, paths):
        chain = [path]
        while chain[0] != os.path.dirname(chain[0]):
            chain.insert(0, os.path.dirname(chain[0]))
        owned = [each for each in chain[1:] if os.stat(each).st_uid == os.geteuid()]
        found.append(owned[0] if owned else path)
    return sorted({path for path in found if path != "/"}, key=len)


def _overlay(path: str, fd: int, scratch: int, *, privileged: bool) -> bool:
    layers = [f"/proc/self/fd/{scratch}/{name}{fd}" for name in ("upper", "work")]
    for layer in layers:
        os.mkdir(layer)
    os.chmod(layers[0], os.fstat(fd).st_mode & 0o7777)
    options = f"lowerdir=/proc/self/fd/{fd},upperdir={layers[0]},workdir={layers[1]}"
    # Renaming a folder of a lower layer needs a redirect, which an unprivileged user may not set.
    # The rename then fails with EXDEV, as between file systems.
    options += ",redirect_dir=on" if privileged else ",userxattr"
    try:
        _mount("overlay", path, "overlay", 0, options)
    except OSError:
        return False  # a file system that cannot be a lower layer becomes read-only
    return True


def _make_read_only(path: str) -> None:
    try:
        flags = os.statvfs(path).f_flag
    except OSError:
        return  # hidden by an overlay, or not visible to this user
    kept = flags & _ST_SAME | (_MS_RELATIME if flags & _ST_RELATIME else 0)
    try:
        _mount(None, path, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)
    except OSError:
        if os.access(path, os.W_OK) and not os.path.ismount(path):
            return  # hidden: the path now leads to an overlay
        raise


def _unshare(flags: int) -> bool:
    return bool(ctypes.CDLL(None, use_errno=True).unshare(flags) == 0)


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    texts = [
        None if text is None else os.fsencode(text) for text in (source, target, kind, options)
    ]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]):
        raise _error(target)


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
