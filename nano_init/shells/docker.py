"""Docker: `docker run --env-file FILE`, and podman's and nerdctl's option of that name."""

from __future__ import annotations

from nano_init.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["render_docker"]


def render_docker(variables: Mapping[str, str]) -> str:
    """Return variables as a file for `docker run --env-file`.

    A line is `NAME=VALUE`; the value is taken as it stands, quotes included.
    Source: https://docs.docker.com/reference/cli/docker/container/run/#env

    Raises:
        UsageError: a value has a line break, for which the file has no spelling.
    """
    for name, value in variables.items():
        if "\n" in value or "\r" in value:
            raise UsageError(f"docker cannot represent {name}={value!r}: it contains a line break")
    return "".join(f"{name}={value}\n" for name, value in variables.items())
