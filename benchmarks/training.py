"""What nano-init brings a training step: every model in every configuration, in turn.

    python benchmarks/training.py [--models a,b] [--rounds N] [--ablate] [--json FILE] [--force]

Each figure comes from its own process. The configurations of a model run in turn, round after
round, and ratios are taken within a round, so that a machine whose speed drifts does not
change the comparison. Steps are timed one by one after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from models import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

WARM_UP = 5


@dataclass(frozen=True)
class Configuration:
    """How a model is trained.

    Args:
        name: What the table calls it.
        precision: The precision of the layers.
        nano_run: Under `nano-run` instead of plain `python`.
        only: The one faster path to patch in, under plain `python`.
    """

    name: str
    precision: str = "float32"
    nano_run: bool = False
    only: str | None = None


@dataclass(frozen=True)
class Result:
    """Milliseconds a step of one model in one configuration, one entry a round."""

    model: str
    configuration: str
    medians: list[float] = field(default_factory=list)
    fastest_fifths: list[float] = field(default_factory=list)
    first_steps: list[float] = field(default_factory=list)
    peaks_mb: list[float] = field(default_factory=list)


STOCK = Configuration("stock float32")
RUN = Configuration("nano-run float32", nano_run=True)
NARROW = (
    Configuration("bare mixed_bfloat16", "mixed_bfloat16"),
    Configuration("nano-run mixed_bfloat16", "mixed_bfloat16", nano_run=True),
)


def main() -> None:
    """Time the models and print the table; in a child process, train one model."""
    options = _parse()
    if options.child:
        print(json.dumps(_train(options.child, options.policy, options.only)))
        return
    has_unit = _has_bfloat16_unit()
    if not (has_unit or options.force):
        print("No bfloat16 unit here, so bfloat16 is emulated: its rows are left out (--force)")
    started = time.perf_counter()
    results: list[Result] = []
    for name in options.models.split(","):
        chosen = list(_configurations(name, has_unit or options.force, options.ablate))
        results += _measure(name, chosen, options.rounds)
        print(format_results(results[-len(chosen) :]), flush=True)
    document = {**_describe_machine(), "rounds": options.rounds}
    print(f"{document}, {time.perf_counter() - started:.0f} s in all")
    if options.json:
        document["results"] = [asdict(result) for result in results]
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)


def format_results(results: Sequence[Result]) -> str:
    """Return a table of one model; the ratio is stock over this, round by round."""
    stock = results[0]
    lines = []
    for result in results:
        ratios = [a / b for a, b in zip(stock.medians, result.medians, strict=True)]
        lines.append(
            f"{result.model:14} {result.configuration:24} "
            f"median {statistics.median(result.medians):8.2f} ms  "
            f"20% {statistics.median(result.fastest_fifths):8.2f} ms  "
            f"faster {statistics.median(ratios):5.2f} ({min(ratios):.2f}-{max(ratios):.2f})  "
            f"first step {statistics.median(result.first_steps) / 1000:5.1f} s  "
            f"peak {statistics.median(result.peaks_mb):5.0f} MB"
        )
    return "\n".join(lines)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS), help="names with commas between")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ablate", action="store_true", help="each faster path alone, too")
    parser.add_argument("--force", action="store_true", help="bfloat16 even where emulated")
    parser.add_argument("--json", metavar="FILE")
    for name in ("--child", "--policy", "--only"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = sorted(set(options.models.split(",")) - set(MODELS))
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(MODELS)}")
    return options


def _configurations(name: str, with_bfloat16: bool, ablate: bool) -> Iterator[Configuration]:
    yield STOCK
    yield RUN
    if with_bfloat16:
        yield from NARROW
    if ablate:
        for path in MODELS[name].paths:
            yield Configuration(f"only {path}", only=path)


def _measure(name: str, configurations: list[Configuration], rounds: int) -> list[Result]:
    results = [Result(name, configuration.name) for configuration in configurations]
    for _ in range(rounds):
        for configuration, result in zip(configurations, results, strict=True):
            figures = _run(name, configuration)
            steps = sorted(figures["steps"])
            result.medians.append(statistics.median(steps))
            result.fastest_fifths.append(steps[len(steps) // 5])
            result.first_steps.append(figures["first"])
            result.peaks_mb.append(figures["peak_mb"])
    return results


def _run(name: str, configuration: Configuration) -> Any:
    start = "import sys; from nano_init.cli.run import main; sys.exit(main())"
    command = [sys.executable]
    if configuration.nano_run:
        command += ["-c", start, "--precision", configuration.precision]
    command += [os.path.abspath(__file__), "--child", name]
    if configuration.only:
        command += ["--only", configuration.only]
    if not configuration.nano_run:
        command += ["--policy", configuration.precision]
    done = subprocess.run(command, env=_environ(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}, {configuration.name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _environ() -> dict[str, str]:
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("NANO_", "TF_", "PYTHON"))}
    return {**kept, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": root}


def _train(name: str, policy: str | None, only: str | None) -> dict[str, object]:
    import keras

    keras.utils.set_random_seed(1)
    if policy and policy != "float32":
        keras.config.set_dtype_policy(policy)
    if only:
        from nano_init.keras_patch.faster.registry import FASTER_PATHS, faster_path_replacements
        from nano_init.keras_patch.ledger import Ledger

        Ledger().apply(faster_path_replacements(set(FASTER_PATHS) - {only}))
    model = MODELS[name]
    count = WARM_UP + model.steps
    started = time.perf_counter()
    ends = (_loop if model.is_loop else _fit)(model.build(), model.batch(), count)
    steps = [(b - a) * 1000 for a, b in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)]
    return {"steps": steps, "first": (ends[0] - started) * 1000, "peak_mb": _peak_mb()}


def _fit(model: Any, batch: tuple[Any, Any], count: int) -> list[float]:
    import keras
    import tensorflow as tf

    ends: list[float] = []

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            del batch, logs
            ends.append(time.perf_counter())

    batches = tf.data.Dataset.from_tensors(batch).cache().repeat(count)
    # Its thread may hold up the end of `fit` for seconds, which is not what is timed here.
    options = tf.data.Options()
    options.autotune.enabled = False
    model.fit(batches.with_options(options), epochs=1, verbose=0, callbacks=[Clock()])
    return ends


def _loop(model: Any, batch: tuple[Any, Any], count: int) -> list[float]:
    import tensorflow as tf

    inputs, labels = (tf.convert_to_tensor(part) for part in batch)
    step = tf.function(_step_of(model))
    ends = []
    for _ in range(count):
        step(inputs, labels).numpy()
        ends.append(time.perf_counter())
    return ends


def _step_of(model: Any) -> Callable[[Any, Any], Any]:
    import keras
    import tensorflow as tf

    loss_of = keras.losses.SparseCategoricalCrossentropy()
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)

    def step(inputs: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(inputs, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return step


def _peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _has_bfloat16_unit() -> bool:
    from nano_init.machine.probe import probe

    return probe().isa.bf16 is not None


def _describe_machine() -> dict[str, object]:
    from importlib.metadata import version

    from nano_init.machine.probe import probe

    machine = probe()
    return {
        "processor": machine.isa.model,
        "threads": os.cpu_count(),
        "python": platform.python_version(),
        "tensorflow": version("tensorflow"),
        "keras": version("keras"),
    }


if __name__ == "__main__":
    main()
