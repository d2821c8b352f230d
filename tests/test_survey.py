"""The survey reads the machine, TensorFlow and the user's own environment, each once."""

from __future__ import annotations

from nano_init.plan.settings import Setting
from nano_init.shells.transition import enter
from nano_init.survey import survey, with_allocator


def sourced(environ: dict[str, str]) -> dict[str, str]:
    """Return an environment after `source bigdl-nano-init` has set a variable in it."""
    setting = Setting("OMP_NUM_THREADS", "7", "why")
    changes = enter(environ, (setting,)).assignments
    return {**environ, **{change.name: change.after or "" for change in changes}}


def test_variables_set_by_nano_init_are_not_the_users() -> None:
    environ = {"KMP_BLOCKTIME": "3"}
    assert sourced(environ)["OMP_NUM_THREADS"] == "7"
    assert survey(sourced(environ)).user_environ == environ


def test_an_allocator_is_searched_for_once() -> None:
    surroundings = survey({})
    assert surroundings.libraries == {}
    assert with_allocator(surroundings, "none") is surroundings
    assert with_allocator(surroundings, "evil") is surroundings
    found = with_allocator(surroundings, "jemalloc")
    assert "jemalloc" in found.libraries
    assert with_allocator(found, "jemalloc") is found
