"""The handshake in which two launchers verify that they belong to the same job.

    the host that connects          host 0
    opening: version, nonce   ->
                              <-    opening: version, nonce, credential if needed
                              <-    "welcome", with its HMAC
    hello, with its HMAC      ->

Without a secret there are no HMACs: any process that reaches the port can join.
"""

from __future__ import annotations

import nano_init
from nano_init.errors import LaunchError
from nano_init.frozen import frozen
from nano_init.launch.job_secret import JobSecret, connection_key, make_nonce
from nano_init.launch.link import ForgedMessageError, ShapelessMessageError
from nano_init.launch.munge import unseal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from nano_init.launch.link import Link

__all__ = [
    "HOW_TO_SHARE",
    "Opening",
    "answer",
    "compare_openings",
    "greet",
    "one_line",
    "read_opening",
]

_PROTOCOL = 3
_FIRST = b"host 0"
_OTHER = b"another host"
_LONGEST_TEXT = 2000
HOW_TO_SHARE = "give all hosts the same secret (--job-secret-file or NANO_RUN_JOB_SECRET)"
_KINDS = {
    "": "no job secret",
    "secret": "a job secret from its user",
    "munge": "its job secret from MUNGE",
}


@frozen
class Opening:
    """The first message of a launcher.

    Args:
        protocol: its protocol version.
        version: its version of nano-init.
        secret: the kind of its job's secret.
        nonce: a number that it uses only once.
        credential: the credential in which host 0 sends the secret; "" for none.
    """

    protocol: int
    version: str
    secret: str
    nonce: str
    credential: str = ""


def one_line(text: object) -> str:
    """Return what another host sent as printable text."""
    shown = "".join(c if c.isprintable() else " " for c in str(text)[:_LONGEST_TEXT])
    return " ".join(shown.split())


def read_opening(message: Mapping[str, Any]) -> Opening | None:
    """Return the opening in a message, or None."""
    names = ("nano-run", "version", "secret", "nonce", "credential")
    fields = [message.get(name, "") for name in names]
    is_number = isinstance(fields[0], int) and not isinstance(fields[0], bool)
    if not is_number or not all(isinstance(field, str) for field in fields[1:]):
        return None
    return Opening(*fields)


def compare_openings(ours: Opening, remote: Opening, us: str, them: str) -> str:
    """Return in one sentence why two launchers do not match; "" if they do.

    Args:
        ours: the opening of this launcher.
        remote: the opening of the other launcher.
        us: the name of this launcher.
        them: the name of the other launcher.
    """
    if ours.protocol != remote.protocol:
        version = one_line(remote.version)[:40] or "an older one"
        return (
            f"the version of nano-init differs: {ours.version} on {us}, {version} on {them}; "
            "install the same version on all hosts"
        )
    if ours.secret != remote.secret:
        remote_kind = _KINDS.get(remote.secret, "an unknown kind of job secret")
        return f"{them} has {remote_kind}, and {us} has {_KINDS[ours.secret]}: {HOW_TO_SHARE}"
    return ""


def answer(link: Link, message: Mapping[str, Any], secret: JobSecret, credential: str) -> str:
    """Answer the opening of a launcher that connected to host 0.

    Args:
        link: the link to that launcher.
        message: its message.
        secret: the job's secret.
        credential: the credential that carries the secret; "" for none.

    Returns:
        Why it does not belong to the job, in one sentence, or "".

    Raises:
        ShapelessMessageError: the message is not an opening.
    """
    remote = read_opening(message)
    if remote is None and {"rank", "ports", "facts"} <= set(message):
        remote = Opening(1, "", secret.kind, "")  # from a nano-init before openings existed
    if remote is None:
        raise ShapelessMessageError(f"{link.name} is not nano-run")
    ours = _opening(secret, credential)
    fault = compare_openings(ours, remote, "this host", link.name)
    if remote.protocol == 1:
        link.send(error=fault)
        return fault
    _send(link, ours)
    if secret.key and not fault:
        link.protect(connection_key(secret.key, remote.nonce, ours.nonce), _FIRST, _OTHER)
        link.send(event="welcome")
    return fault


def greet(link: Link, secret: JobSecret, seconds: float) -> JobSecret | None:
    """Open the conversation with host 0, and verify that it belongs to the job.

    Args:
        link: the link to host 0.
        secret: the job's secret.
        seconds: how long to wait for each answer.

    Returns:
        The job's secret with its key, or None if host 0 has closed the connection.

    Raises:
        LaunchError: it does not belong to this host's job.
        TimeoutError: it does not answer.
    """
    ours = _opening(secret, "")
    _send(link, ours)
    message = link.wait(seconds)
    if message is None:
        return None
    if "error" in message and not secret.kind:
        raise LaunchError(one_line(message["error"]))
    remote = read_opening(message)
    if remote is None:
        raise ShapelessMessageError(f"{link.name} is not nano-run")
    fault = compare_openings(ours, remote, "this host", link.name)
    if fault:
        raise LaunchError(fault)
    if not secret.kind:
        return secret
    key = secret.key or unseal(remote.credential, link.name)
    link.protect(connection_key(key, ours.nonce, remote.nonce), _OTHER, _FIRST)
    try:
        return JobSecret("secret", key) if link.wait(seconds) is not None else None
    except ForgedMessageError:
        link.send(event="refused")  # the wrong HMAC shows host 0 whose secret differs
        raise LaunchError(
            f"{link.name} has another job secret than this host: {HOW_TO_SHARE}"
        ) from None


def _opening(secret: JobSecret, credential: str) -> Opening:
    return Opening(_PROTOCOL, nano_init.__version__, secret.kind, make_nonce(), credential)


def _send(link: Link, opening: Opening) -> None:
    fields = dict(vars(opening))
    link.send(**{"nano-run": fields.pop("protocol"), **fields})
