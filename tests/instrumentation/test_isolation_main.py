"""A sampled script sees all files and changes none of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nano_init.evidence.sampling.isolated_command import isolated_command, postpone_preload
from nano_init.instrumentation import isolation_main
from nano_init.instrumentation.isolation_main import parse_mounts

WRITER = """
import os, pathlib, shutil, sys
here, away = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
assert pathlib.Path.cwd() == here, pathlib.Path.cwd()
assert (here / "old.txt").read_text() == "old"
(here / "old.txt").write_text("changed")
assert pathlib.Path("old.txt").read_text() == "changed"
(here / "new").mkdir()
(here / "new" / "file").write_text("x")
os.rename("folder", "renamed")
shutil.rmtree("doomed")
(away / "absolute.txt").write_text("x")
os.link("old.txt", "hard") if hasattr(os, "link") else None
os.utime("old.txt", (0, 0))
print(os.getuid(), sorted(os.listdir()))
"""


def isolated(
    tmp_path: Path, *command: str, cwd: Path, megabytes: int = 50
) -> subprocess.CompletedProcess[str]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    result = subprocess.run(
        isolated_command(command, 2, str(scratch), megabytes),
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert list(scratch.iterdir()) == []
    if result.returncode == isolation_main.REFUSED:
        pytest.skip(f"this system permits no mount namespace: {result.stderr}")
    return result


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project with blank"
    for folder in ("folder", "doomed"):
        (project / folder).mkdir(parents=True)
        (project / folder / "file").write_text("kept")
    (project / "old.txt").write_text("old")
    return project


def snapshot(folder: Path) -> dict[str, object]:
    return {
        str(path): (path.stat().st_mtime_ns, path.is_file() and path.read_text())
        for path in sorted(folder.rglob("*"))
    }


def test_no_write_of_any_kind_reaches_the_files(tmp_path: Path, project: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    before = snapshot(tmp_path)
    result = isolated(tmp_path, sys.executable, "-c", WRITER, str(project), str(away), cwd=project)
    assert (result.stderr, result.returncode) == ("", 0)
    assert result.stdout.startswith(f"{os.getuid()} ['hard', 'new', 'old.txt', 'renamed']")
    (tmp_path / "scratch").rmdir()
    assert snapshot(tmp_path) == before


def test_a_write_beyond_the_size_limit_fails(tmp_path: Path, project: Path) -> None:
    code = "open('big', 'wb').write(bytes(20 * 2**20))"
    result = isolated(tmp_path, sys.executable, "-c", code, cwd=project, megabytes=10)
    assert "No space left on device" in result.stderr
    assert not (project / "big").exists()


def test_a_refusal_is_reported_and_starts_nothing(tmp_path: Path) -> None:
    """A missing mount point provokes the refusal."""
    result = subprocess.run(
        [
            *(sys.executable, "-I", "-S", isolation_main.__file__, "1", str(tmp_path / "no"), "10"),
            *("/bin/sh", "-c", "echo ran"),
        ],
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == isolation_main.REFUSED
    assert "ran" not in result.stdout
    assert result.stdout.endswith(")")


def test_an_ordinary_user_is_isolated_by_a_user_namespace(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("the other tests run as an ordinary user here")
    # Read before the change of user: the new user may not open this user's folders.
    code = Path(isolation_main.__file__).read_text()
    script = (
        "import __future__, ctypes, os, sys, tempfile, time\n"
        "code = compile(sys.stdin.read(), 'isolation', 'exec')\n"
        "os.setgroups([]); os.setgid(12345); os.setuid(12345)\n"
        "ctypes.CDLL(None).prctl(4, 1)\n"  # PR_SET_DUMPABLE, as for a newly executed program
        "home, scratch = tempfile.mkdtemp(), tempfile.mkdtemp()\n"
        "os.chdir(home); open('old', 'w').write('old')\n"
        "command = ['/bin/sh', '-c', 'echo new > old; cat old; id -u']\n"
        "if os.fork() == 0:\n"
        "    exec(code, names := {'__name__': 'isolation'})\n"
        "    os._exit(names['main'](['1', scratch, '10', *command]))\n"
        "status = os.waitstatus_to_exitcode(os.wait()[1])\n"
        "print(open('old').read(), status)\n"
        "os.remove('old'); os.rmdir(home); os.rmdir(scratch)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        input=code,
        cwd="/",
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if result.stdout.endswith(f" {isolation_main.REFUSED}\n"):
        pytest.skip(f"this system permits no user namespace: {result.stdout}")
    assert (result.stdout, result.stderr) == ("new\n12345\nold 0\n", "")


def test_preloaded_libraries_are_loaded_only_into_the_command(tmp_path: Path) -> None:
    """A process in which a library has started a thread cannot enter a user namespace."""
    (tmp_path / "scratch").mkdir()
    environ = {"LD_PRELOAD": "/no/such/library.so", "OTHER": "kept"}
    command = ("/bin/sh", "-c", "echo $LD_PRELOAD $OTHER")
    result = subprocess.run(
        isolated_command(command, 1, str(tmp_path / "scratch"), 10),
        env=postpone_preload(environ),
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if result.returncode == isolation_main.REFUSED:
        pytest.skip(f"this system permits no mount namespace: {result.stdout}")
    assert result.stdout == "/no/such/library.so kept\n"
    # The loader prints an error for each program that it loads with the library.
    assert {line.partition(":")[0] for line in result.stderr.splitlines()} <= {"ERROR", "/bin/sh"}
    assert result.stderr.count("/no/such/library.so") == 1


@pytest.mark.parametrize("is_ordinary", [False, True])
def test_a_write_protected_process_forks_an_isolated_one(tmp_path: Path, is_ordinary: bool) -> None:
    if is_ordinary and os.getuid() != 0:
        pytest.skip("the other test runs as an ordinary user here")
    script = (
        "import __future__, ctypes, os, sys, tempfile, time\n"
        "code = compile(sys.stdin.read(), 'isolation', 'exec')\n"
        "if sys.argv[1] == 'True':\n"
        "    os.setgroups([]); os.setgid(12345); os.setuid(12345)\n"
        "    ctypes.CDLL(None).prctl(4, 1)\n"
        "home, scratch, temporary = (tempfile.mkdtemp() for _ in range(3))\n"
        "os.chdir(home); open('old', 'w').write('old')\n"
        "def act():\n"
        "    exec(code, names := {'__name__': 'isolation'})\n"
        "    try: names['forbid_writing'](temporary)\n"
        "    except OSError as error: print('refused', error); return\n"
        "    try: open('old', 'a').write('never')\n"
        "    except OSError as error: print(error.strerror, flush=True)\n"
        "    open(os.path.join(temporary, 'file'), 'w').write('x')\n"
        "    if os.fork() == 0:\n"
        "        names['isolate'](scratch, 10)\n"
        "        open('old', 'w').write('new'); print(open('old').read(), flush=True); return\n"
        "    os.wait()\n"
        "if os.fork() == 0: act(); sys.stdout.flush(); os._exit(0)\n"
        "os.wait()\n"
        "print(open('old').read(), os.listdir(temporary), os.listdir(scratch))\n"
        "os.remove('old'); [os.rmdir(each) for each in (home, scratch, temporary)]\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(is_ordinary)],
        input=Path(isolation_main.__file__).read_text(),
        cwd="/",
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if "refused" in result.stdout:
        pytest.skip(f"this system permits no namespace: {result.stdout}")
    assert result.stderr == ""
    assert result.stdout.splitlines() == ["Read-only file system", "new", "old [] []"]


def test_mount_points_are_unescaped(tmp_path: Path) -> None:
    file = tmp_path / "mountinfo"
    file.write_text(
        "36 35 98:0 /mnt1 /mnt/a\\040b rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
        "37 35 0:4 / /proc rw shared:5 - proc proc rw\n"
        "nonsense\n"
    )
    assert list(parse_mounts(str(file))) == [("/mnt/a b", "ext3"), ("/proc", "proc")]
