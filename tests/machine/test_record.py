"""A recording replays to the same answers and contains nothing private."""

from __future__ import annotations

import os
import sys
import tarfile

import pytest

from nano_init.errors import RecordingError
from nano_init.machine.archive import extracted
from nano_init.machine.probe import probe
from nano_init.machine.record import record

CPU = "sys/devices/system/cpu"

PRIVATE = {
    "proc/cpuinfo": (
        "processor\t: 0\nFeatures\t: fp bf16\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n"
        "CPU architecture: 8\n\n"
        "processor\t: 1\nFeatures\t: fp bf16\n\n"
        "Hardware\t: SECRET board\nSerial\t\t: SECRET0123\n"
    ),
    "proc/self/status": "Name:\tSECRET\nUid:\t4242\nCpus_allowed_list:\t1\nMems_allowed_list:\t0\n",
    "proc/meminfo": "MemTotal: 4096 kB\nMemFree: 1234 kB\n",
    "proc/cmdline": "root=UUID=SECRET isolcpus=1 password=SECRET",
    "proc/self/cgroup": "0::/user.slice/SECRET-job/inner\n",
    "proc/self/mountinfo": (
        "1 2 3:4 / /home/SECRET rw - nfs SECRET:/home rw\n"
        "31 23 0:27 /user.slice /sys/fs/cgroup rw - cgroup2 SECRET rw\n"
        "32 23 0:28 / /mnt/SECRET rw - cgroup cgroup rw,memory,release_agent=/SECRET\n"
    ),
    "sys/fs/cgroup/SECRET-job/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/SECRET-job/inner/cpu.max": "max 100000\n",
    f"{CPU}/online": "0-1\n",
}


def text_of(path):
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        return "".join(
            f"{m.name} {m.uname} {m.uid}\n"
            + (archive.extractfile(m).read().decode() if m.isfile() else "")
            for m in members
        )


def test_recording_replays_to_the_same_machine(make_root, server, tmp_path):
    root = make_root(server(cores=4, smt=2, sockets=2, nodes=2) | {f"{CPU}/cpu0/cpu_capacity": "1"})
    path = str(tmp_path / "machine.tar.gz")

    record(path, root)

    assert probe(path, {}) == probe(root, {})


def test_an_unpacked_recording_replays_to_the_same_machine(make_root, server, tmp_path):
    root = make_root(server(cores=2))
    path = str(tmp_path / "machine.tar.gz")
    record(path, root)

    with extracted(path) as folder:
        assert probe(folder, {}) == probe(root, {})


def test_a_recording_of_a_recording_has_the_same_contents(make_root, server, tmp_path):
    first, second = str(tmp_path / "1.tar.gz"), str(tmp_path / "2.tar.gz")
    root = make_root(server(cores=2) | PRIVATE)
    record(first, root)
    with extracted(first) as folder:
        record(second, folder)

    assert text_of(second) == text_of(first)


def test_nothing_private_is_recorded_but_the_limits_are(make_root, tmp_path):
    root = make_root(PRIVATE)
    path = str(tmp_path / "machine.tar.gz")

    record(path, root)

    assert "SECRET" not in text_of(path)
    assert "4242" not in text_of(path)
    machine, replayed = probe(root, {}), probe(path, {})
    assert replayed.isa == machine.isa
    assert replayed.limits.cpu_quota == machine.limits.cpu_quota == 1.5
    assert replayed.limits.affinity == (1,)
    assert replayed.limits.memory_nodes == (0,)


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc to record")
def test_this_machine_replays_to_the_same_answers(tmp_path):
    path = str(tmp_path / "machine.tar.gz")

    record(path)

    here, replayed = probe("/", {}), probe(path, {})
    assert replayed.isa == here.isa
    assert replayed.topology == here.topology
    assert replayed.limits.affinity == here.limits.affinity
    assert replayed.limits.cpu_quota == here.limits.cpu_quota
    assert replayed.limits.memory_bytes == here.limits.memory_bytes


def test_an_existing_file_is_kept_without_force(make_root, server, tmp_path):
    root = make_root(server())
    path = tmp_path / "machine.tar.gz"
    path.write_text("mine")

    with pytest.raises(RecordingError, match="already exists; --force overwrites it"):
        record(str(path), root)
    assert path.read_text() == "mine"

    record(str(path), root, force=True)
    assert len(probe(str(path), {}).topology.cores) == 4


def test_a_missing_folder_is_reported_and_not_created(make_root, tmp_path):
    path = tmp_path / "missing" / "machine.tar.gz"

    with pytest.raises(RecordingError, match="cannot be written: No such file"):
        record(str(path), make_root({"proc/cpuinfo": ""}))

    assert not os.path.exists(path.parent)


def test_a_failed_recording_leaves_no_file(make_root, tmp_path):
    path = tmp_path / "machine.tar.gz"

    with pytest.raises(RecordingError):
        record(str(path), str(tmp_path / "no-machine"))

    assert os.listdir(tmp_path) == []


def _archive_of(path, name, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    return str(path)


def test_a_recording_that_would_write_outside_its_folder_is_rejected(tmp_path):
    path = _archive_of(tmp_path / "evil.tar.gz", "../outside")

    with pytest.raises(RecordingError, match="leads out of it"):
        probe(path)


def test_links_in_a_recording_are_ignored(tmp_path):
    path = _archive_of(tmp_path / "evil.tar.gz", "proc/cpuinfo", tarfile.SYMTYPE)

    with pytest.raises(RecordingError, match="is not a recorded machine"):
        probe(path)


def test_a_truncated_recording_is_rejected(make_root, server, tmp_path):
    path = tmp_path / "machine.tar.gz"
    record(str(path), make_root(server()))
    path.write_bytes(path.read_bytes()[:200])

    with pytest.raises(RecordingError, match="is not a recording"):
        probe(str(path))


def test_a_file_that_is_not_an_archive_is_rejected_in_one_sentence(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no archive at all\n")

    with pytest.raises(RecordingError) as error:
        probe(str(path))

    assert str(error.value) == (
        f"{path} is not a recording: it is not an archive; record one with nano-init --record "
        "FILE.tar.gz"
    )


def test_a_recording_inside_a_folder_is_found(make_root, server, tmp_path):
    root = make_root(server(cores=3), "my-machine")
    path = tmp_path / "wrapped.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(root, "my-machine")

    assert len(probe(str(path), {}).topology.cores) == 3
