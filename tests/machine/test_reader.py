"""Files are read completely and once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nano_init.machine.cpuinfo import parse_cpuinfo
from nano_init.machine.reader import Reader, parse_number


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
@pytest.mark.parametrize("name", ["vmstat", "zoneinfo", "self/smaps"])
def test_proc_files_are_read_completely_despite_short_reads(name):
    """/proc returns as many whole records as fit into a page: a short read is not the end."""

    def first_words(text):
        return [line.split()[0] for line in text.splitlines() if line.strip()]

    whole = Path("/proc", name)
    if not whole.exists():
        pytest.skip(f"{whole} does not exist here")
    expected = first_words(whole.read_text())

    said = first_words(Reader("/").text(f"proc/{name}") or "")

    # The maps of this process may change by a few of many lines between the two reads.
    assert len(said) > 0.8 * len(expected)
    assert said[:20] == expected[:20]
    assert said[-1] == expected[-1]


def test_file_is_read_once(make_root):
    root = make_root({"a": "1\n"})
    reader = Reader(root)
    assert reader.number("a") == 1

    Path(root, "a").write_text("2")

    assert reader.number("a") == 1
    assert reader.log == {"a": "1"}


def test_an_absent_file_gives_no_warning(make_root):
    reader = Reader(make_root({"a": ""}))

    assert reader.text("b") is None
    assert reader.text("a/b") is None
    assert reader.number("c") is None
    assert reader.warnings == []


def test_a_long_file_is_read_completely(make_root):
    text = "x" * 300_000

    assert Reader(make_root({"a": text})).text("a") == text


def test_a_path_with_a_nul_byte_gives_a_warning(make_root):
    reader = Reader(make_root({"a": ""}))

    assert reader.text("a\0b") is None
    assert len(reader.warnings) == 1


@pytest.mark.parametrize("text", ["", "x", "1.5", "--1", "9" * 21, "²", "1 2"])
def test_an_invalid_number_is_rejected(text):
    with pytest.raises(ValueError, match="is not a whole number"):
        parse_number(text)


def test_cpuinfo_keeps_different_flags_per_processor():
    lines = ["lm avx", "lm avx avx2", "lm avx", "lm"]
    text = "\n".join(f"processor : {n}\nflags : {line}\nx : y\n" for n, line in enumerate(lines))

    cpuinfo = parse_cpuinfo(text)

    assert [line for _, line in cpuinfo.flags] == lines
    assert cpuinfo.common_flags([1]) == {"lm", "avx", "avx2"}
    assert cpuinfo.common_flags([0, 1, 2, 3]) == {"lm"}
    assert cpuinfo.common_flags([77]) == {"lm"}


def test_carriage_returns_in_cpuinfo_are_ignored():
    cpuinfo = parse_cpuinfo("processor : 0\r\nflags : a b\r\nmodel : 1\r\n")

    assert cpuinfo.common_flags([0]) == {"a", "b"}
    assert cpuinfo.fields["model"] == "1"
