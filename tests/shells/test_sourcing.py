"""Sourcing in the real shells: set the variables, restore them, and leave nothing behind."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ENTER = ". bigdl-nano-init\n"
LEAVE = ". bigdl-nano-unset-env\n"

# --force overrides all of these, so each must be restored byte for byte.
HARD_VALUES = {
    "KMP_AFFINITY": 'it\'s "a" $(id) `id` \\ \n last\n',
    "KMP_BLOCKTIME": "",
    "OMP_NUM_THREADS": "7",
    "TF_ENABLE_ONEDNN_OPTS": "'",
}


def _quiet(finished: subprocess.CompletedProcess[bytes]) -> None:
    assert (finished.stderr, finished.stdout, finished.returncode) == (b"", b"", 0)


def test_sourcing_sets_the_variables_silently(shell) -> None:
    _quiet(shell.run("env -0 >before\n" + ENTER + "[ $? = 0 ] || exit 9\nenv -0 >after\n"))

    before, after = shell.environment("before"), shell.environment("after")
    assert before.items() <= after.items()
    assert {b"OMP_NUM_THREADS", b"TF_NUM_INTRAOP_THREADS", b"NANO_INIT_STATE"} <= after.keys()


def test_leaving_restores_the_environment_byte_for_byte(shell) -> None:
    code = "env -0 >before\n" + ENTER + "env -0 >between\n" + LEAVE + "env -0 >after\n"

    _quiet(shell.run(code, env={**HARD_VALUES, "NANO_INIT_ARGS": "--force"}))

    assert shell.environment("between") != shell.environment("before")
    assert shell.environment("after") == shell.environment("before")
    for name, value in HARD_VALUES.items():
        assert shell.environment("between")[name.encode()] != value.encode()


def test_sourcing_twice_equals_sourcing_once(shell) -> None:
    _quiet(shell.run(ENTER + "env -0 >once\n" + ENTER + "env -0 >twice\n"))

    assert shell.environment("once") == shell.environment("twice")


def test_sourcing_again_with_other_options_equals_sourcing_with_only_those(shell) -> None:
    alone = "(NANO_INIT_ARGS='--threads 1'\n" + ENTER + "unset NANO_INIT_ARGS; env -0 >alone)\n"
    after = ENTER + "NANO_INIT_ARGS='--threads 1'\n" + ENTER + "unset NANO_INIT_ARGS\n"

    _quiet(shell.run(alone + after + "env -0 >after\n"))

    assert shell.environment("after") == shell.environment("alone")
    assert shell.environment("after")[b"OMP_NUM_THREADS"] == b"1"


def test_the_state_survives_into_child_shells(shell) -> None:
    child = shell.folder / "child.sh"
    child.write_text(LEAVE + "env -0 >after\n")
    command = " ".join(f"'{word}'" for word in shell.command)

    _quiet(shell.run(f"env -0 >before\n{ENTER}{command} ./child.sh\n"))

    assert shell.environment("after") == shell.environment("before")


def test_leaving_without_entering_does_not_start_nano_init(shell) -> None:
    _quiet(shell.run("PATH=/usr/bin:/bin\n. " + _quoted(shell, "bigdl-nano-unset-env")))


def test_the_callers_arguments_are_neither_read_nor_changed(shell) -> None:
    code = (
        f"f() {{ {ENTER} }}\n{ENTER}f --in-function 9\n{LEAVE}"
        "[ \"$#:$1:$2:$3\" = '3:--help:-o:*' ]\n"
    )

    _quiet(shell.run(code, "--help", "-o", "*"))


def test_a_sourced_script_may_source(shell) -> None:
    (shell.folder / "setup.sh").write_text("shift 2\n" + ENTER)

    _quiet(shell.run('. ./setup.sh\n[ -n "$NANO_INIT_STATE" ]\n', "--threads", "many"))


def test_both_files_work_by_path_without_commands_on_path(shell) -> None:
    """The name of the folder contains a blank, both quotes and a dollar."""
    code = (
        f"PATH=/usr/bin:/bin\nenv -0 >before\n. {_quoted(shell, 'bigdl-nano-init')}\n"
        f'[ -n "$NANO_INIT_STATE" ] || exit 9\n. {_quoted(shell, "bigdl-nano-unset-env")}\n'
        "env -0 >after\n"
    )

    _quiet(shell.run(code))

    assert shell.environment("after") == shell.environment("before")


@pytest.mark.parametrize("flags", ["eu", "eu-pipefail", "noclobber", "noglob", "IFS", "a"])
def test_unusual_shell_options_change_nothing(shell, flags: str) -> None:
    lines = {
        "eu": "set -eu",
        "eu-pipefail": "set -eu; (set -o pipefail) 2>/dev/null && set -o pipefail",
        "noclobber": "set -o noclobber",
        "noglob": "set -o noglob",
        "IFS": "IFS='_0123456789-= aeintx'",
        "a": "set -o allexport",
    }
    # ksh93 itself exports IFS at the first command substitution under allexport.
    start = f'{lines[flags]}\n: "$(:)"\nenv -0 >before\n'
    code = f"{start}{ENTER}env -0 >between\n{LEAVE}env -0 >after\n"

    _quiet(shell.run(code))

    assert shell.environment("after") == shell.environment("before")
    assert b"OMP_NUM_THREADS" in shell.environment("between")


def test_user_aliases_have_no_effect(shell) -> None:
    words = "builtin command emulate eval exit export printf read readlink set shift unalias unset"
    aliases = "".join(f"alias {word}='echo hijacked'\n" for word in words.split())
    code = (
        f"shopt -s expand_aliases 2>/dev/null\n{aliases}alias nano-init='echo hijacked'\n"
        f"env -0 >before\n{ENTER}env -0 >between\n{LEAVE}env -0 >after\n"
    )

    _quiet(shell.run(code))

    assert b"OMP_NUM_THREADS" in shell.environment("between")
    assert shell.environment("after") == shell.environment("before")


# Function names that a user may define in each shell; in ksh93, unset -f drops the command too.
_FUNCTIONS = {
    "bash": "command exit export nano-init printf python3 read readlink shift unalias unset",
    "bash-posix": "command printf python3 read readlink unalias",
    "busybox": "command printf python3 read readlink",
    "dash": "command printf python3 read readlink",
    "mksh": "command exit export nano-init printf python3 read readlink shift unset",
    "zsh": "command emulate exit export nano-init printf python3 read readlink shift unset",
    "zsh-as-sh": "command emulate exit export nano-init printf python3 read readlink shift unset",
}


@pytest.mark.parametrize("name", _FUNCTIONS)
def test_user_functions_have_no_effect(start_shell: Callable, name: str) -> None:
    shell = start_shell(name)
    names = _FUNCTIONS[name].split()
    # shift may not succeed: the loops that rely on it would never end.
    functions = "".join(f"{word}() {{ /bin/echo hijacked; return 1; }}\n" for word in names)
    code = (
        f"{functions}/usr/bin/env -0 >before\n{ENTER}/usr/bin/env -0 >between\n{LEAVE}"
        "/usr/bin/env -0 >after\nprintf\n"
    )

    finished = shell.run(code)

    assert (finished.stdout, finished.stderr) == (b"hijacked\n", b"")
    assert b"OMP_NUM_THREADS" in shell.environment("between")
    assert shell.environment("after") == shell.environment("before")


def test_user_traps_neither_fire_nor_vanish(shell) -> None:
    finished = shell.run(f"trap 'echo ended' EXIT\ntrap 'echo err' ERR 2>/dev/null\n{ENTER}{LEAVE}")

    assert (finished.stdout, finished.stderr) == (b"ended\n", b"")


_DUMPS = {
    "bash": "set; shopt; set +o; alias; trap; declare -F",
    "bash-posix": "set; shopt; set +o; alias; trap; declare -F",
    "busybox": "set; set +o; alias; trap",
    "dash": "set; set +o; alias; trap",
    "ksh93": "set; set +o; alias; trap; typeset +f",
    "mksh": "set; set +o; alias; trap; typeset +f",
    "zsh": "set; setopt; alias; trap; typeset +f",
    "zsh-as-sh": "set; setopt; alias; trap; typeset +f",
}
# Variables that shells change themselves between commands.
_VOLATILE = re.compile(
    r"(_|\w*LINENO|RANDOM|SRANDOM|SECONDS|EPOCH\w+|PPID|BASH\w*|PIPESTATUS|pipestatus|status"
    r"|\?|.*stack|FUNCNAME|KSH_VERSION|\.sh\..*|TTYIDLE|funcfiletrace|.*trace|HISTCMD|OPTIND)="
)


def test_no_name_option_alias_or_trap_is_left_behind(shell) -> None:
    dump = f"{{ {_DUMPS[shell.name]}; }}"
    code = f"{dump} >d0\n{dump} >d1\n{ENTER}{dump} >d2\n{LEAVE}{dump} >d3\n"
    _quiet(shell.run(code, env={"KMP_BLOCKTIME": "1"}))

    def lines(name: str) -> set[str]:
        text = (shell.folder / name).read_text(errors="replace")
        return {line for line in text.splitlines() if not _VOLATILE.match(line)}

    planned = re.compile(r"(export )?(OMP|KMP|TF|NANO_INIT)_\w+=")
    assert {line for line in lines("d2") - lines("d1") if not planned.match(line)} == set()
    assert lines("d1") == lines("d3")


def test_verbose_shows_the_table_on_stderr_only(shell) -> None:
    finished = shell.run("NANO_INIT_ARGS=-v\n" + ENTER)

    assert (finished.returncode, finished.stdout) == (0, b"")
    assert b"OMP_NUM_THREADS" in finished.stderr


@pytest.mark.parametrize("locale", ["tr_TR.UTF-8", "de_DE.ISO-8859-1", "no_SUCH"])
def test_the_locale_does_not_matter(shell, locale: str) -> None:
    """Shells may complain when a missing locale is set; that output is discarded."""
    code = (
        f"{{ LC_ALL={locale}; export LC_ALL; }} 2>/dev/null\n"
        f"env -0 >before\n{ENTER}env -0 >between\n{LEAVE}env -0 >after\n"
    )

    _quiet(shell.run(code))

    assert shell.environment("after") == shell.environment("before")
    assert shell.environment("between")[b"OMP_NUM_THREADS"].isdigit()


@pytest.mark.parametrize("name", ["bash", "bash-posix", "zsh", "zsh-as-sh"])
def test_arguments_after_the_file_name_are_read_in_bash_and_zsh(
    start_shell: Callable, name: str
) -> None:
    shell = start_shell(name)
    code = (
        "f() { . bigdl-nano-init --threads 1; }\nf x y\n[ $OMP_NUM_THREADS = 1 ] || exit 7\n"
        f"{LEAVE}. bigdl-nano-init --threads=1\n[ $OMP_NUM_THREADS = 1 ] || exit 8\n"
        "NANO_INIT_ARGS=--force; export OMP_NUM_THREADS=9\n. bigdl-nano-init --threads 1\n"
        "[ $OMP_NUM_THREADS = 1 ] || exit 9\n"
    )

    _quiet(shell.run(code, "--threads", "many"))


_ZSH_OPTIONS = (
    "warn_create_global ksh_arrays sh_word_split glob_subst null_glob no_unset err_return "
    "posix_builtins rc_quotes csh_null_glob extended_glob ksh_typeset local_options "
    "no_function_argzero ignore_close_braces warn_nested_var no_multios"
)


@pytest.mark.parametrize("option", _ZSH_OPTIONS.split())
def test_zsh_options_have_no_effect_in_a_function(start_shell: Callable, option: str) -> None:
    shell = start_shell("zsh")
    code = f"f() {{\nsetopt {option}\n{ENTER}}}\nf a b\nenv -0 >between\n{LEAVE}env -0 >after\n"

    _quiet(shell.run("env -0 >before\n" + code))

    assert b"OMP_NUM_THREADS" in shell.environment("between")
    assert shell.environment("after") == shell.environment("before")


def test_an_interactive_bash_stays_usable(start_shell: Callable, bin_folder: Path) -> None:
    shell = start_shell("bash")
    finished = subprocess.run(
        ["bash", "--norc", "--noprofile", "-i"],
        input=b"PS1=; HISTFILE=\n. bigdl-nano-init\necho $?:$OMP_NUM_THREADS!!\nexit\n",
        env=dict(shell.environ),
        cwd=shell.folder,
        capture_output=True,
        check=False,
    )

    assert re.search(rb"^0:\d+", finished.stdout, re.M)
    assert b"nano" not in finished.stderr.replace(b". bigdl-nano-init", b"")


def _quoted(shell, name: str) -> str:
    """Return the path of a file next to nano-init, quoted for a POSIX shell."""
    path = shell.environ["PATH"].split(":")[0] + "/" + name
    return "'" + path.replace("'", "'\\''") + "'"
