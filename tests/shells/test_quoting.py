"""Any value reaches the environment of every real shell unchanged and is never run as code."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nano_init.errors import UsageError
from nano_init.shells.change import Change
from nano_init.shells.fish import quote_fish
from nano_init.shells.posix import quote_posix
from nano_init.shells.powershell import quote_powershell
from nano_init.shells.render import SHELLS, render

# How each shell evaluates the file `code`.
_EVALUATE = {
    "bash": 'eval "$(cat code)"',
    "bash-posix": 'eval "$(cat code)"',
    "busybox": 'eval "$(cat code)"',
    "dash": 'eval "$(cat code)"',
    "fish": "cat code | source",
    "ksh93": 'eval "$(cat code)"',
    "mksh": 'eval "$(cat code)"',
    "tcsh": 'eval "`cat code`"',
    "zsh": 'eval "$(cat code)"',
    "zsh-as-sh": 'eval "$(cat code)"',
}
_KIND = {"bash-posix": "bash", "busybox": "sh", "zsh-as-sh": "zsh"}

_NASTY = (
    "",
    " ",
    "'",
    "''",
    "'''",
    "\\",
    "\\'",
    "'\\''",
    "\\\\",
    '"',
    "`id`",
    "$(id)",
    "$HOME",
    "${HOME}",
    "!!",
    "!1",
    "\\!",
    "~",
    "*",
    "a\nb",
    "\n",
    "trailing\n",
    "\t",
    "\r\n",
    "#x",
    "-n",
    "=",
    "a;b&c|d<e>f(g)h{i}j[k]",
    "%s%n%%",
    "caf\u00e9 \u2018\u2019\u201a\u201b \u4e2d \U0001f600",
    "\udcff\udce9",
    "\x01\x07\x1b[31m\x7f",
    "$'\\x41'",
    "@{u}",
)
_bytes = st.lists(st.integers(1, 255), max_size=12).map(lambda b: os.fsdecode(bytes(b)))
_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
_shellish = st.text("'\"\\$`!\n ;#~*?[]{}()<>&|=%^a", max_size=12)
_values = st.lists(_bytes | _text | _shellish, min_size=20, max_size=40)


@pytest.fixture(params=_EVALUATE)
def evaluate(
    request: pytest.FixtureRequest, start_shell: Callable, tmp_path: Path
) -> Callable[[list[str]], list[str]]:
    """Return a function that checks that child processes of a real shell see values unchanged."""
    shell = start_shell(request.param)
    kind = _KIND.get(request.param, request.param)

    def run(values: list[str]) -> list[str]:
        if kind == "tcsh":
            values = [value.replace("\n", " ") for value in values]
        changes = [Change(f"TF_{i}", None, value) for i, value in enumerate(values)]
        (shell.folder / "code").write_bytes(os.fsencode(render(kind, changes)))
        finished = shell.run(_EVALUATE[request.param] + "\nenv -0 >after\n")
        assert (finished.returncode, finished.stdout, finished.stderr) == (0, b"", b"")
        after = shell.environment("after")
        return [os.fsdecode(after[f"TF_{i}".encode()]) for i in range(len(values))]

    def check(values: list[str]) -> None:
        expected = [v.replace("\n", " ") for v in values] if kind == "tcsh" else values

        assert expected == run(values)

    return check


def test_values_that_could_break_quoting_arrive_unchanged(evaluate: Callable) -> None:
    evaluate(list(_NASTY))


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=_values)
def test_any_values_arrive_unchanged(evaluate: Callable, values: list[str]) -> None:
    evaluate(values)


@pytest.mark.parametrize("locale", ["C.UTF-8", "tr_TR.UTF-8", "no_SUCH"])
def test_the_locale_does_not_matter(start_shell: Callable, locale: str) -> None:
    shell = start_shell("bash")
    (shell.folder / "code").write_bytes(
        os.fsencode(render("bash", [Change("TF_A", None, "\udcffI\u0131i\u0130'")]))
    )

    shell.run('eval "$(cat code)"\nenv -0 >after\n', env={"LC_ALL": locale})

    assert os.fsencode("\udcffI\u0131i\u0130'") == shell.environment("after")[b"TF_A"]


def test_removing_a_variable_works_in_every_shell(start_shell: Callable, tmp_path: Path) -> None:
    for name, line in _EVALUATE.items():
        try:
            shell = start_shell(name)
        except pytest.skip.Exception:
            continue
        kind = _KIND.get(name, name)
        (shell.folder / "code").write_text(render(kind, [Change("TF_A", "x", None)]))

        finished = shell.run(line + "\nenv -0 >after\n", env={"TF_A": "x"})

        assert (name, finished.stderr) == (name, b"")
        assert b"TF_A" not in shell.environment("after"), name


def test_csh_rejects_a_line_break_in_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"csh cannot represent 'a.*b': it contains a line break"):
        render("csh", [Change("TF_A", None, "a\nb")])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("it's", "'it''s'"),
        ("\u2018\u2019\u201a\u201b", "'\u2018\u2018\u2019\u2019\u201a\u201a\u201b\u201b'"),
        ('$env:PATH `n "', "'$env:PATH `n \"'"),
        ("", "''"),
    ],
)
def test_powershell_doubles_every_character_that_it_reads_as_a_single_quote(
    value: str, expected: str
) -> None:
    """about_Quoting_Rules: in single quotes only the quote is special, in all its variants."""
    assert expected == quote_powershell(value)


def test_powershell_code_sets_and_removes_variables() -> None:
    code = render("powershell", [Change("TF_A", None, "a'b"), Change("TF_B", "1", None)])

    assert code == "$env:TF_A = 'a''b'\n$env:TF_B = $null\n"


@given(st.text())
def test_a_quoted_value_has_no_unescaped_quote(value: str) -> None:
    assert quote_posix(value).replace("'\\''", "").count("'") == 2
    assert quote_fish(value).replace("\\\\", "").replace("\\'", "").count("'") == 2


@pytest.mark.parametrize("shell", SHELLS)
def test_no_changes_give_no_code(shell: str) -> None:
    assert render(shell, []) == ""


@pytest.mark.parametrize("shell", ["/usr/local/bin/zsh", "-zsh", "zsh.exe"])
def test_a_shell_may_be_given_by_its_path_or_as_a_login_shell(shell: str) -> None:
    changes = [Change("TF_A", None, "1")]

    assert render("zsh", changes) == render(shell, changes)


@pytest.mark.parametrize(
    ("shell", "change", "why"),
    [
        ("elvish", Change("TF_A", None, "1"), "the shell is 'elvish'; give one of ash, bash"),
        ("bash", Change("PATH", "a", "b"), "'PATH' is not a variable that nano-init may change"),
        ("bash", Change("TF_A;id", None, "b"), "'TF_A;id' is not a variable"),
        ("bash", Change("TF_\u00c9", None, "b"), "is not a variable that nano-init may change"),
        ("bash", Change("TF_A", None, "a\0"), "TF_A cannot represent"),
    ],
)
def test_a_change_that_cannot_be_rendered_is_rejected(shell: str, change: Change, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        render(shell, [change])


def test_shellcheck_finds_nothing_in_the_code(tmp_path: Path, start_shell: Callable) -> None:
    import shutil

    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed here")
    code = tmp_path / "code.sh"
    code.write_text(render("sh", [Change("TF_A", None, "it's"), Change("TF_B", "1", None)]))

    finished = subprocess.run(
        ["shellcheck", "--shell=sh", "--severity=style", str(code)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (finished.returncode, finished.stdout) == (0, "")
