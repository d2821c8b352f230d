"""Quota and memory limit are the lowest from the process's cgroup up to the mount's root."""

from __future__ import annotations

import pytest

from nano_init.machine.cgroup import parse_mountinfo
from nano_init.machine.probe import probe

G = "sys/fs/cgroup"
V2 = "31 23 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
MAX = str(2**63 - 4096)


def v1(root="/", controllers="cpu,cpuacct", point=None):
    return f"3 2 0:3 {root} {point or f'/{G}/{controllers}'} rw - cgroup cgroup rw,{controllers}\n"


def limits_of(make_root, cgroup, mountinfo, files):
    base = {"sys/devices/system/cpu/online": "0-7\n"}
    if cgroup is not None:
        base["proc/self/cgroup"] = cgroup
    if mountinfo is not None:
        base["proc/self/mountinfo"] = mountinfo
    machine = probe(make_root(base | {f"{G}/{path}": text for path, text in files.items()}), {})
    return machine.limits, machine.warnings


def quota_of(make_root, cgroup, mountinfo, files):
    limits, _ = limits_of(make_root, cgroup, mountinfo, files)
    return limits.cpu_quota, limits.cpu_quota_source


def test_v2_quota_is_divided_by_its_period(make_root):
    quota = quota_of(make_root, "0::/a\n", V2, {"a/cpu.max": "150000 100000\n"})

    assert quota == (1.5, "/sys/fs/cgroup/a/cpu.max")


@pytest.mark.parametrize("tight", ["cpu.max", "a/cpu.max", "a/b/cpu.max", "a/b/c/cpu.max"])
def test_v2_quota_is_the_minimum_of_all_levels(make_root, tight):
    files = {f"{folder}cpu.max": "700000 100000\n" for folder in ("", "a/", "a/b/", "a/b/c/")}

    quota = quota_of(make_root, "0::/a/b/c\n", V2, files | {tight: "50000 20000"})

    assert quota == (2.5, f"/sys/fs/cgroup/{tight}")


@pytest.mark.parametrize("text", ["max 100000", "max", "", "\x0b"])
def test_v2_without_a_quota_has_no_limit(make_root, text):
    assert quota_of(make_root, "0::/a\n", V2, {"a/cpu.max": text}) == (None, "")


def test_v2_missing_period_defaults_to_100_ms(make_root):
    assert quota_of(make_root, "0::/\n", V2, {"cpu.max": "300000"})[0] == 3.0


@pytest.mark.parametrize("text", ["100000 0", "0 100000", "-5 100000", "a b", "1 " + "9" * 30, "½"])
def test_an_invalid_quota_is_reported_with_its_file_and_ignored(make_root, text):
    files = {"a/cpu.max": text, "cpu.max": "400000 100000"}

    limits, warnings = limits_of(make_root, "0::/a\n", V2, files)

    assert limits.cpu_quota == 4.0
    assert any("a/cpu.max" in warning for warning in warnings)


def test_v1_quota_with_joined_controllers(make_root):
    files = {
        "cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n",
        "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
    }

    quota = quota_of(make_root, "4:cpu,cpuacct:/job\n", v1(), files)

    assert quota == (2.5, "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us")


@pytest.mark.parametrize(("period", "quota"), [(None, 2.0), ("0\n", None), ("x\n", 2.0)])
def test_v1_missing_or_invalid_period_is_100_ms_and_zero_means_no_quota(make_root, period, quota):
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "200000\n"}
    if period is not None:
        files["cpu,cpuacct/cpu.cfs_period_us"] = period

    assert quota_of(make_root, "4:cpu,cpuacct:/\n", v1(), files)[0] == quota


def test_in_hybrid_mode_a_controller_mounted_in_v1_is_read_from_v1(make_root):
    unified = "9 2 0:9 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    files = {
        "cpu,cpuacct/job/cpu.cfs_quota_us": "300000",
        "unified/job/cpu.max": "100000 100000",
    }

    quota = quota_of(make_root, "4:cpu,cpuacct:/job\n0::/job\n", unified + v1(), files)

    assert quota[0] == 3.0


def test_in_hybrid_mode_a_controller_not_mounted_in_v1_is_read_from_v2(make_root):
    unified = "9 2 0:9 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    systemd = "8 2 0:8 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"

    quota = quota_of(
        make_root,
        "1:name=systemd:/job\n0::/job\n",
        systemd + unified,
        {"unified/job/cpu.max": "100000 100000"},
    )

    assert quota[0] == 1.0


def test_a_container_sees_its_own_group_as_the_root_of_the_mount(make_root):
    """Docker with cgroup v1: the mount shows /docker/<id>, and so does /proc/self/cgroup."""
    mount = v1("/docker/abc")
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/sub/cpu.cfs_quota_us": "100000"}

    assert quota_of(make_root, "4:cpu,cpuacct:/docker/abc\n", mount, files)[0] == 2.0
    assert quota_of(make_root, "4:cpu,cpuacct:/docker/abc/sub\n", mount, files)[0] == 1.0


