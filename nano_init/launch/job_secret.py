"""The secret of a job, which proves that a launcher belongs to it.

Both ends of a connection exchange nonces. The key of the connection is derived from both nonces
and the secret, and authenticates every message in both directions (`link`).
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

# An eavesdropper on a handshake can test guesses offline, so a secret must be long.
_SHORTEST, _LONGEST = 16, 4096


@frozen
class JobSecret:
    """A secret that only the launchers of a job know.

    Args:
        kind: "secret" if every host has it, "munge" if host 0 sends it in a MUNGE credential,
            "" for none.
        key: the secret; with kind "munge" only host 0 has it before the handshake.
        source: where it comes from, for messages.
    """

    kind: Kind = ""
    key: bytes = b""
    source: str = ""


def make_nonce() -> str:
    """Return a number to be used once, as text."""
    return secrets.token_hex(32)


def connection_key(secret: bytes, nonce: str, answer: str) -> bytes:
    """Return the key of one connection.

    Args:
        secret: the job's secret.
        nonce: the nonce of the host that connected.
        answer: the nonce of host 0.
    """
    text = f"nano-run connection {nonce} {answer}".encode()
    return hmac.new(secret, text, hashlib.sha256).digest()


def read_job_secret(path: str, environ: Mapping[str, str]) -> tuple[JobSecret, str]:
    """Return the secret that the user gave, and a warning.

    Args:
        path: the file that holds it; "" for none.
        environ: the environment, which may hold it.

    Returns:
        The secret, with kind "" if there is none; and a warning in one sentence, or "".

    Raises:
        UsageError: the file cannot be read, or the secret is too short or too long.
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
    return f"{name} can be read by other users (mode {mode:04o}): run chmod 600 on it"


def _check(text: bytes, name: str) -> bytes:
    secret = text.strip()
    if _SHORTEST <= len(secret) <= _LONGEST:
        return secret
    raise UsageError(
        f"{name} holds {len(secret)} bytes; give {_SHORTEST} to {_LONGEST} random bytes, "
        "such as the output of `openssl rand -hex 32`"
    )
