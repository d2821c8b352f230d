"""The fastest sound trial is chosen; losses are compared with those of float32."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nano_init.evidence.tuning.decision import (
    Trial,
    choose,
    is_faithful,
    parse_trial,
    trial_to_json,
)
from nano_init.plan.configuration import Configuration

RECORDINGS = Path(__file__).parent / "tuned"

DEFAULT = Configuration("mixed_bfloat16")
XLA = Configuration("mixed_bfloat16", xla=True)
XLA_INTEROP = Configuration("mixed_bfloat16", xla=True, interop=1)


def trial(configuration: Configuration, *runs: tuple[float, ...], sound: bool = True) -> Trial:
    return Trial(configuration, runs, 0.01, sound)


def test_one_disturbed_round_does_not_change_the_choice() -> None:
    trials = [trial(DEFAULT, (1.0,) * 3), trial(XLA, (0.8, 0.81, 3.0))]
    assert choose(trials, DEFAULT).configuration == XLA


def test_one_lucky_process_does_not_decide_the_choice() -> None:
    """The median of all rounds would hide the slower process, which ran fewer rounds."""
    lucky = trial(XLA, (0.5,) * 5, (1.2,) * 3)
    steady = trial(XLA_INTEROP, (0.75,) * 5, (0.75,) * 3)
    trials = [trial(DEFAULT, (1.0,) * 5, (1.0,) * 3), lucky, steady]
    assert lucky.ratio == pytest.approx((0.5 * 1.2) ** 0.5)
    assert choose(trials, DEFAULT).configuration == XLA_INTEROP


def test_the_simpler_of_equals_is_chosen() -> None:
    trials = [trial(DEFAULT, (1.0,)), trial(XLA, (0.80,)), trial(XLA_INTEROP, (0.79,))]
    assert choose(trials, DEFAULT).configuration == XLA


def test_a_configuration_that_was_dropped_earlier_is_not_chosen_for_its_few_rounds() -> None:
    trials = [
        trial(DEFAULT, (1.0,), (1.0,)),
        trial(XLA, (0.8,), (0.9,)),
        trial(XLA_INTEROP, (0.82,)),
    ]
    assert choose(trials, DEFAULT).configuration == XLA


def test_only_a_noticeable_gain_replaces_the_default() -> None:
    assert choose([trial(DEFAULT, (1.0,)), trial(XLA, (0.98,))], DEFAULT).configuration == DEFAULT
    assert choose([trial(DEFAULT, (1.0,)), trial(XLA, (0.96,))], DEFAULT).configuration == XLA


def test_an_unsound_trial_is_never_chosen() -> None:
    trials = [trial(DEFAULT, (1.0,), sound=False), trial(Configuration(), (2.0,))]
    assert choose(trials, DEFAULT).configuration == Configuration()
    with pytest.raises(ValueError, match="sound"):
        choose(trials[:1], DEFAULT)


def recorded(model: str) -> tuple[list[Trial], Configuration]:
    """Return the trials and the choice of a search on a Zen 4 with AVX512_BF16."""
    entry = json.loads((RECORDINGS / f"{model}.json").read_text())
    return [parse_trial(each) for each in entry["trials"]], Configuration(**entry["winner"])


def test_convolutional_and_recurrent_models_get_their_own_measured_choices() -> None:
    choices = {}
    for model in ("cnn-batchnorm", "lstm"):
        trials, winner = recorded(model)
        choices[model] = choose(trials, DEFAULT).configuration
        assert choices[model] == winner
    assert choices["cnn-batchnorm"] == DEFAULT
    assert choices["lstm"] == Configuration("mixed_bfloat16", threads=1, allocator="jemalloc")


@pytest.mark.parametrize(
    "one", [trial(XLA, (0.8, 0.9), (0.7,)), Trial(XLA, fault="the script failed", is_sound=False)]
)
def test_trials_are_parsed_back(one: Trial) -> None:
    again = parse_trial(json.loads(json.dumps(trial_to_json(one))))
    assert trial_to_json(again) == trial_to_json(one)
    assert again.runs == one.runs


def losses(*values: float, every: int = 1) -> list[tuple[int, float]]:
    return [(every * number, loss) for number, loss in enumerate(values, 1)]


def test_loss_series_of_different_lengths_are_compared_where_they_overlap() -> None:
    long, short = losses(*range(100, 0, -1)), losses(100.0, 99.0, 98.0, 97.0)
    references = [long, losses(*range(101, 1, -1)), losses(*range(99, 0, -1))]
    assert is_faithful(short, references)
    assert not is_faithful(losses(), references)
    assert not is_faithful(short, [])


def test_losses_of_several_steps_per_execution_are_compared_at_the_same_steps() -> None:
    """The losses follow steps 4, 8, 12 and so on; the fourth loss is not that of step 4."""
    references = [losses(*range(start, start - 100, -1)) for start in (100, 101, 99)]
    every_fourth = losses(*range(97, 0, -4), every=4)
    assert is_faithful(every_fourth, references)
    assert not is_faithful(
        [(4 * step, loss - 5) for step, loss in enumerate(range(97, 0, -4), 1)], references
    )
