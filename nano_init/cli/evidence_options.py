"""The options of `nano-run` that measure: one decorator, one value."""

from __future__ import annotations

import functools
import os

import click

from nano_init.errors import UsageError
from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["EvidenceRequest", "evidence_options"]


@frozen
class EvidenceRequest:
    """What is to be measured, beside or instead of running the program.

    Args:
        compare: sample it under plain `python` and under `nano-run`.
        as_json: print the comparison as JSON.
        tune: search for the fastest way to train first, and run the program in it.
        tune_budget: the seconds that the search may take.
        use_cache: use and remember what was measured before.
        report: None, or where to write the report on the run: "" for the terminal alone.
        steps: training steps of one sample.
        rounds: samples of each way in a comparison.
        seconds: the longest that one sample may train.
    """

    compare: bool = False
    as_json: bool = False
    tune: bool = False
    tune_budget: float = 60.0
    use_cache: bool = True
    report: str | None = None
    steps: int = 30
    rounds: int = 4
    seconds: float = 60.0

    @property
    def measures(self) -> bool:
        """Say whether anything is to be measured, or only the cache left alone."""
        return self.compare or self.tune or self.report is not None


def _clear_cache(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    from nano_init.evidence.tuning.cache import cache_folder, clear_cache

    count = clear_cache(os.environ)
    click.echo(
        f"{count} tuned choice{'' if count == 1 else 's'} in {cache_folder(os.environ)} forgotten"
    )
    context.exit()


_OPTIONS = (
    click.option(
        "--compare",
        is_flag=True,
        help="Train a bounded number of steps under plain python and under nano-run, in turn, "
        "and say what differs. Nothing that the script writes is kept.",
    ),
    click.option("--json", "as_json", is_flag=True, help="With --compare: print JSON."),
    click.option(
        "--tune",
        is_flag=True,
        help="Train the script for a while in several precisions, XLA modes, threads, allocators "
        "and with faster paths left out (also in several steps per execution where "
        "--steps-per-execution allows them), run it in the fastest whose loss is float32's, and "
        "remember that for later runs.",
    ),
    click.option(
        "--tune-budget",
        type=click.FloatRange(5, 86_400),
        default=60.0,
        show_default=True,
        metavar="S",
        help="With --tune: the seconds that the search may take.",
    ),
    click.option(
        "--no-cache", is_flag=True, help="Neither use nor remember what --tune has measured."
    ),
    click.option(
        "--clear-cache",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_clear_cache,
        help="Forget all that --tune has measured, and exit.",
    ),
    click.option(
        "--report",
        metavar="[=FILE]",
        help="Run the script, and tell afterwards on stderr what really happened: step times, "
        "units and kernels, casts, throttling, waiting; FILE.html or FILE.json gets it too.",
    ),
    click.option(
        "--sample-steps",
        type=click.IntRange(12, 100_000),
        default=30,
        show_default=True,
        metavar="N",
        help="With --compare and --report: training steps of one sample.",
    ),
    click.option(
        "--sample-rounds",
        type=click.IntRange(3, 100),
        default=4,
        show_default=True,
        metavar="N",
        help="With --compare: samples of each way; more of them tell smaller differences.",
    ),
    click.option(
        "--sample-seconds",
        type=click.FloatRange(1, 86_400),
        default=60.0,
        show_default=True,
        metavar="S",
        help="With --compare and --report: end a sample after this time, with the steps that it "
        "has made.",
    ),
)

_NAMES = (
    *("compare", "as_json", "tune", "tune_budget", "no_cache", "report"),
    *("sample_steps", "sample_rounds", "sample_seconds"),
)


def evidence_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a click callback the options that measure, as one argument `evidence`.

    Args:
        command: the callback; it gets `evidence`, an EvidenceRequest, or None where nothing is
            to be measured.
    """

    @functools.wraps(command)
    def with_evidence(**given: Any) -> int:
        asked = {name: given.pop(name) for name in _NAMES}
        return command(**given, evidence=_request(asked))

    for option in reversed(_OPTIONS):
        with_evidence = option(with_evidence)
    return with_evidence


def _request(asked: dict[str, Any]) -> EvidenceRequest | None:
    compare, report, tune = asked["compare"], asked["report"], asked["tune"]
    if asked["as_json"] and not compare:
        raise UsageError("--json is the form of a comparison; give --compare with it")
    if compare and (report is not None or tune):
        other = "--tune" if tune else "--report"
        raise UsageError(
            f"--compare keeps nothing that the script writes, and {other} runs it in earnest; "
            "give one"
        )
    if not compare and not tune and report is None and not asked["no_cache"]:
        return None
    return EvidenceRequest(
        compare=compare,
        as_json=asked["as_json"],
        tune=tune,
        tune_budget=asked["tune_budget"],
        use_cache=not asked["no_cache"],
        report=report,
        steps=asked["sample_steps"],
        rounds=asked["sample_rounds"],
        seconds=asked["sample_seconds"],
    )
