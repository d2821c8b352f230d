"""A record is written to the launcher's file and to no other file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.errors import SampleError
from nano_init.instrumentation.watch import Watch
from nano_init.protocol.sample_record import describe_record_file, parse_record, write_record


@pytest.fixture
def file() -> Iterator[int]:
    descriptor = os.memfd_create("record")
    yield descriptor
    os.close(descriptor)


def content(descriptor: int) -> bytes:
    return os.pread(descriptor, 1 << 16, 0)


def test_a_record_replaces_the_previous_contents(file: int) -> None:
    request = describe_record_file(file)
    for record in ({"marks": [1, 2, 3]}, {"marks": []}):
        assert write_record(request, record)
        assert json.loads(content(file)) == record


def test_the_record_of_a_watch_is_read_back(file: int) -> None:
    Watch(describe_record_file(file), {}).write("exit")
    record = parse_record(content(file))
    assert record is not None
    assert (record["ended"], record["marks"]) == ("exit", [])


def test_an_empty_file_contains_no_record() -> None:
    assert parse_record(b"") is None


@given(
    st.binary(min_size=1) | st.sampled_from([b"12", b"[]", b"{}", b'{"marks": []}', b"[" * 9999])
)
def test_other_data_in_the_file_count_as_a_damaged_record(text: bytes) -> None:
    with pytest.raises(SampleError, match="the record of the steps is damaged"):
        parse_record(text)


class TestExchanged:
    """The script has closed the descriptor, and its own file now has that number."""

    def exchange(self, file: int, tmp_path: Path, **changes: Any) -> tuple[dict[str, Any], Path]:
        precious = tmp_path / "precious.txt"
        precious.write_text("the user's results\n")
        theirs = os.open(precious, os.O_RDWR)
        return {**describe_record_file(file), "fd": theirs, **changes}, precious

    def test_the_record_goes_to_the_launchers_descriptor(self, file: int, tmp_path: Path) -> None:
        request, precious = self.exchange(file, tmp_path)
        assert write_record(request, {"marks": []})
        assert content(file) == b'{"marks": []}'
        assert precious.read_text() == "the user's results\n"
        os.close(request["fd"])

    @pytest.mark.parametrize("number", [None, -1])
    def test_the_loss_is_reported_if_the_launchers_descriptor_cannot_be_opened(
        self, file: int, tmp_path: Path, number: int | None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        request, precious = self.exchange(file, tmp_path, origin="/proc/0/fd/0")
        theirs = request["fd"]
        Watch(request if number is None else {**request, "fd": number}, {}).write("exit")
        assert capsys.readouterr().err == (
            "nano-run: the record of the steps is lost: the script closed its file\n"
        )
        assert precious.read_text() == "the user's results\n"
        assert content(file) == b""
        os.close(theirs)

    def test_a_different_file_under_the_launchers_descriptor_is_not_written_to(
        self, file: int, tmp_path: Path
    ) -> None:
        """The launcher, too, may have closed its descriptor and opened another file."""
        request, precious = self.exchange(file, tmp_path)
        request["origin"] = f"/proc/self/fd/{request['fd']}"
        assert not write_record(request, {"marks": []})
        assert precious.read_text() == "the user's results\n"
        os.close(request["fd"])

    def test_a_process_that_has_closed_all_descriptors_writes_its_record(
        self, file: int, tmp_path: Path, environ: dict[str, str]
    ) -> None:
        """Daemons do so before they open their own files."""
        os.set_inheritable(file, True)
        script = (
            "import json, os, sys\n"
            "os.closerange(3, 64)\n"
            "file = open('precious.txt', 'w')\n"
            "file.write('results'); file.flush()\n"
            "from nano_init.instrumentation.watch import Watch\n"
            "Watch(json.loads(sys.argv[1]), {}).write('exit')\n"
        )
        subprocess.run(
            [sys.executable, "-c", script, json.dumps(describe_record_file(file))],
            env=environ,
            cwd=tmp_path,
            close_fds=False,
            check=True,
        )
        assert (tmp_path / "precious.txt").read_text() == "results"
        assert json.loads(content(file))["ended"] == "exit"
