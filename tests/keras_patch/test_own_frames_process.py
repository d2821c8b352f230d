"""An error in the user's code has the same traceback as in plain Python."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 keeps one frame"),
]

SCRIPT = str(Path(__file__).parent / "failing_scripts.py")
# Text that differs between runs, and the dtypes, which mixed_bfloat16 changes.
VARYING = re.compile(
    r"0x[0-9a-f]+|__autograph_generated_file\w+|(?<=_on_iterator_)\d+|(?<=keras_tensor_)\d+|dtype=\w+|MatMul\([^)]*\)"
    r"|\((?:sequential|Cast)[^)]*\)"
)


def tracebacks(result) -> dict[str, str]:
    assert result.returncode == 0, result.stderr
    cases = re.split(r"^===== (\w+)\n", result.stdout, flags=re.MULTILINE)
    return dict(zip(cases[1::2], map(_without_varying, cases[2::2]), strict=True))


def _without_varying(text: str) -> str:
    # The names of oneDNN's kernels, which the environment of the plan switches on.
    return VARYING.sub("?", text.replace("__wrapped____Mkl", "__wrapped__"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory, request):
    """The tracebacks in plain Python."""
    import os
    import subprocess

    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return tracebacks(
        subprocess.run(
            [sys.executable, SCRIPT], env=environ, capture_output=True, text=True, check=False
        )
    )


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_every_failure_has_the_same_traceback_as_in_plain_python(plain, nano_run, precision):
    found = tracebacks(nano_run("--precision", precision, SCRIPT))
    assert len(found) > 25
    assert all("Error" in text for text in plain.values())
    assert [name for name, text in found.items() if "nano_init" in text] == []
    # The stack of its ops begins with frames of Keras, of which there are fewer.
    plain, found = ({**cases, "failing_graph": ""} for cases in (plain, found))
    assert found == plain


def test_all_frames_are_shown_if_the_traceback_filters_are_off(nano_run):
    found = tracebacks(nano_run("--precision", "mixed_bfloat16", SCRIPT, env={"SHOW_ALL": "1"}))
    shown = {name for name, text in found.items() if "nano_init" in text}
    assert {"callback_of_fit", "layer_called_alone", "custom_gradient", "train_step"} <= shown
