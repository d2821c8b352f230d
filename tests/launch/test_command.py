"""The environment and the command are values, computed before anything is started."""

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


def test_only_what_the_plan_sets_is_set() -> None:
    environment = prepare({}).environment({"KMP_BLOCKTIME": "9", "HOME": "/h"})
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["KMP_BLOCKTIME"] == "9"
    assert environment["HOME"] == "/h"


def test_what_the_bootstrap_does_is_json() -> None:
    assert json.loads(prepare({}).variables[PATCH_VARIABLE]) == {"precision": "mixed_bfloat16"}


def test_patterns_of_layers_are_escaped() -> None:
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
def test_the_users_pythonpath_stays_in_force_and_ours_stands_once(
    own: str | None, expected: list[str]
) -> None:
    environ = {} if own is None else {"PYTHONPATH": own.replace(":", os.pathsep)}
    assert prepare(environ).variables["PYTHONPATH"].split(os.pathsep) == expected


def test_an_installation_that_pythonpath_cannot_name_is_refused() -> None:
    with pytest.raises(LaunchError, match="PYTHONPATH cannot contain a path with ':'"):
        prepare({}, bootstrap="/a:b/bootstrap")


def test_the_printed_command_does_in_a_shell_what_nano_run_does() -> None:
    command = Command(("/usr/bin/env",), {"A": "it's $HOME\n`x`", "B": ""})
    output = subprocess.run(
        ["sh"], input=format_command(command), text=True, capture_output=True, check=True
    ).stdout
    assert "A=it's $HOME\n`x`\n" in output
    assert "\nB=\n" in output


def test_what_is_set_is_recorded_so_that_it_can_be_told_from_the_users_own() -> None:
    reverted, notes = original(prepare({}).environment({"KMP_BLOCKTIME": "9"}))
    assert "OMP_NUM_THREADS" not in reverted
    assert reverted["KMP_BLOCKTIME"] == "9"
    assert notes == ()
