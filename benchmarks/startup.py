"""Overhead of nano-run at the start of a script, and response time of nano-init.

    python benchmarks/startup.py [--rounds N] [--json [FILE]]

The commands are interleaved, and every figure is also given relative to `python script.py` in
the same round, so that a machine whose speed drifts does not change the comparison.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from record import add_json_option, format_table, write_record
from timing import time_commands, timing_table


def main() -> None:
    """Time the commands and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    add_json_option(parser, "startup")
    options = parser.parse_args()

    commands = {name: _installed(name) for name in ("nano-run", "nano-init")}
    environ = {n: v for n, v in os.environ.items() if not n.startswith(("NANO_", "PYTHON"))}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text("pass\n")
        timings = time_commands(
            {
                "python script.py": [sys.executable, str(script)],
                "nano-run script.py": [commands["nano-run"], str(script)],
                "nano-init --print": [commands["nano-init"], "--print"],
                "nano-init --shell sh": [commands["nano-init"], "--shell", "sh"],
                "nano-run --help": [commands["nano-run"], "--help"],
            },
            options.rounds,
            environ,
        )
    table = timing_table("startup", "Time to start and end", timings)
    print(format_table(table))
    if options.json:
        write_record(options.json, "startup", [table])


def _installed(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        sys.exit(f"{name} is not installed next to {sys.executable}: pip install -e .")
    return found


if __name__ == "__main__":
    main()
