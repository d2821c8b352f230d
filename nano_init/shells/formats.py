"""Write a plan's variables as data, for programs that are not shells."""

from __future__ import annotations

from nano_init.errors import UsageError
from nano_init.shells.change import Change, check_change
from nano_init.shells.conda import render_conda
from nano_init.shells.docker import render_docker
from nano_init.shells.dotenv import render_dotenv
from nano_init.shells.github import render_github
from nano_init.shells.kubernetes import render_kubernetes
from nano_init.shells.systemd import render_systemd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.plan.settings import Setting

__all__ = ["FORMATS", "render_data"]

_RENDERERS = {
    "conda": render_conda,
    "docker": render_docker,
    "dotenv": render_dotenv,
    "github": render_github,
    "kubernetes": render_kubernetes,
    "systemd": render_systemd,
}

FORMATS = tuple(_RENDERERS)


def render_data(output: str, settings: Sequence[Setting]) -> str:
    """Return a plan's variables in a data format.

    The variables that the user has set himself are among them, because the program that
    reads the data does not have his environment; those that the plan unsets are not.

    Args:
        output: the format's name.
        settings: the plan's settings.

    Raises:
        UsageError: the format is unknown, or cannot represent one of the values.
    """
    if output not in _RENDERERS:
        raise UsageError(f"the format is {output!r}; give one of {', '.join(FORMATS)}")
    variables: dict[str, str] = {}
    for setting in settings:
        if setting.value is not None:
            check_change(Change(setting.name, None, setting.value))
            _check_text(setting.name, setting.value)
            variables[setting.name] = setting.value
    return _RENDERERS[output](variables)


def _check_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"a data format cannot represent {name}={value!r}: it is not UTF-8"
        ) from None
