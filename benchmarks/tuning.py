"""Compare the choice of `nano-run --tune` with the best configuration of an exhaustive search.

    python benchmarks/tuning.py [--models mlp,lstm] [--budget S] [--keep FOLDER [--pieces N]]

Each model of the suite is trained by its own script. First the search runs as in `nano-run --tune`.
Then every combination of precision, XLA, faster paths on or off, threads and inter-op threads
trains, interleaved with the chosen one in rounds and groups. A twin of the chosen one shows how
much two processes of one configuration differ. Finally the fastest of all groups are compared with
the chosen one in new processes, for more rounds. One half of the rounds selects the best; the other
half gives its ratio, because the minimum of many noisy numbers is biased. With --keep the
measurements are stored, and another call continues from there; --pieces ends a call after that
number of searches, groups or finals.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time

from record import Column, Table, add_json_option, format_table, write_record
from small_models import MODELS

from nano_init.errors import SampleError
from nano_init.evidence.sampling.sample import undisturbed
from nano_init.evidence.tuning.clock import Clock
from nano_init.evidence.tuning.decision import trial_to_json
from nano_init.plan.configuration import Configuration
from nano_init.protocol.target import Target
from nano_init.run.request import EvidenceRequest, RunRequest
from nano_init.run.single_run import prepare
from nano_init.run.tune import precisions_of, search_configuration, trial_runner
from nano_init.survey import survey

SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import keras, tensorflow as tf
from small_models import MODELS
keras.utils.set_random_seed(1)
model = MODELS[{name!r}].build()
data = tf.data.Dataset.from_tensors(MODELS[{name!r}].batch()).cache().repeat()
model.fit(data, steps_per_epoch=1000000, verbose=0)
"""

GROUP = 11
FINALISTS = 4
SLICE = 0.4
ROUNDS, FINAL_ROUNDS = 4, 12
# A configuration that is this much slower than the chosen one after two rounds is dropped.
HOPELESS = 1.3


