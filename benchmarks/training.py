"""Gain from nano-init in a training step: every model in every configuration.

    python benchmarks/training.py [--models a,b] [--configurations c,d] [--rounds N]
        [--torch FOLDER] [--jax FOLDER] [--bigdl FOLDER] [--processor-time] [--batch-factor N]
        [--json [FILE]] [--add FILE] [--plot FILE] [--force]

Each figure comes from its own process. The configurations of a model are interleaved in rounds, and
ratios are computed within a round, so that a machine whose speed drifts does not change the
comparison. `--torch` and `--jax` name virtual environments with PyTorch, and with Keras and JAX, in
which the same models train; `--bigdl` that of BigDL-Nano. On a machine that other programs use too,
`--processor-time` times all threads of the process instead of the clock. With --batch-factor
batches are N times as large, which shows the memory use when activations dominate.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from configurations import CONFIGURATIONS, PEERS, Trial, run_configuration
from environments import UnusableEnvironment, versions_in
from figures import Result, means_table, models_table, peers_tables, plot_results, summary_table
from models import MODELS, SUITE
from record import add_json_option, describe_run, format_table, write_record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The packages that an environment must have, by the name of its option, and what the record calls
# those whose versions matter.
_NEEDED = {**PEERS, "bigdl": ()}
_IN_RECORD = {"torch": "PyTorch", "jax": "JAX", "keras": "Keras on JAX"}


def main() -> None:
    """Time the models and print the tables."""
    options = _parse()
    folders, versions = _environments(options)
    trial = Trial(options.blocks, options.batch_factor, options.processor_time, folders)
    has_unit = options.force or _has_bfloat16_unit()
    if not has_unit:
        print("No bfloat16 unit here, so bfloat16 is emulated: its rows are skipped (--force)")
    started = time.perf_counter()
    unit = "processor ms/step" if options.processor_time else "ms/step"
    titles = {name: model.title for name, model in MODELS.items()}
    results: list[Result] = []
    for name in options.models.split(","):
        keys = _configurations(name, options.configurations, folders, has_unit)
        rows = _measure(name, keys, options.rounds, trial)
        results += rows
        print(format_table(models_table(titles, rows, unit)), flush=True)
    if options.add:
        results = _joined(options.add, results)
    tables = (
        models_table(titles, results, unit),
        summary_table(titles, results, unit),
        means_table(results),
        *peers_tables(titles, results, unit),
    )
    for table in tables:
        print(f"\n{table.title}\n\n{format_table(table)}")
    about = describe_run()
    print(about)
    if options.json:
        write_record(
            options.json,
            "training",
            tables,
            rounds=options.rounds,
            seconds=round(time.perf_counter() - started),
            results=[asdict(result) for result in results],
            versions={**about["versions"], **versions},
        )
    if options.plot:
        plot_results(results, options.plot, about["machine"])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(SUITE), help="comma-separated names")
    usual = ",".join(key for key in CONFIGURATIONS if key != "forced")
    parser.add_argument("--configurations", default=usual, help="likewise")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=6, help="timed blocks of steps per process")
    parser.add_argument("--batch-factor", type=int, default=1, help="factor of the batch size")
    parser.add_argument("--force", action="store_true", help="bfloat16 even where emulated")
    parser.add_argument("--processor-time", action="store_true", help="time all threads instead")
    parser.add_argument("--torch", metavar="FOLDER", help="a virtual environment with PyTorch")
    parser.add_argument("--jax", metavar="FOLDER", help="a virtual environment with Keras and JAX")
    parser.add_argument("--bigdl", metavar="FOLDER", help="BigDL-Nano's virtual environment")
    add_json_option(parser, "training")
    parser.add_argument("--add", metavar="FILE", help="add the rounds of an earlier --json file")
    parser.add_argument("--plot", metavar="FILE", help="plot the results as PNG (needs matplotlib)")
    options = parser.parse_args()
    for asked, known in ((options.models, MODELS), (options.configurations, CONFIGURATIONS)):
        unknown = sorted(set(asked.split(",")) - set(known))
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return options


def _environments(options: argparse.Namespace) -> tuple[dict[str, str], dict[str, str]]:
    """Return the folders of the virtual environments by name, and the versions in them."""
    folders, versions = {}, {}
    try:
        for name, packages in _NEEDED.items():
            folder = getattr(options, name)
            if folder:
                folders[name] = folder
                found = versions_in(folder, f"--{name}", packages)
                versions.update({_IN_RECORD[n]: v for n, v in found.items() if n in _IN_RECORD})
    except UnusableEnvironment as error:
        print(f"training.py: {error}", file=sys.stderr)
        sys.exit(2)
    return folders, versions


def _configurations(name: str, asked: str, folders: Mapping[str, str], has_unit: bool) -> list[str]:
    """Return the keys of the configurations to run, stock first."""
    chosen = []
    for key in dict.fromkeys(["stock", *asked.split(",")]):
        configuration = CONFIGURATIONS[key]
        if (
            (not configuration.models or name in configuration.models)
            and (has_unit or not configuration.needs_unit)
            and (not configuration.environment or configuration.environment in folders)
        ):
            chosen.append(key)
    return chosen


def _measure(name: str, keys: Sequence[str], rounds: int, trial: Trial) -> list[Result]:
    results = {key: Result(name, key, CONFIGURATIONS[key].title) for key in keys}
    for _ in range(rounds):
        for key, result in results.items():
            if result.failure:
                continue
            try:
                result.add(run_configuration(name, CONFIGURATIONS[key], trial))
            except RuntimeError as error:
                if key == "stock":
                    sys.exit(f"{name}: {error}")
                result.failure = str(error)
    return list(results.values())


def _joined(path: str, results: Sequence[Result]) -> list[Result]:
    """Return the results of an earlier run with the rounds of this one after its own."""
    with open(path, encoding="utf-8") as file:
        joined = {(r["model"], r["configuration"]): Result(**r) for r in json.load(file)["results"]}
    for result in results:
        earlier = joined.setdefault((result.model, result.configuration), result)
        if earlier is not result:
            earlier.extend(result)
    return list(joined.values())


def _has_bfloat16_unit() -> bool:
    from nano_init.machine.probe import probe

    return probe().isa.bf16 is not None


if __name__ == "__main__":
    main()
