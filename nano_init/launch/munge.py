"""A secret encoded with MUNGE, for processes of the same user on the same cluster only.

The hosts of a Slurm cluster share MUNGE's key. `munge --restrict-uid` encodes for one user.
`unmunge` decodes for that user, and reports who encoded it (munge(1), unmunge(1)).
"""

from __future__ import annotations

import os
import subprocess

from nano_init.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["has_munge", "seal", "unseal"]

_SECONDS = 10
_LONGEST = 4096


def has_munge(environ: Mapping[str, str]) -> bool:
    """Say whether this host can encode and decode."""
    import shutil

    path = environ.get("PATH")
    return all(shutil.which(name, path=path) for name in ("munge", "unmunge")) and bool(seal(b"-"))


def seal(secret: bytes) -> str:
    """Return a credential with a secret for this user; "" if MUNGE is not running.

    It is valid for five minutes, unless MUNGE is configured otherwise.
    """
    try:
        done = subprocess.run(
            ["munge", f"--restrict-uid={os.getuid()}"],
            input=secret.hex().encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("ascii", "replace").strip()


def unseal(credential: str, name: str) -> bytes:
    """Return the secret in a credential that this user encoded.

    Args:
        credential: the credential.
        name: the sender, for messages.

    Raises:
        LaunchError: it cannot be decoded, or another user encoded it.
    """
    try:
        done = subprocess.run(
            ["unmunge", "--numeric", "--keys=UID"],
            input=credential[:_LONGEST].encode("ascii", "replace"),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LaunchError(f"the credential of {name} cannot be decoded: {error}") from error
    # A credential can be decoded once per host. After that unmunge reports a replay, but still
    # returns the payload.
    head, _, payload = done.stdout.decode("ascii", "replace").partition("\n\n")
    words = head.split()
    try:
        secret = bytes.fromhex(payload.strip())
    except ValueError:
        secret = b""
    if not secret or words[:1] != ["UID:"]:
        reason = " ".join(done.stderr.decode("utf-8", "replace").split()) or "it is empty"
        raise LaunchError(
            f"the credential of {name} cannot be decoded ({reason[:200]}): check that MUNGE's key, "
            "the clock and the user are the same on all hosts, or set NANO_RUN_JOB_SECRET"
        )
    if words[1:2] != [str(os.getuid())]:
        raise LaunchError(f"{name} belongs to another user (uid {' '.join(words[1:])[:40]})")
    return secret
