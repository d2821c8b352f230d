"""The command and its environment are values, computed before anything starts."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from nano_init.errors import LaunchError
from nano_init.launch.command import Command, format_command, prepare_command
from nano_init.plan.settings import Plan, PrecisionChoice, Setting, ThreadCount
from nano_init.protocol.patch_options import PatchOptions
from nano_init.protocol.programs import BOOTSTRAP_FOLDER
from nano_init.protocol.target import Target
from nano_init.protocol.variables import PATCH_VARIABLE
from nano_init.shells.transition import original

PLAN = Plan(
    ThreadCount(2, "2"),
    PrecisionChoice("float32", "why"),
    (
        Setting("OMP_NUM_THREADS", "2", "why"),
        Setting("KMP_BLOCKTIME", "9", "your own value", "kept"),
    ),
)


def prepare(environ: dict[str, str], bootstrap: str = BOOTSTRAP_FOLDER) -> Command:
    target, patch = Target("a.py", ("x y",)), PatchOptions("mixed_bfloat16")
    return prepare_command(target, PLAN, patch, environ, "/bin/python", bootstrap)


def test_the_command_is_the_interpreter_the_script_and_its_arguments() -> None:
    assert prepare({}).argv == ("/bin/python", "a.py", "x y")


def test_only_variables_of_the_plan_are_set() -> None:
    environment = prepare({}).environment({"KMP_BLOCKTIME": "9", "HOME": "/h"})
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["KMP_BLOCKTIME"] == "9"
    assert environment["HOME"] == "/h"


def test_the_patch_options_are_passed_as_json() -> None:
    assert json.loads(prepare({}).variables[PATCH_VARIABLE]) == {"precision": "mixed_bfloat16"}


def test_layer_patterns_are_escaped() -> None:
    patterns = ('he"ad*', "back\\slash", "größe")
    patch = PatchOptions("mixed_bfloat16", patterns)
    command = prepare_command(Target("a.py"), PLAN, patch, {}, "/bin/python")
    assert json.loads(command.variables[PATCH_VARIABLE]) == {
        "precision": "mixed_bfloat16",
        "keep_float32": list(patterns),
    }


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, [BOOTSTRAP_FOLDER]),
        ("", [BOOTSTRAP_FOLDER]),
        ("/a:/b", [BOOTSTRAP_FOLDER, "/a", "/b"]),
        (f"{BOOTSTRAP_FOLDER}:/a", [BOOTSTRAP_FOLDER, "/a"]),
        ("/a::/b", [BOOTSTRAP_FOLDER, "/a", "", "/b"]),
        (":", [BOOTSTRAP_FOLDER, "", ""]),
    ],
)
def test_the_bootstrap_folder_is_prepended_once_to_the_users_pythonpath(
    own: str | None, expected: list[str]
) -> None:
    environ = {} if own is None else {"PYTHONPATH": own.replace(":", os.pathsep)}
    assert prepare(environ).variables["PYTHONPATH"].split(os.pathsep) == expected


def test_an_installation_path_that_pythonpath_cannot_contain_is_rejected() -> None:
    with pytest.raises(LaunchError, match="PYTHONPATH cannot contain a path with ':'"):
        prepare({}, bootstrap="/a:b/bootstrap")


def test_a_shell_reads_the_same_variables_from_the_printed_command() -> None:
    command = Command(("/usr/bin/env",), {"A": "it's $HOME\n`x`", "B": ""})
    output = subprocess.run(
        ["sh"], input=format_command(command), text=True, capture_output=True, check=True
    ).stdout
    assert "A=it's $HOME\n`x`\n" in output
    assert "\nB=\n" in output


def test_reverting_removes_the_plans_variables_and_keeps_the_users() -> None:
    reverted, notes = original(prepare({}).environment({"KMP_BLOCKTIME": "9"}))
    assert "OMP_NUM_THREADS" not in reverted
    assert reverted["KMP_BLOCKTIME"] == "9"
    assert notes == ()
