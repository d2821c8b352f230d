"""Reading standard input is detected, however it is done."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nano_init.evidence.sampling.standard_input import open_empty_input, was_read


def is_detected(code: str) -> bool:
    """Return whether a program's use of standard input is detected as reading."""
    with open_empty_input() as file:
        subprocess.run([sys.executable, "-c", code], stdin=file, check=True)
        return was_read(file)


@pytest.mark.parametrize(
    "code",
    [
        "import sys; assert sys.stdin.readline() == ''",
        "import sys; assert list(sys.stdin) == []",
        "import sys; assert sys.stdin.buffer.read() == b''",
        "import os; assert os.read(0, 1) == b''",
        "assert open('/dev/stdin').read() == ''",
        "import subprocess; subprocess.run(['cat'], check=True)",
    ],
)
def test_every_read_is_detected_and_gets_the_end_of_the_file(code: str) -> None:
    assert is_detected(code)


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.stdin.isatty(); sys.stdin.seekable(); sys.stdin.fileno()",
        "import subprocess; subprocess.run(['true'], check=True)",
        "import select; select.select([0], [], [], 0)",
    ],
)
def test_other_uses_are_not_detected_as_reading(code: str) -> None:
    assert not is_detected(code)
