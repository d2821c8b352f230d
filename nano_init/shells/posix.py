"""Code for the shells of the POSIX family: sh, bash, zsh, dash, ksh, mksh, busybox.

The code is one compound command, so that a shell reads it whole or not at all, and it
changes everything or nothing: a subshell tries first whether each variable may be changed
(its loops run over the positional parameters, because zsh may warn of new variables). Three
facts decide its form:

- A failing special builtin (`unset` of a read-only variable) ends dash, ksh and
  `bash --posix`, unless it runs through `command` (POSIX, 2.8.1). In zsh `command` means
  an external program.
- A backslash keeps aliases of the user away. His functions come before everything else in
  bash and zsh, where `builtin` passes them by, and after the special builtins in the other
  shells (POSIX, 2.9.1.4). The subshell forgets those that bear the name of what it uses; not
  in ksh93, where `unset -f` removes the command of that name too.
- `unset` without -v may remove a function of the same name (POSIX, unset).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.shells.change import Change

__all__ = ["quote_posix", "render_bash", "render_ksh", "render_posix", "render_zsh"]


def quote_posix(value: str) -> str:
    """Quote a value for a POSIX shell: in single quotes nothing is special but the quote.

    Source: POSIX.1-2024, Shell Command Language, 2.2.2.
    """
    return "'" + value.replace("'", "'\\''") + "'"


def render_posix(changes: Sequence[Change]) -> str:
    """Return code that makes changes in sh, dash, mksh or busybox."""
    return _render(changes, "\\", _UNSET, "\\unset -f command printf")


def render_ksh(changes: Sequence[Change]) -> str:
    """Return code that makes changes in ksh."""
    return _render(changes, "\\", _UNSET, "")


def render_bash(changes: Sequence[Change]) -> str:
    """Return code that makes changes in bash."""
    return _render(changes, "\\builtin ", _UNSET, _FORGET)


def render_zsh(changes: Sequence[Change]) -> str:
    """Return code that makes changes in zsh."""
    # Unsetting a read-only variable ends a subshell of zsh: it is asked for its type instead.
    writable = '\\eval "case \\${(t)$1-} in (*readonly*) \\\\false ;; esac"'
    return _render(changes, "\\builtin ", writable, _FORGET)


_UNSET = '\\command unset -v "$1" 2>/dev/null'
_FORGET = "\\builtin unset -f command eval exit false printf set shift unset"


def _render(changes: Sequence[Change], prefix: str, writable: str, forget: str) -> str:
    if not changes:
        return ""
    # A shell variable that is not exported is the user's too, and out of nano-init's sight.
    new = [change.name for change in changes if change.before is None]
    absent = '\\eval "[ -z \\"\\${$1+x}\\" ]"'
    trials = (
        *([f"  {forget} 2>/dev/null"] if forget else []),
        *_trial(new, absent, "set but not exported; export it or unset it"),
        *_trial([change.name for change in changes], writable, "read-only"),
    )
    actions = (_action(change, prefix) for change in changes)
    return "\n".join(("if (", *trials, "); then", *actions, "else", "  (\\exit 2)", "fi", ""))


def _trial(names: Sequence[str], test: str, fault: str) -> tuple[str, ...]:
    """Return the lines of a subshell that ends where a test fails for one of some names."""
    if not names:
        return ()
    return (
        f"  \\set -- {' '.join(names)}",
        '  while [ "$#" -gt 0 ]; do',
        f"    {test} || {{",
        f"      \\printf 'nano-init: nothing was changed: %s is {fault}\\n' \"$1\" >&2",
        "      \\exit 2",
        "    }",
        "    \\shift",
        "  done",
    )


def _action(change: Change, prefix: str) -> str:
    if change.after is None:
        return f"  {prefix}unset -v {change.name}"
    return f"  {prefix}export {change.name}={quote_posix(change.after)}"
