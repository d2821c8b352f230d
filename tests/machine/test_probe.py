"""The probe answers from the files it can read, and reports those it cannot."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import nano_init
from nano_init.errors import RecordingError
from nano_init.machine.probe import probe, probe_with_log

CPU = "sys/devices/system/cpu"


def test_a_missing_root_is_rejected(tmp_path):
    with pytest.raises(RecordingError, match="missing does not exist"):
        probe(str(tmp_path / "missing"))


def test_a_root_without_a_machine_is_rejected_in_one_sentence(tmp_path):
    (tmp_path / "letters").mkdir()

    with pytest.raises(RecordingError, match="is not a recorded machine") as caught:
        probe(str(tmp_path))

    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_an_archive_is_rejected(tmp_path):
    path = tmp_path / "machine.tar.gz"
    path.write_text("no archive")

    with pytest.raises(RecordingError, match="is not a recording"):
        probe(str(path))


def test_a_folder_with_only_a_cpuinfo_is_a_machine(make_root):
    machine = probe(make_root({"cpuinfo": "processor: 3\nvendor_id: X\nflags: lm avx\n"}), {})

    assert machine.isa.flags == {"lm", "avx"}
    assert machine.limits.affinity == (3,)


def test_an_empty_recording_is_one_processor(make_root):
    machine = probe(make_root({"proc/nothing": ""}), {})

    assert machine.topology.online == machine.limits.affinity == (0,)
    assert machine.warnings == ()


def test_a_folder_in_place_of_a_file_is_reported(make_root, server):
    root = make_root(server() | {"proc/self/status/x": "", f"{CPU}/isolated/x": ""})

    machine = probe(root, {})

    assert len(machine.topology.cores) == 4
    assert any("proc/self/status is ignored: it is a folder" in w for w in machine.warnings)
    assert any("isolated" in w for w in machine.warnings)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_reported(make_root, server):
    root = make_root(server() | {"proc/self/status": "Cpus_allowed_list: 0"})
    os.chmod(f"{root}/proc/self/status", 0)

    machine = probe(root, {})

    assert machine.limits.affinity == (0, 1, 2, 3)
    assert any("proc/self/status is ignored: permission denied" in w for w in machine.warnings)


def test_a_pipe_in_place_of_a_file_does_not_block_the_probe(make_root, server):
    root = make_root(server())
    os.mkfifo(f"{root}/proc/meminfo")

    assert len(probe(root, {}).topology.cores) == 4


def test_links_that_lead_out_of_a_recording_are_not_followed(make_root, server, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("Cpus_allowed_list: 0\n")
    root = make_root(server())
    os.makedirs(f"{root}/proc/self", exist_ok=True)
    os.symlink(secret, f"{root}/proc/self/status")

    machine = probe(root, {})

    assert machine.limits.affinity == (0, 1, 2, 3)
    assert any("leads out of the recording" in warning for warning in machine.warnings)


def test_links_within_a_recording_are_followed(make_root, server):
    root = make_root(server() | {f"{CPU}/cpufreq/policy0/x": ""})
    for cpu, speed in enumerate([5000, 5000, 3000, 3000]):
        os.makedirs(f"{root}/{CPU}/cpufreq/policy{cpu}", exist_ok=True)
        with open(f"{root}/{CPU}/cpufreq/policy{cpu}/cpuinfo_max_freq", "w") as file:
            file.write(f"{speed}")
        os.symlink(f"../cpufreq/policy{cpu}", f"{root}/{CPU}/cpu{cpu}/cpufreq")

    assert probe(root, {}).topology.hybrid


def test_the_root_may_end_with_a_slash_or_be_relative(make_root, server, monkeypatch):
    root = make_root(server())
    monkeypatch.chdir(os.path.dirname(root))

    assert probe(root + "/", {}) == probe("root", {}) == probe(root, {})


def test_the_log_contains_the_text_of_each_source(make_root, server):
    _, log = probe_with_log(make_root(server()), {})

    assert log[f"{CPU}/online"] == "0-3"
    assert log["proc/self/status"] is None


def test_a_recorded_amx_refusal_is_replayed(make_root):
    flags = (
        "lm sse4_1 avx avx2 avx512f avx512bw avx512vl avx512dq avx_vnni avx512_vnni avx512_bf16 "
        "avx512_fp16 amx_tile amx_int8 amx_bf16"
    )
    files = {"proc/cpuinfo": f"processor: 0\nvendor_id: GenuineIntel\nflags: {flags}\n"}

    granted = probe(make_root(files), {}).isa
    denied = probe(make_root(files | {"nano_init/xcomp_supp": "errno 1"}), {}).isa

    assert granted.bf16 == "amx"
    assert denied.bf16 == "avx512"
    assert "Operation not permitted" in (denied.amx_denied or "")


PROBE_ALONE = """
import sys
sys.path.insert(0, {folder!r})
before = set(sys.modules)
processes = ("subprocess.Popen", "os.fork", "os.exec", "os.posix_spawn", "os.system")
sys.addaudithook(lambda event, _: print(event) if event in processes else None)
from nano_init.machine.probe import probe
machine = probe()
slow = {{"click", "psutil", "cpuinfo", "pathlib", "typing", "json", "subprocess", "tarfile"}}
if "amx_tile" not in machine.isa.flags:
    slow.add("ctypes")
print(sorted(slow & (set(sys.modules) - before)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc to read")
def test_the_probe_imports_nothing_slow_and_starts_no_process():
    """It runs before every script and in every new shell."""
    folder = os.path.dirname(os.path.dirname(nano_init.__file__))
    code = PROBE_ALONE.format(folder=folder)

    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("[]\n", "")
