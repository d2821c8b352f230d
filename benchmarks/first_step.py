"""Time from process start to the end of the first step, stock Keras against nano-run.

    python benchmarks/first_step.py [--models resnet50,tiny] [--rounds 5] [--torch FOLDER]

Each run is a separate process, interleaved with the others. Processor seconds (user and system)
are reported, because other processes on the machine hardly change them; wall seconds are printed
too. They are read inside the process, which under nano-run is the launcher's own process, so the
launcher counts. The difference between the total and the phases is the time of the interpreter and
the launcher. With `--torch FOLDER`, scripts MODEL.py in that folder run too; their last line of
output is JSON with `cpu` and `ended_at`.
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

HERE = Path(__file__).parent
MODELS = ("resnet50", "mobilenet", "unet", "encoder6", "lstm", "tiny", "loop", "gan")
PHASES = ("import_tf", "import_keras", "build", "trace", "first", "step", "evaluate", "predict")


def main() -> None:
    """Measure every model and print its row."""
    options = _parse()
    print(
        "| model | process | start to end of step 1, CPU s | wall s | " + " | ".join(PHASES) + " |"
    )
    print("| --- " * (len(PHASES) + 4) + "|")
    ratios = []
    for model in options.models.split(","):
        runs = _measure(model, options)
        for name, results in runs.items():
            print(_row(model, name, results), flush=True)
        pairs = zip(runs["nano-run"], runs["stock"], strict=True)
        ratios.append(statistics.median(ours["cpu"] / theirs["cpu"] for ours, theirs in pairs))
        print(f"| {model} | nano-run over stock | {ratios[-1]:.2f} |", flush=True)
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    print(f"geometric mean of the ratios {mean:.2f}, largest {max(ratios):.2f}")


def _measure(model: str, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    script = [str(HERE / "first_step_one.py"), model]
    nano = [str(Path(sys.executable).with_name("nano-run")), "-q", "--precision", options.precision]
    commands = {"stock": [sys.executable, *script], "nano-run": [*nano, *options.more, *script]}
    torch = Path(options.torch) / f"{model}.py" if options.torch else None
    if torch and torch.exists():
        commands["torch"] = [sys.executable, str(torch)]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
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


def _row(model: str, name: str, results: list[dict[str, float]]) -> str:
    def median(key: str) -> str:
        values = [result[key] for result in results if key in result]
        return f"{statistics.median(values):.2f}" if values else ""

    cells = (median(key) for key in ("cpu", "wall", *PHASES))
    return f"| {model} | {name} | " + " | ".join(cells) + " |"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto", help="as for nano-run")
    parser.add_argument("--torch", metavar="FOLDER", help="scripts MODEL.py that train in PyTorch")
    parser.add_argument("more", nargs="*", help="options for nano-run, after --")
    options = parser.parse_args()
    unknown = set(options.models.split(",")) - set(MODELS)
    if unknown:
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    return options


if __name__ == "__main__":
    main()
