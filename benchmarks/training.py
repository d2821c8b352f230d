"""Gain from nano-init in a training step: every model in every configuration.

    python benchmarks/training.py [--models a,b] [--configurations c,d] [--rounds N]
        [--json [FILE]] [--add FILE] [--plot FILE] [--bigdl FOLDER] [--force] [--batch-factor N]

Each figure comes from its own process. The configurations of a model are interleaved in rounds, and
ratios are computed within a round, so that a machine whose speed drifts does not change the
comparison. `--bigdl` names the virtual environment of BigDL-Nano. With --batch-factor batches are N
times as large, which shows the memory use when activations dominate.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from figures import Result, means_table, models_table, plot_results, summary_table
from models import MODELS
from record import add_json_option, describe_run, format_table, write_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))

# The time limit of a process in seconds; a training that hangs is a failure.
_LONGEST = 150


@dataclass(frozen=True)
class Configuration:
    """How the training script is started.

    Args:
        title: Its name in the table.
        script: Arguments of `train_one.py`.
        nano_run: Options of `nano-run`; None runs plain `python`.
        needs_unit: Whether to skip it where bfloat16 is emulated.
        is_bigdl: Whether it runs in BigDL-Nano's environment.
        models: The models for which it makes sense; all by default.
    """

    title: str
    script: tuple[str, ...] = ()
    nano_run: tuple[str, ...] | None = None
    needs_unit: bool = True
    is_bigdl: bool = False
    models: tuple[str, ...] = ()


_SPARSE = ("encoder", "decoder", "recommender")
_STEPS = ("--steps-per-execution", "auto")
_LAZY = ("--lazy-adam",)
CONFIGURATIONS = {
    "stock": Configuration("stock float32", needs_unit=False),
    "bare": Configuration("bare mixed_bfloat16", ("--policy", "mixed_bfloat16")),
    "rewrite": Configuration("graph rewrite", ("--rewrite",)),
    "float32": Configuration(
        "nano-run, float32", nano_run=("--precision", "float32"), needs_unit=False
    ),
    "nano": Configuration("nano-run", nano_run=()),
    "lazy": Configuration("nano-run, lazy Adam", nano_run=_LAZY, models=_SPARSE),
    "steps": Configuration("nano-run, steps per execution", nano_run=_STEPS),
    "both": Configuration("nano-run, both options", nano_run=(*_LAZY, *_STEPS), models=_SPARSE),
    "bigdl": Configuration("BigDL-Nano 2.4", ("--bigdl", "mixed_bfloat16"), is_bigdl=True),
}


def main() -> None:
    """Time the models and print the tables."""
    options = _parse()
    has_unit = options.force or _has_bfloat16_unit()
    if not has_unit:
        print("No bfloat16 unit here, so bfloat16 is emulated: its rows are skipped (--force)")
    started = time.perf_counter()
    titles = {name: model.title for name, model in MODELS.items()}
    results: list[Result] = []
    for name in options.models.split(","):
        rows = _measure(name, _configurations(name, options, has_unit), options)
        results += rows
        print(format_table(models_table(titles, rows)), flush=True)
    if options.add:
        results = _joined(options.add, results)
    tables = (models_table(titles, results), summary_table(titles, results), means_table(results))
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
        )
    if options.plot:
        plot_results(results, options.plot, about["machine"])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated names")
    parser.add_argument("--configurations", default=",".join(CONFIGURATIONS), help="likewise")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=6, help="timed blocks of steps per process")
    parser.add_argument("--batch-factor", type=int, default=1, help="factor of the batch size")
    parser.add_argument("--force", action="store_true", help="bfloat16 even where emulated")
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


def _configurations(name: str, options: argparse.Namespace, has_unit: bool) -> list[str]:
    """Return the keys of the configurations to run, stock first."""
    chosen = []
    for key in dict.fromkeys(["stock", *options.configurations.split(",")]):
        configuration = CONFIGURATIONS[key]
        if (
            (not configuration.models or name in configuration.models)
            and (has_unit or not configuration.needs_unit)
            and (options.bigdl or not configuration.is_bigdl)
        ):
            chosen.append(key)
    return chosen


def _measure(name: str, keys: Sequence[str], options: argparse.Namespace) -> list[Result]:
    results = {key: Result(name, key, CONFIGURATIONS[key].title) for key in keys}
    for _ in range(options.rounds):
        for key, result in results.items():
            if result.failure:
                continue
            try:
                result.add(
                    run_configuration(
                        name,
                        CONFIGURATIONS[key],
                        blocks=options.blocks,
                        batch_factor=options.batch_factor,
                        bigdl=options.bigdl,
                    )
                )
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


def run_configuration(
    name: str,
    configuration: Configuration,
    *,
    blocks: int,
    batch_factor: int = 1,
    bigdl: str | None = None,
) -> Any:
    """Return what one process that trains a model printed.

    Args:
        name: The model's key.
        configuration: How the script is started.
        blocks: How many blocks of steps are timed.
        batch_factor: How many times as large the batches are.
        bigdl: BigDL-Nano's virtual environment.

    Raises:
        RuntimeError: The process failed, or took too long.
    """
    folder = bigdl if configuration.is_bigdl else None
    command = [os.path.join(folder, "bin", "python") if folder else sys.executable]
    if configuration.nano_run is not None:
        start = "import sys; from nano_init.cli.run import main; sys.exit(main())"
        command += ["-c", start, *configuration.nano_run]
    command += [os.path.join(_HERE, "train_one.py"), name, *configuration.script]
    command += ["--blocks", str(blocks), "--batch-factor", str(batch_factor)]
    if folder:
        source = f'. "{folder}/bin/bigdl-nano-init" >/dev/null; exec "$@"'
        command = ["bash", "-c", source, "bash", *command]
    return json.loads(_output_of(command, _environ(folder)).strip().splitlines()[-1])


def _output_of(command: Sequence[str], environ: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, check=False, timeout=_LONGEST
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done after {_LONGEST} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(lines[-1])
    return done.stdout


def _environ(bigdl: str | None) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("NANO_", "TF_", "PYTHON"))}
    kept["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if bigdl:
        kept["PATH"] = f"{os.path.join(bigdl, 'bin')}{os.pathsep}{kept['PATH']}"
        kept["VIRTUAL_ENV"] = bigdl
    else:
        kept["PYTHONPATH"] = os.path.dirname(_HERE)
    return kept


def _has_bfloat16_unit() -> bool:
    from nano_init.machine.probe import probe

    return probe().isa.bf16 is not None


if __name__ == "__main__":
    main()
