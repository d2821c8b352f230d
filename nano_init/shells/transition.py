"""What to change in an environment to enter a plan, or to leave it. Pure: data in, data out.

Entering first takes back, in thought, what an earlier plan changed, and then applies the
new plan to that. Entering twice is therefore entering once, and entering with other
options gives what those options alone give. (direnv's revert-then-apply; unlike direnv, a
variable that the user has changed since is left as it is.)
"""

from __future__ import annotations

from nano_init.errors import StateError
from nano_init.frozen import frozen
from nano_init.protocol.variables import STATE_VARIABLE
from nano_init.shells.change import Change, check_change
from nano_init.shells.undo_state import format_state, parse_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nano_init.plan.settings import Setting

__all__ = ["Transition", "enter", "leave", "original", "take_back"]


@frozen
class Transition:
    """The way from one environment to another.

    Args:
        assignments: the variables that differ, NANO_INIT_STATE among them.
        notes: sentences that the user should read.
    """

    assignments: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()


def original(environ: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return an environment without what nano-init changed in it, and notes for the user.

    A variable that no longer has the value that nano-init gave it belongs to the user: it
    stays, and a note says so. A damaged NANO_INIT_STATE is dropped with a note, and all
    that stands in the environment counts as the user's.

    Args:
        environ: the environment, which is not changed.
    """
    reverted, overridden, notes = _revert(environ)
    return reverted, (*notes, *_left_alone(overridden, reverted))


def enter(environ: Mapping[str, str], settings: Sequence[Setting]) -> Transition:
    """Return what to change so that an environment holds a plan's settings, and nothing else.

    Args:
        environ: the environment, with or without an earlier plan in it.
        settings: the plan's settings, decided for `original(environ)`.

    Raises:
        UsageError: a setting names a variable that nano-init must not change, or its value
            cannot stand in an environment.
    """
    start, overridden, notes = _revert(environ)
    changes = tuple(
        Change(s.name, start.get(s.name), s.value)
        for s in settings
        if s.status != "kept" and s.value != start.get(s.name)
    )
    for change in changes:
        check_change(change)
    goal = dict(start)
    for change in changes:
        _assign(goal, change.name, change.after)
    if changes:
        goal[STATE_VARIABLE] = format_state(changes)
    forced = {change.name for change in changes}
    alone = _left_alone([change for change in overridden if change.name not in forced], start)
    return Transition(_differences(environ, goal), (*notes, *alone))


def leave(environ: Mapping[str, str]) -> Transition:
    """Return what to change so that an environment is as it was before nano-init."""
    goal, notes = original(environ)
    return Transition(_differences(environ, goal), notes)


def take_back(
    environ: Mapping[str, str], changes: Iterable[Change]
) -> tuple[dict[str, str], list[Change]]:
    """Return an environment without some changes, and those that the user has overridden.

    Args:
        environ: the environment, in which they were made.
        changes: the changes.
    """
    reverted, overridden = dict(environ), []
    for change in changes:
        now = reverted.get(change.name)
        if now == change.after:
            _assign(reverted, change.name, change.before)
            continue
        rest = _without_ours(change, now)
        if rest == now:
            overridden.append(change)
        _assign(reverted, change.name, rest)
    return reverted, overridden


def _revert(
    environ: Mapping[str, str],
) -> tuple[dict[str, str], list[Change], tuple[str, ...]]:
    """Return the original environment, the changes that the user overrode, and notes."""
    reverted = dict(environ)
    text = reverted.pop(STATE_VARIABLE, None)
    if text is None:
        return reverted, [], ()
    try:
        changes = parse_state(text)
    except StateError as error:
        return reverted, [], (f"{error}; starting from the current environment",)
    return *take_back(reverted, changes), ()


def _without_ours(change: Change, now: str | None) -> str | None:
    """Take what nano-init added out of a list that the user has changed since."""
    if change.name != "LD_PRELOAD" or now is None:
        return now
    from nano_init.shells.preload import remove_added

    return remove_added(change.before, change.after, now)


def _differences(environ: Mapping[str, str], goal: Mapping[str, str]) -> tuple[Change, ...]:
    names: Iterable[str] = dict.fromkeys((*goal, *environ))
    pairs = (Change(name, environ.get(name), goal.get(name)) for name in names)
    return tuple(pair for pair in pairs if pair.before != pair.after)


def _assign(environ: dict[str, str], name: str, value: str | None) -> None:
    if value is None:
        environ.pop(name, None)
    else:
        environ[name] = value


def _left_alone(changes: Iterable[Change], environ: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(
        f"{change.name} was changed from {_shown(change.after)} to "
        f"{_shown(environ.get(change.name))} since nano-init set it; it is left as it is"
        for change in changes
    )


def _shown(value: str | None) -> str:
    return "unset" if value is None else repr(value)
