"""Code for the shells of the POSIX family: sh, bash, zsh, dash, ksh, mksh, busybox.

The code is one compound command, so that a shell reads it whole or not at all, and it
changes everything or nothing: a subshell tries first whether each variable may be changed.
Three facts decide its form:

- A failing special builtin (`export` of a read-only variable) ends dash, ksh and
  `bash --posix`, unless it runs through `command` (POSIX, 2.8.1). In zsh `command` means
  an external program, and `builtin` is what is wanted.
- A backslash keeps aliases of the user away.
- `unset` without -v may remove a function of the same name (POSIX, unset).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.shells.change import Change

__all__ = ["quote_posix", "render_posix", "render_zsh"]


def quote_posix(value: str) -> str:
    """Quote a value for a POSIX shell: in single quotes nothing is special but the quote.

    Source: POSIX.1-2024, Shell Command Language, 2.2.2.
    """
    return "'" + value.replace("'", "'\\''") + "'"


def render_posix(changes: Sequence[Change]) -> str:
    """Return code that makes changes in sh, bash, dash, ksh, mksh or busybox."""
    return _render(changes, "\\command")


def render_zsh(changes: Sequence[Change]) -> str:
    """Return code that makes changes in zsh."""
    return _render(changes, "\\builtin")


def _render(changes: Sequence[Change], prefix: str) -> str:
    if not changes:
        return ""
    probes = " &&\n".join(_probe(change, prefix) for change in changes)
    actions = "\n".join(_action(change, prefix) for change in changes)
    return f"if (\n{probes}\n); then\n{actions}\nelse\n  (\\exit 2)\nfi\n"


def _probe(change: Change, prefix: str) -> str:
    """Try a change in a subshell, and say what stands in the way."""
    name = change.name
    readonly = _refuse(f"{name} is read-only in this shell")
    test = f"  {{ {prefix} unset -v {name} 2>/dev/null || {readonly}; }}"
    if change.before is not None:
        return test
    # A shell variable that is not exported is the user's too, and out of nano-init's sight.
    hidden = _refuse(f"{name} is set but not exported in this shell; export it or unset it")
    return f'  {{ [ -z "${{{name}+x}}" ] || {hidden}; }} &&\n{test}'


def _refuse(why: str) -> str:
    sentence = quote_posix(f"nano-init: nothing was changed: {why}")
    return f"{{ \\printf '%s\\n' {sentence} >&2; \\false; }}"


def _action(change: Change, prefix: str) -> str:
    if change.after is None:
        return f"  {prefix} unset -v {change.name}"
    return f"  {prefix} export {change.name}={quote_posix(change.after)}"