class Race:
    """One model: its measurements in a file, and the next measurement."""

    def __init__(self, name: str, folder: str, budget: float) -> None:
        self.name = name
        self.path = os.path.join(folder, f"{name}.json")
        self.script = os.path.join(folder, f"{name}.py")
        with open(self.script, "w", encoding="utf-8") as file:
            here = os.path.dirname(os.path.abspath(__file__))
            file.write(SCRIPT.format(folder=here, name=name))
        self.kept: dict = {"groups": []}
        if os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                self.kept = json.load(file)
        evidence = EvidenceRequest(tune=True, tune_budget=budget)
        target = Target(self.script)
        self.request = RunRequest(target, evidence=evidence, quiet=True, use_cache=False)
        self.plain = prepare(self.request, survey(os.environ))

    def go_on(self) -> bool:
        """Do the next piece; return False if there is none."""
        everything = list(self.everything())
        done = len(self.kept["groups"])
        groups = math.ceil(len(everything) / GROUP)
        if "winner" not in self.kept:
            self.search()
        elif done < groups:
            group = everything[done * GROUP : (done + 1) * GROUP]
            self.kept["groups"].append(self.race(group, ROUNDS))
        elif "final" not in self.kept:
            self.kept["final"] = self.race(self.leaders(), FINAL_ROUNDS)
        else:
            return False
        with open(self.path, "w", encoding="utf-8") as file:
            json.dump(self.kept, file, indent=1)
        return True

    def search(self) -> None:
        """Search as `nano-run --tune` does."""
        begun = time.monotonic()
        found = search_configuration(self.request, self.plain)
        unsound = [t.configuration.values() for t in found.trials if t.runs and not t.is_sound]
        self.kept |= {
            "winner": found.winner.values(),
            "seconds": time.monotonic() - begun,
            "unsound": unsound,
            "trials": [trial_to_json(trial) for trial in found.trials],
        }

    @property
    def winner(self) -> Configuration:
        """Return the chosen configuration."""
        return Configuration(**self.kept["winner"])

    def everything(self):
        """Yield all possible configurations, with mixed choices."""
        cores = self.plain.plan.threads.usable_cores
        few = (0, max(1, cores // 2)) if cores > 1 else (0,)
        choices = (precisions_of(self.plain), (False, True), ("", "all"), few, (0, 1)[: len(few)])
        for precision, xla, disable, threads, interop in itertools.product(*choices):
            yield Configuration(precision, xla, disable, threads=threads, interop=interop)

    def race(self, others: list[Configuration], rounds: int) -> list:
        """Train the chosen one, its twin and others, interleaved.

        Returns:
            Pairs of a configuration's values and its step times relative to the chosen one's, one
            per round; the twin is the first.
        """
        clock = Clock(600, time.monotonic)
        entries = [self.winner, self.winner, *(o for o in others if o != self.winner)]
        ratios: list[list[float]] = [[] for _ in entries]
        with trial_runner(self.request, self.plain, clock) as runner:
            running = dict(enumerate(runner.start([(entry, 0) for entry in entries])))
            for number, training in list(running.items()):
                if isinstance(training, SampleError):
                    print(f"  {entries[number]}: {training}", file=sys.stderr)
                    del running[number]
            for done in range(rounds):
                order = sorted(running, reverse=done % 2 == 1)
                times = {n: undisturbed(running[n].train(SLICE)) for n in order}
                for n in order:
                    ratios[n].append(times[n] / times[0])
                    hopeless = statistics.median(ratios[n]) > HOPELESS
                    if done == 1 and n > 1 and hopeless:
                        running.pop(n).close()
            for training in running.values():
                training.close()
        return [
            [entry.values(), found]
            for entry, found in zip(entries[1:], ratios[1:], strict=True)
            if found
        ]

    def leaders(self) -> list[Configuration]:
        """Return the fastest valid configurations of the groups."""
        rows = [row for group in self.kept["groups"] for row in group[1:]]
        sound = [row for row in rows if row[0] not in self.kept["unsound"]]
        sound.sort(key=lambda row: statistics.median(row[1]))
        return [Configuration(**values) for values, _ in sound[:FINALISTS]]

    def tell(self) -> None:
        """Print the chosen and the best configuration, and their difference."""
        print(f"{self.name}: chosen in {self.kept['seconds']:.0f} s: {self.winner}")
        for trial in self.kept["trials"]:
            rounds = list(itertools.chain.from_iterable(trial["runs"]))
            text = _spread(rounds) if rounds else trial["fault"] or "no time"
            print(
                f"  tried {Configuration(**trial['configuration'])}: {text} of the default's time"
            )
        groups = self.kept["groups"]
        rows = [row for group in groups for row in group[1:]]
        print(f"  all {len(rows)} others, times over the chosen one's:")
        for values, ratios in sorted(rows, key=lambda row: statistics.median(row[1])):
            unsound = " (loss not float32's)" if values in self.kept["unsound"] else ""
            print(f"    {_spread(ratios)}  {Configuration(**values)}{unsound}")
        if "final" in self.kept:
            self._tell_final()

    def row(self) -> tuple:
        """Return the row of the table."""
        best, others = self._best()
        twin = self.kept["final"][0][1]
        name = "the chosen one" if best == self.winner.values() else str(Configuration(**best))
        chosen = (str(self.winner), self.kept["seconds"])
        return (self.name, *chosen, name, _middle([1 / each for each in others]), _middle(twin))

    def _best(self) -> tuple:
        """Return the fastest of the final by every other round, and its ratios in the others."""
        (_, twin), *rows = self.kept["final"]
        chosen = [self.kept["winner"], [1.0] * len(twin)]
        best = min([chosen, *rows], key=lambda row: statistics.median(row[1][::2]))
        return best[0], best[1][1::2]

    def _tell_final(self) -> None:
        (_, twin), *rows = self.kept["final"]
        print(f"  final, {len(twin)} rounds: the chosen one's twin {_spread(twin)}")
        for values, ratios in rows:
            print(f"    {_spread(ratios)}  {Configuration(**values)}")
        best, other_half = self._best()
        ratio = statistics.median(1 / each for each in other_half)
        print(
            f"{self.name}: best {Configuration(**best)}; the chosen one takes {ratio:.3f} "
            f"times as long ({_spread([1 / each for each in other_half])}); two processes of the "
            f"chosen one differ by {abs(statistics.median(twin) - 1):.1%}",
            flush=True,
        )


def _middle(numbers) -> tuple:
    low, _, high = statistics.quantiles(numbers, n=4, method="inclusive")
    return statistics.median(numbers), low, high


def _spread(numbers) -> str:
    if len(numbers) < 2:
        return f"{numbers[0]:.3f}"
    low, _, high = statistics.quantiles(numbers, n=4, method="inclusive")
    return f"{statistics.median(numbers):.3f} ({low:.3f}-{high:.3f})"


def main() -> None:
    """Run the search and the exhaustive search, and print the difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--keep", metavar="FOLDER", help="store measurements, and resume")
    parser.add_argument("--pieces", type=int, default=1000, metavar="N")
    add_json_option(parser, "tuning")
    options = parser.parse_args()
    unknown = sorted(set(options.models.split(",")) - set(MODELS))
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(MODELS)}")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or temporary
        os.makedirs(folder, exist_ok=True)
        left = options.pieces
        for name in options.models.split(","):
            race = Race(name, os.path.abspath(folder), options.budget)
            while left and race.go_on():
                left -= 1
            if "winner" in race.kept:
                race.tell()
            if "final" in race.kept:
                rows.append(race.row())
    if options.json:
        columns = (
            Column("model"),
            Column("chosen"),
            Column("in, s"),
            Column("best of all"),
            Column("chosen's time over the best's", 3),
            Column("twin's over the chosen's", 3),
        )
        title = "The choice of nano-run --tune against an exhaustive search"
        table = Table("tuning", title, columns, tuple(rows))
        print(format_table(table))
        write_record(options.json, "tuning", [table])


if __name__ == "__main__":
    main()
