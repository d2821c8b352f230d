"""Cost of `source bigdl-nano-init`, compared with the bare interpreter that it starts.

    python benchmarks/source.py [--rounds N] [--against FILE] [--json [FILE]]

Runs of shells that source the files alternate with `python -c pass`, and every figure is also given
relative to that in the same round. `--against` adds another file to source in bash, such as the
`bigdl-nano-init` of BigDL-Nano 2.4. Each figure in bash includes "bash alone".
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

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAM = "import sys\nfrom nano_init.cli.init import main\nsys.exit(main())\n"


def main() -> None:
    """Time the commands and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=40, help="runs of each command")
    parser.add_argument("--against", metavar="FILE", help="another file to source in bash")
    add_json_option(parser, "source")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environ = _install(Path(folder))
        commands = _commands(arguments.against)
        timings = time_commands(commands, arguments.rounds, environ, folder)
    table = timing_table("source", "Time to source the shell scripts", timings)
    print(format_table(table))
    if arguments.json:
        write_record(arguments.json, "source", [table])


def _install(folder: Path) -> dict[str, str]:
    """Lay out the files as in an installation; return an environment to use them in."""
    for name in ("bigdl-nano-init", "bigdl-nano-unset-env"):
        shutil.copy(REPOSITORY / "scripts" / f"{name}.sh", folder / name)
    command = folder / "nano-init"
    command.write_text(f"#!{sys.executable}\n{PROGRAM}")
    command.chmod(0o755)
    return {
        "PATH": f"{folder}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(folder),
    }


def _commands(against: str | None) -> dict[str, list[str]]:
    enter, leave = ". bigdl-nano-init", ". bigdl-nano-unset-env"
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "bash alone": ["bash", "-c", ":"],
        "bash: enter": ["bash", "-c", enter],
        "bash: enter and leave": ["bash", "-c", f"{enter}; {leave}"],
        "bash: leave, never entered": ["bash", "-c", leave],
    }
    for shell in ("dash", "zsh", "ksh93"):
        if shutil.which(shell):
            commands[f"{shell}: enter"] = [shell, "-c", enter]
    if against:
        commands[f"bash: {against}"] = ["bash", "-c", '. "$1"', "bash", os.path.abspath(against)]
    return commands


if __name__ == "__main__":
    main()
