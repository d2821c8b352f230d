"""The real reader or the documented grammar of each data format reads back every value."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.errors import UsageError
from nano_init.plan.settings import Setting
from nano_init.shells.formats import FORMATS, render_data

_PLAIN = {"OMP_NUM_THREADS": "2", "KMP_AFFINITY": "granularity=fine,none", "TF_XLA_FLAGS": "-a -b"}

_text = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=15) | st.text(
    "ab'\"\\$#%=\n ({[<", max_size=15
)
_variables = st.dictionaries(
    st.sampled_from(["OMP_A", "KMP_B", "TF_C", "TF_D", "XLA_E"]), _text, max_size=5
)


def _render(output: str, variables: dict[str, str]) -> str:
    return render_data(output, [Setting(n, v, "because") for n, v in variables.items()])


def _without(variables: dict[str, str], characters: str) -> dict[str, str]:
    return {n: re.sub(f"[{characters}]", "", v) for n, v in variables.items()}


@given(_variables)
def test_python_dotenv_reads_dotenv(variables: dict[str, str]) -> None:
    dotenv = pytest.importorskip("dotenv", reason="python-dotenv is not installed")
    variables = {n: re.sub(r"\$+\{", "{", v) for n, v in variables.items()}

    text = _render("dotenv", variables)

    assert dict(dotenv.dotenv_values(stream=io.StringIO(text))) == variables


@given(_variables)
def test_dotenv_has_no_unescaped_special_character(variables: dict[str, str]) -> None:
    """In single quotes only backslash and quote are special, and both are escaped."""
    variables = {n: re.sub(r"\$+\{", "{", v) for n, v in variables.items()}

    text = _render("dotenv", variables)
    entry = re.compile(r"(\w+)=(?:'((?:[^'\\]|\\.)*)'|([\w./:,=+@%-]*))\n", re.S | re.A)

    found = {
        m[1]: re.sub(r"\\(.)", r"\1", m[2], flags=re.S) if m[2] is not None else m[3]
        for m in entry.finditer(text)
    }
    assert found == variables
    assert entry.sub("", text) == ""


def _read_docker(text: str) -> dict[str, str]:
    """docker/cli, pkg/kvfile: lines, leading blanks removed, `#` for comments, split at `=`."""
    lines = [line.lstrip() for line in text.split("\n")]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}


@given(_variables)
def test_docker_reads_each_value_unchanged(variables: dict[str, str]) -> None:
    variables = _without(variables, "\n")

    assert _read_docker(_render("docker", variables)) == variables


def _read_systemd(text: str) -> dict[str, str]:
    """systemd.syntax(7): C escapes in double quotes; systemd.exec(5): %% is a percent sign."""
    head, *lines = text.split("\n")
    assert head == "[Service]"
    assert lines.pop() == ""
    found = {}
    for line in lines:
        quoted = re.fullmatch(r'Environment="((?:[^"\\\n]|\\["\\nt])*)"', line)
        assert quoted, line
        plain = re.sub(
            r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), quoted[1], flags=re.S
        )
        assert "%" not in plain.replace("%%", "")
        name, _, value = plain.replace("%%", "%").partition("=")
        found[name] = value
    return found


@given(_variables)
def test_systemd_quoting_is_read_back(variables: dict[str, str]) -> None:
    variables = _without(variables, "\x01-\x08\x0b-\x1f\x7f")

    assert _read_systemd(_render("systemd", variables)) == variables


def test_systemd_analyze_reports_no_error(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here")
    hard = {**_PLAIN, "TF_A": "a\"b\\c%d$e 'f' #;\tg\nh", "TF_B": ""}
    unit = tmp_path / "nano-init-test.service"
    unit.write_text(_render("systemd", hard) + "ExecStart=/bin/true\n")

    checked = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )

    said = [line for line in checked.stderr.splitlines() if str(unit) in line]
    assert said == []


def _read_github(text: str) -> dict[str, str]:
    """actions/runner, FileCommandManager: NAME=VALUE, or NAME<<END, lines, END."""
    lines = text.split("\n")
    assert lines.pop() == ""
    found = {}
    while lines:
        line = lines.pop(0)
        if "<<" in line.partition("=")[0]:
            name, _, end = line.partition("<<")
            place = lines.index(end)
            found[name] = "\n".join(lines[:place])
            del lines[: place + 1]
        else:
            name, _, found[name] = line.partition("=")
    return found


@given(_variables)
def test_github_lines_and_blocks_are_read_back(variables: dict[str, str]) -> None:
    variables = {n: v.replace("d", "NANO_INIT_END") for n, v in variables.items()}

    assert _read_github(_render("github", variables)) == variables


def _expand_kubernetes(value: str) -> str:
    """k8s.io/kubernetes/third_party/forked/golang/expansion: `$$` is a dollar, `$(X)` a name."""
    assert "$(" not in value.replace("$$", "")
    return value.replace("$$", "$")


@given(_variables)
def test_kubernetes_output_is_valid_yaml(variables: dict[str, str]) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

    read = yaml.safe_load(_render("kubernetes", variables))

    assert variables == {e["name"]: _expand_kubernetes(e["value"]) for e in read["env"]}


@given(_variables)
def test_kubernetes_writes_every_value_as_a_double_quoted_scalar(
    variables: dict[str, str],
) -> None:
    lines = _render("kubernetes", variables).splitlines()
    entry = re.compile(r'    value: "((?:[^"\\]|\\["\\ntr]|\\U[0-9A-F]{8})*)"')

    values = [entry.fullmatch(line) for line in lines if line.startswith("    value:")]

    assert all(values)
    assert len(values) == len(variables)
    assert all(line.isprintable() for line in lines)


def test_conda_output_is_one_command_with_one_word_per_variable() -> None:
    text = _render("conda", _PLAIN)

    assert shlex.split(text) == [
        *("conda", "env", "config", "vars", "set"),
        *(f"{n}={v}" for n, v in _PLAIN.items()),
    ]


@pytest.mark.parametrize(
    ("output", "value", "why"),
    [
        ("docker", "a\nb", "docker cannot represent TF_A='a.nb': it contains a line break"),
        ("docker", "a\rb", "docker cannot represent"),
        ("dotenv", "a${b}", "its readers expand"),
        ("dotenv", "a\rb", "its readers change"),
        ("systemd", "\x01", "it contains a control character"),
        ("conda", "", "it treats an empty value as unset"),
        ("conda", "it's", "it does not escape quotes"),
        ("conda", "$HOME", "it does not escape quotes"),
        ("github", "\udcff", "it is not UTF-8"),
        ("kubernetes", "a\0", "it contains a NUL"),
        ("xml", "a", "the format is 'xml'; give one of conda, docker"),
    ],
)
def test_a_value_that_a_format_cannot_represent_is_rejected(
    output: str, value: str, why: str
) -> None:
    with pytest.raises(UsageError) as caught:
        _render(output, {"TF_A": value})

    assert re.search(why, str(caught.value))


@pytest.mark.parametrize("output", FORMATS)
def test_the_users_values_are_included_and_unset_ones_are_omitted(output: str) -> None:
    text = render_data(
        output,
        [
            Setting("OMP_NUM_THREADS", "7", "yours", "kept"),
            Setting("KMP_BLOCKTIME", None, "because", "unset"),
        ],
    )

    assert "OMP_NUM_THREADS" in text
    assert "KMP_BLOCKTIME" not in text


@pytest.mark.parametrize("output", FORMATS)
def test_no_variables_are_rendered_without_an_error(output: str) -> None:
    assert "OMP" not in render_data(output, [])
