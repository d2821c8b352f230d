"""How near `nano-run --tune` comes to the best configuration, found by trying all of them.

    python benchmarks/tuning.py [--models cnn-batchnorm,lstm] [--rounds N] [--budget S]

Each model of the suite is trained by a script of its own. The search is run as `nano-run
--tune` runs it, at its usual budget; then every configuration that it could have chosen is
sampled in turn, round after round, and the chosen one is held against the fastest.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time

from small_models import MODELS

from nano_init.cli.evidence_options import EvidenceRequest
from nano_init.cli.run import RunRequest, prepare
from nano_init.cli.tuning import search_configuration
from nano_init.errors import SampleError
from nano_init.evidence.configuration import Configuration, first_candidates, neighbours
from nano_init.evidence.sample import Request, take_sample
from nano_init.launch.target import Target
from nano_init.plan.settings import Options

SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import keras, tensorflow as tf
from small_models import MODELS
keras.utils.set_random_seed(1)
model = MODELS[{name!r}].build()
data = tf.data.Dataset.from_tensors(MODELS[{name!r}].batch()).cache().repeat()
model.fit(data, steps_per_epoch=1000, verbose=0)
"""


def main() -> None:
    """Search, try all, and print how far apart they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="cnn-batchnorm,lstm")
    parser.add_argument("--rounds", type=int, default=2, help="0: the search alone")
    parser.add_argument("--budget", type=float, default=60.0)
    options = parser.parse_args()
    unknown = sorted(set(options.models.split(",")) - set(MODELS))
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(MODELS)}")
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            _measure(name, os.path.join(folder, "train.py"), options)


def _measure(name: str, script: str, options: argparse.Namespace) -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    with open(script, "w", encoding="utf-8") as file:
        file.write(SCRIPT.format(folder=here, name=name))
    request = RunRequest(Target(script), Options(), quiet=True, use_cache=False)
    plain = prepare(request, os.environ)
    begun = time.monotonic()
    evidence = EvidenceRequest(tune=True, tune_budget=options.budget)
    found = search_configuration(request, evidence, os.environ, plain)
    took = time.monotonic() - begun
    print(f"{name}: chosen in {took:.0f} s: {found.winner}", flush=True)
    for trial in found.trials:
        time_text = trial.fault or f"{trial.step_time * 1000:.2f} ms, {len(trial.samples)} samples"
        mark = f" ({found.objection})" if trial.configuration in found.rejected else ""
        print(f"  tried {trial.configuration}: {time_text}{mark}", flush=True)
    if not options.rounds:
        return
    times = _try_all(request, plain.precision, plain.plan.threads.usable_cores, options)
    ranked = sorted(times, key=lambda each: min(times[each]))
    for each in ranked:
        mark = " <- chosen" if each == found.winner else ""
        rejected = " (loss not float32's)" if each in found.rejected else ""
        spread = f"{min(times[each]) * 1000:.2f}-{max(times[each]) * 1000:.2f}"
        middle = min(times[each]) * 1000
        print(f"  {middle:8.2f} ms ({spread})  {each}{rejected}{mark}")
    sound = [each for each in ranked if each not in found.rejected]
    behind = min(times[found.winner]) / min(times[sound[0]]) - 1
    print(f"{name}: the chosen one is {behind:.1%} behind the fastest sound one", flush=True)


def _try_all(
    request: RunRequest, default: str, cores: int, options: argparse.Namespace
) -> dict[Configuration, list[float]]:
    precisions = tuple(dict.fromkeys(("float32", default)))
    core = first_candidates(precisions, os.environ)
    beside = itertools.chain.from_iterable(neighbours(c, cores, (), os.environ) for c in core)
    everything = list(dict.fromkeys([*core, *beside]))
    times: dict[Configuration, list[float]] = {each: [] for each in everything}
    for _ in range(options.rounds):
        for each in everything:
            command = prepare(request, os.environ, each).command
            environ = command.environment(os.environ)
            try:
                sample = take_sample(command.argv, environ, Request(300, seconds=2.0, seed=0))
            except SampleError as error:
                print(f"  {each}: {error}", file=sys.stderr)
                continue
            times[each].append(sample.undisturbed_step_time)
    return {each: taken for each, taken in times.items() if taken}


if __name__ == "__main__":
    main()
