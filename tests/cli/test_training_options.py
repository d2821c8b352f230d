"""`nano-run` accepts, shows, completes and checks the options of training."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "s.py").write_text("print('ran')")
    return "s.py"


def payload(printed: str) -> str:
    (line,) = [x for x in printed.splitlines() if x.startswith("export NANO_INIT_PATCH=")]
    return line.partition("=")[2].strip("'")


class TestDisable:
    @pytest.mark.parametrize(
        "options",
        [("--disable", "sgd,adam"), ("--disable=adam", "--disable", "sgd")],
        ids=["with a comma", "repeated"],
    )
    @pytest.mark.parametrize("twin", [{}, {"NANO_RUN_PIN": "0"}], ids=["plain", "by click"])
    def test_names_reach_the_payload_and_the_summary(
        self, nano_run: Run, script: str, options: tuple[str, ...], twin: dict[str, str]
    ) -> None:
        printed = nano_run("--dry-run", "--precision", "float32", *options, script, env=twin)
        assert payload(printed.stdout) == '{"precision": "float32", "disable": ["adam", "sgd"]}'
        assert printed.stdout.startswith("# float32, as requested; without adam, sgd\n")

    def test_an_unknown_name_gets_a_one_line_warning_and_the_script_runs(
        self, nano_run: Run, script: str
    ) -> None:
        result = nano_run("-q", "--disable", "adm,sgd", script)
        assert (result.stdout, result.returncode) == ("ran\n", 0)
        assert result.stderr.startswith("nano-run: warning: 'adm' is not a faster path and cannot")
        assert result.stderr.count("\n") == 1
        assert "# warning: 'adm'" in nano_run("--dry-run", "--disable", "adm", script).stdout

    def test_the_environment_variable_may_contain_commas_and_spaces(
        self, nano_run: Run, script: str
    ) -> None:
        twin = {"NANO_RUN_DISABLE": "adam,sgd rmsprop"}
        printed = nano_run("--dry-run", script, env=twin).stdout
        assert '"disable": ["adam", "rmsprop", "sgd"]' in payload(printed)

    @pytest.mark.parametrize(
        ("typed", "expected"),
        [("ein", "plain,einsum_dense\n"), ("adam,rms", "plain,adam,rmsprop\n"), ("gru,gru", "\n")],
    )
    def test_names_are_completed(self, nano_run: Run, typed: str, expected: str) -> None:
        environment = {
            "_NANO_RUN_COMPLETE": "bash_complete",
            "COMP_WORDS": f"nano-run --disable {typed}",
            "COMP_CWORD": "2",
        }
        assert nano_run(env=environment).stdout == expected

    @pytest.mark.tensorflow
    @pytest.mark.slow
    def test_options_reach_keras(self, nano_run: Run, tmp_path: Path) -> None:
        pytest.importorskip("tensorflow", reason="patches the real Keras")
        (tmp_path / "s.py").write_text(
            "import keras\nprint(hasattr(keras.optimizers.SGD.update_step, '__wrapped__'))\n"
            "print(keras.optimizers.Adam.update_step.is_lazy)"
        )
        assert nano_run("-q", "--disable=sgd", "--lazy-adam", "s.py").stdout == "False\nTrue\n"


class TestSemantics:
    def test_both_options_are_passed_on_and_reported(self, nano_run: Run, script: str) -> None:
        options = ("--precision=float32", "--lazy-adam", "--steps-per-execution", "8")
        printed = nano_run("--dry-run", *options, script).stdout
        assert payload(printed) == (
            '{"precision": "float32", "lazy_adam": true, "steps_per_execution": 8}'
        )
        line = nano_run(*options, script).stderr
        assert line.startswith(
            "nano-run: float32, as requested; lazy Adam; 8 steps per execution; t"
        )

    def test_auto_is_completed(self, nano_run: Run) -> None:
        environment = {
            "_NANO_RUN_COMPLETE": "bash_complete",
            "COMP_WORDS": "nano-run --steps-per-execution a",
            "COMP_CWORD": "2",
        }
        assert nano_run(env=environment).stdout == "plain,auto\n"

    @pytest.mark.parametrize("twin", [{}, {"NANO_RUN_PIN": "0"}], ids=["plain", "by click"])
    def test_an_invalid_number_is_rejected(
        self, nano_run: Run, script: str, twin: dict[str, str]
    ) -> None:
        result = nano_run("--steps-per-execution", "0", script, env=twin)
        assert (result.stdout, result.returncode) == ("", 2)
        assert result.stderr == (
            "nano-run: steps per execution is '0'; give a number from 1 to 1000000\n"
        )

    @pytest.mark.skipif(
        "COVERAGE_PROCESS_CONFIG" in os.environ, reason="coverage itself imports json"
    )
    def test_a_precision_alone_does_not_import_json(self, nano_run: Run, tmp_path: Path) -> None:
        (tmp_path / "s.py").write_text("")
        trace = {"PYTHONPROFILEIMPORTTIME": "1"}
        plain = nano_run("--precision", "float32", "s.py", env=trace).stderr
        lazy = nano_run("--lazy-adam", "--disable", "adam", "s.py", env=trace).stderr
        assert "json" not in plain.partition("as requested")[0]
        assert "| click" not in lazy
