"""Time from process start to the end of the first step, stock Keras against nano-run.

    python benchmarks/first_step.py [--models resnet50,tiny] [--rounds 5] [--json [FILE]]
        [--torch FOLDER]

Each run is a separate process, interleaved with the others. Processor seconds (user and system)
are reported, because other processes on the machine hardly change them; wall seconds are printed
too. They are read inside the process, which under nano-run is the launcher's own process, so the
launcher counts. The difference between the total and the phases is the time of the interpreter and
the launcher. With `--torch FOLDER`, a virtual environment with PyTorch, the models' twins run too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from configurations import PEERS
from environments import UnusableEnvironment, python_of, versions_in
from record import Column, Table, add_json_option, describe_run, format_table, write_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from record import Cell

    # The figures of each run, by process.
    Runs = dict[str, list[dict[str, float]]]

HERE = Path(__file__).parent
MODELS = ("resnet50", "mobilenet", "unet", "encoder6", "lstm", "tiny", "loop", "gan")
# Those that PyTorch trains too.
WITH_TWINS = frozenset(MODELS) - {"gan"}
PHASES = ("import_tf", "import_keras", "build", "trace", "first", "step", "evaluate", "predict")
TITLES = {
    "import_tf": "`import tensorflow`",
    "import_keras": "`import keras`",
    "build": "build the model",
    "first": "first step without its trace",
    "step": "second step",
    "evaluate": "first `evaluate`",
    "predict": "first `predict`",
}


def main() -> None:
    """Measure every model, and print the tables."""
    options = _parse()
    runs: dict[str, Runs] = {}
    for model in options.models.split(","):
        runs[model] = _measure(model, options)
        print(format_table(ratios_table({model: runs[model]})), flush=True)
        tables = [ratios_table(runs), phases_table(runs)]
        if options.json:
            # After each model, because all of them take long.
            versions = {**describe_run()["versions"], **options.versions}
            write_record(options.json, "first-step", tables, versions=versions, runs=runs)
    for table in tables:
        print(f"\n{format_table(table)}")


def ratios_table(runs: dict[str, Runs]) -> Table:
    """Return one row per model, and the geometric mean of the ratios; ratios are per round.

    Args:
        runs: The figures of each run, by model and process.
    """
    others = sorted({name for each in runs.values() for name in each} - {"stock", "nano-run"})
    columns = (
        Column("model"),
        *(Column(f"{name}, CPU s", 1) for name in ("stock", "nano-run", *others)),
        Column("CPU time over stock (spread)", 2),
        Column("wall time over stock (spread)", 2),
    )
    rows: list[tuple[Cell, ...]] = []
    for model, each in runs.items():
        names = ("stock", "nano-run", *others)
        seconds = (_median(each.get(name, ()), "cpu") for name in names)
        rows.append((model, *seconds, *(_ratio(each, key) for key in ("cpu", "wall"))))
    if len(rows) > 1:
        means = (_mean([row[column][0] for row in rows]) for column in (-2, -1))  # type: ignore[index, misc]
        rows.append(("geometric mean", *[None] * (1 + 1 + len(others)), *means))
    return Table("ratios", "From process start to the end of step 1", columns, tuple(rows))


def phases_table(runs: dict[str, Runs]) -> Table:
    """Return one row per model and process with the processor seconds of each phase.

    Args:
        runs: The figures of each run, by model and process.
    """
    columns = (
        Column("model"),
        Column("process"),
        *(Column(f"{TITLES.get(phase, phase)}, CPU s", 2) for phase in PHASES),
    )
    rows = tuple(
        (model, name, *(_median(results, phase) for phase in PHASES))
        for model, each in runs.items()
        for name, results in each.items()
    )
    return Table("phases", "Phases up to the first prediction", columns, rows)


def _median(results: Sequence[dict[str, float]], key: str) -> float | None:
    values = [result[key] for result in results if key in result]
    return statistics.median(values) if values else None


def _ratio(runs: Runs, key: str) -> tuple[float, float, float]:
    pairs = zip(runs["nano-run"], runs["stock"], strict=True)
    ratios = [ours[key] / theirs[key] for ours, theirs in pairs]
    return statistics.median(ratios), min(ratios), max(ratios)


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, ratios)))


def _measure(model: str, options: argparse.Namespace) -> Runs:
    script = [str(HERE / "first_step_one.py"), model]
    nano = [str(Path(sys.executable).with_name("nano-run")), "-q", "--precision", options.precision]
    commands = {"stock": [sys.executable, *script], "nano-run": [*nano, *options.more, *script]}
    if options.torch and model in WITH_TWINS:
        twin = str(HERE / "first_step_torch.py")
        commands["PyTorch"] = [python_of(options.torch), twin, model]
    runs: Runs = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            runs[name].append(_run(command))
    return runs


def _run(command: list[str]) -> dict[str, float]:
    """Run one process, and return its phases and its time up to the end of its first step."""
    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = time.time()
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    found["wall"] = found.pop("ended_at") - started
    return found


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto", help="as for nano-run")
    parser.add_argument("--torch", metavar="FOLDER", help="a virtual environment with PyTorch")
    add_json_option(parser, "first-step")
    parser.add_argument("more", nargs="*", help="options for nano-run, after --")
    options = parser.parse_args()
    unknown = set(options.models.split(",")) - set(MODELS)
    if unknown:
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    options.versions = {}
    if options.torch:
        try:
            found = versions_in(options.torch, "--torch", PEERS["torch"])
        except UnusableEnvironment as error:
            parser.error(str(error))
        options.versions = {"PyTorch": found["torch"]}
    return options


if __name__ == "__main__":
    main()
