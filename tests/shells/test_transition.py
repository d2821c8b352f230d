"""Entering and leaving as plain data: revert, then apply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.errors import UsageError
from nano_init.plan.settings import Setting
from nano_init.protocol.variables import STATE_VARIABLE
from nano_init.shells.change import Change
from nano_init.shells.transition import Transition, enter, leave, original

NAMES = ("OMP_NUM_THREADS", "KMP_AFFINITY", "KMP_BLOCKTIME", "TF_NUM_INTRAOP_THREADS")

names = st.sampled_from(NAMES)
environs = st.dictionaries(st.sampled_from([*NAMES, "PATH", "HOME"]), st.text("ab'", max_size=2))


def _setting(name: str, value: str | None, kept: bool) -> Setting:
    if kept:
        return Setting(name, value, "because", "kept")
    return Setting(name, value, "because", "unset" if value is None else "set")


settings = st.lists(
    st.builds(_setting, names, st.none() | st.text("ab'", max_size=2), st.just(False)),
    unique_by=lambda setting: setting.name,
)


def _apply(environ: dict[str, str], transition: Transition) -> dict[str, str]:
    after = dict(environ)
    for change in transition.assignments:
        assert after.get(change.name) == change.before
        if change.after is None:
            del after[change.name]
        else:
            after[change.name] = change.after
    return after


@given(environs, settings)
def test_entering_sets_the_planned_values_and_nothing_else(
    environ: dict[str, str], plan: list[Setting]
) -> None:
    entered = _apply(environ, enter(environ, plan))

    expected = {**environ, **{s.name: s.value for s in plan}}
    assert {n: v for n, v in expected.items() if v is not None} == {
        n: v for n, v in entered.items() if n != STATE_VARIABLE
    }


@given(environs, settings)
def test_leaving_restores_the_environment_exactly(
    environ: dict[str, str], plan: list[Setting]
) -> None:
    entered = _apply(environ, enter(environ, plan))

    assert environ == _apply(entered, leave(entered))
    assert environ == original(entered)[0]
    assert leave(entered).notes == ()


@given(environs, settings)
def test_entering_again_changes_nothing(environ: dict[str, str], plan: list[Setting]) -> None:
    entered = _apply(environ, enter(environ, plan))

    assert Transition() == enter(entered, plan)


@given(environs, settings, settings)
def test_entering_a_second_plan_equals_entering_only_that_plan(
    environ: dict[str, str], first: list[Setting], second: list[Setting]
) -> None:
    entered = _apply(environ, enter(environ, first))

    assert _apply(environ, enter(environ, second)) == _apply(entered, enter(entered, second))


@given(environs, settings, names, st.none() | st.text("abc", max_size=2))
def test_a_variable_that_the_user_changed_later_is_kept(
    environ: dict[str, str], plan: list[Setting], name: str, value: str | None
) -> None:
    entered = _apply(environ, enter(environ, plan))
    touched = {change.name for change in enter(environ, plan).assignments}
    edited = {n: v for n, v in entered.items() if n != name}
    if value is not None:
        edited[name] = value
    if edited == entered or name not in touched:
        return

    left = leave(edited)

    assert _apply(edited, left).get(name) == value
    assert len(left.notes) == 1
    assert name in left.notes[0]


@given(environs, settings, st.text("1,=:+-%AOMP_NUM_THREADS", max_size=30))
def test_a_damaged_state_is_dropped_with_a_note(
    environ: dict[str, str], plan: list[Setting], state: str
) -> None:
    hurt = {**environ, STATE_VARIABLE: f"x{state}"}

    entered = enter(hurt, plan)

    assert len(entered.notes) == 1
    assert _apply(hurt, entered) == _apply(environ, enter(environ, plan))
    assert environ == _apply(hurt, leave(hurt))


def test_a_kept_setting_is_neither_changed_nor_recorded() -> None:
    environ = {"OMP_NUM_THREADS": "7"}

    assert Transition() == enter(environ, [_setting("OMP_NUM_THREADS", "7", kept=True)])


def test_leaving_distinguishes_empty_from_unset() -> None:
    environ = {"KMP_AFFINITY": ""}
    plan = [_setting("KMP_AFFINITY", "none", False), _setting("KMP_BLOCKTIME", "1", False)]
    entered = _apply(environ, enter(environ, plan))

    assert environ == _apply(entered, leave(entered))


def test_leaving_without_entering_changes_nothing() -> None:
    assert Transition() == leave({"OMP_NUM_THREADS": "3"})


def test_the_note_about_a_changed_variable_quotes_both_values() -> None:
    entered = _apply({}, enter({}, [_setting("OMP_NUM_THREADS", "2", False)]))

    notes = leave({**entered, "OMP_NUM_THREADS": "8"}).notes

    assert notes == (
        "OMP_NUM_THREADS was changed from '2' to '8' since nano-init set it; it is left as it is",
    )


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("PATH", "/evil", "'PATH' is not a variable that nano-init may change"),
        ("OMP_X;id", "1", "'OMP_X;id' is not a variable"),
        (STATE_VARIABLE + "X", "a\0b", "contains a NUL"),
    ],
)
def test_forbidden_variables_and_values_are_rejected(name: str, value: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        enter({}, [_setting(name, value, False)])


def test_the_state_records_the_original_value_not_that_of_an_earlier_plan() -> None:
    entered = _apply(
        {"OMP_NUM_THREADS": "7"},
        enter({"OMP_NUM_THREADS": "7"}, [_setting("OMP_NUM_THREADS", "2", False)]),
    )

    again = enter(entered, [_setting("OMP_NUM_THREADS", "4", False)])

    assert Change("OMP_NUM_THREADS", "2", "4") in again.assignments
    assert _apply(entered, again)[STATE_VARIABLE] == "1,OMP_NUM_THREADS=+7:+4"


def test_overriding_a_value_that_the_user_changed_gives_no_note() -> None:
    entered = _apply({}, enter({}, [_setting("OMP_NUM_THREADS", "2", False)]))
    edited = {**entered, "OMP_NUM_THREADS": "8"}

    forced = enter(edited, [_setting("OMP_NUM_THREADS", "2", False)])

    assert forced.notes == ()
    assert _apply(edited, forced)[STATE_VARIABLE] == "1,OMP_NUM_THREADS=+8:+2"
