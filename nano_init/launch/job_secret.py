"""The secret of a job: who knows it belongs to the job.

Whoever connects gets a nonce, and gives one. A key of this one connection comes from both and
from the secret, and proves every message in both directions (`link`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat

from nano_init.errors import UsageError
from nano_init.frozen import frozen
from nano_init.protocol.variables import JOB_SECRET_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    Kind = Literal["", "secret", "munge"]

__all__ = ["JobSecret", "connection_key", "make_nonce", "read_job_secret"]

# Whoever hears one handshake can try words at leisure: a secret must not be one.
_SHORTEST, _LONGEST = 16, 4096


@frozen
class JobSecret:
    """What the launchers of a job know and nobody else.

    Args:
        kind: "secret" for one that every host has, "munge" for one that host 0 hands over in a
            credential of MUNGE, "" for none.
        key: the secret; of kind "munge" only host 0 has it before they meet.
        source: where it comes from, for the user.
    """

    kind: Kind = ""
    key: bytes = b""
    source: str = ""


def make_nonce() -> str:
    """Return a number that is used once, as text."""
    return secrets.token_hex(32)


def connection_key(secret: bytes, nonce: str, answer: str) -> bytes:
    """Return the key of one connection.

    Args:
        secret: the job's.
        nonce: the nonce of who has connected.
        answer: that of host 0.
    """
    text = f"nano-run connection {nonce} {answer}".encode()
    return hmac.new(secret, text, hashlib.sha256).digest()


def read_job_secret(path: str, environ: Mapping[str, str]) -> tuple[JobSecret, str]:
    """Return the secret that the user gives, and a warning.

    Args:
        path: the file that it is in; "" for none.
        environ: the environment, which may hold it.

    Returns:
        The secret, of kind "" without one; and one sentence, or "".

    Raises:
        UsageError: there is none in the file, or it is too short.
    """
    if path:
        name = f"--job-secret-file {path!r}"
        return JobSecret("secret", _check(_read(path, name), name), name), _warn(path, name)
    if JOB_SECRET_VARIABLE in environ:
        text = os.fsencode(environ[JOB_SECRET_VARIABLE])
        key = _check(text, JOB_SECRET_VARIABLE)
        return JobSecret("secret", key, JOB_SECRET_VARIABLE), ""
    return JobSecret(), ""


def _read(path: str, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LONGEST + 2)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from error


def _warn(path: str, name: str) -> str:
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if not mode & 0o077:
        return ""
    return f"{name} can be read by others (mode {mode:04o}): chmod 600 makes it yours alone"


def _check(text: bytes, name: str) -> bytes:
    secret = text.strip()
    if _SHORTEST <= len(secret) <= _LONGEST:
        return secret
    raise UsageError(
        f"{name} holds {len(secret)} bytes; give {_SHORTEST} to {_LONGEST} that nobody can guess, "
        "such as what `openssl rand -hex 32` prints"
    )