@pytest.mark.parametrize("path", ["/../../other", "/../job", "/elsewhere", "/docker/abcdef"])
def test_a_group_outside_the_mount_counts_as_its_root(make_root, path):
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "200000"}

    assert quota_of(make_root, f"4:cpu,cpuacct:{path}\n", v1("/docker/abc"), files)[0] == 2.0


def test_a_moved_v2_group_counts_as_the_root_of_the_mount(make_root):
    mount = "31 23 0:27 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"

    assert quota_of(make_root, "0::/../x\n", mount, {"cpu.max": "200000 100000"})[0] == 2.0


def test_escapes_and_optional_fields_of_mountinfo_are_parsed():
    text = (
        "36 35 98:0 / /mnt/with\\040blank\\134x rw shared:1 master:2 propagate_from:3 - "
        "cgroup2 none rw\n"
        "1 2 3:4 / /proc rw - proc proc rw\n"
        "broken line\n"
        "5 6 7:8 / /c rw -"
    )

    (mount,) = parse_mountinfo(text)

    assert (mount.version, mount.point) == (2, "/mnt/with blank\\x")


def test_escaped_group_is_found(make_root):
    r"""systemd writes a dash in a unit's name as \x2d, which mountinfo escapes again."""
    mount = "31 23 0:27 /a\\134x2d /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"

    quota = quota_of(make_root, "0::/a\\x2d/b\n", mount, {"b/cpu.max": "100000 100000"})

    assert quota[0] == 1.0


def test_of_two_mounts_the_one_that_contains_the_group_counts(make_root):
    mounts = v1("/docker/other", point="/sys/fs/cgroup/bind") + v1("/")
    files = {"cpu,cpuacct/job/cpu.cfs_quota_us": "100000", "bind/cpu.cfs_quota_us": "700000"}

    assert quota_of(make_root, "4:cpu,cpuacct:/job\n", mounts, files)[0] == 1.0


@pytest.mark.parametrize(
    ("cgroup", "files", "quota"),
    [
        ("0::/a\n", {"a/cpu.max": "200000 100000"}, 2.0),
        (None, {"cpu.max": "200000 100000"}, 2.0),
        ("4:cpu,cpuacct:/j\n", {"cpu,cpuacct/j/cpu.cfs_quota_us": "300000"}, 3.0),
        ("4:cpu:/j\n", {"cpu/cpu.cfs_quota_us": "300000"}, 3.0),
        (None, {"cpu/cpu.cfs_quota_us": "300000"}, 3.0),
    ],
)
def test_a_recording_without_mountinfo_uses_the_usual_cgroup_mount_points(
    make_root, cgroup, files, quota
):
    assert quota_of(make_root, cgroup, None, files)[0] == quota


def test_without_a_cgroup_mount_there_is_no_limit(make_root):
    mounts = "1 2 3:4 / /proc rw - proc proc rw\n"

    assert quota_of(make_root, "0::/\n", mounts, {"cpu.max": "100000 100000"}) == (None, "")


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"a/b/memory.max": "max", "a/memory.max": "4294967296"}, 4294967296),
        ({"a/b/memory.max": "8589934592", "a/b/memory.high": "1073741824"}, 1073741824),
        ({"a/b/memory.max": "max"}, None),
        ({"a/b/memory.max": "x", "memory.max": "1048576"}, 1048576),
    ],
)
def test_v2_memory_limit_is_the_lowest_of_max_and_high(make_root, files, limit):
    assert limits_of(make_root, "0::/a/b\n", V2, files)[0].memory_bytes == limit


def test_v1_memory_ignores_the_kernels_value_for_unlimited(make_root):
    files = {
        "memory/j/memory.limit_in_bytes": MAX,
        "memory/memory.limit_in_bytes": "536870912\n",
    }

    limits, _ = limits_of(make_root, "5:memory:/j\n", v1(controllers="memory"), files)

    assert limits.memory_bytes == 536870912
    assert limits.memory_source == "/sys/fs/cgroup/memory/memory.limit_in_bytes"


@pytest.mark.parametrize(("total", "limit"), [(1024, None), (2048, 1048576)])
def test_a_memory_limit_not_below_the_machines_memory_is_ignored(make_root, total, limit):
    root = make_root(
        {
            "proc/self/cgroup": "0::/",
            "proc/self/mountinfo": V2,
            "proc/meminfo": f"MemTotal: {total} kB\nMemFree: 3 kB\n",
            f"{G}/memory.max": "1048576",
        }
    )

    assert probe(root, {}).limits.memory_bytes == limit
