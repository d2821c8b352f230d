"""A script that fails under a precision chosen by nano-run gets a hint in its last line."""

from __future__ import annotations

import pytest

from nano_init.protocol.programs import BOOTSTRAP_FOLDER

LINE = "if that is the cause, use `nano-run --precision float32`"


@pytest.fixture
def run(python, environ):
    path = f"{BOOTSTRAP_FOLDER}:{environ['PYTHONPATH']}"

    def run(code, patch):
        return python("-c", code, env={"PYTHONPATH": path, "NANO_INIT_PATCH": patch})

    return run


CHOSEN = '{"precision": "mixed_bfloat16", "is_chosen": true}'


def test_the_hint_follows_the_traceback_and_the_exit_status_is_kept(run):
    done = run("import keras\nraise ValueError('mine')", CHOSEN)
    assert done.returncode == 1
    *_, last, line = done.stderr.splitlines()
    assert last == "ValueError: mine"
    assert line.endswith(LINE)


@pytest.mark.parametrize(
    ("code", "patch"),
    [
        ("import keras\nraise ValueError('mine')", '{"precision": "mixed_bfloat16"}'),
        ("raise ValueError('before Keras is imported')", CHOSEN),
        ("import keras\nraise SystemExit(3)", CHOSEN),
        ("import keras\nraise KeyboardInterrupt", CHOSEN),
        ("import keras", CHOSEN),
    ],
)
def test_there_is_no_hint_if_the_precision_cannot_be_the_cause(run, code, patch):
    assert LINE not in run(code, patch).stderr
