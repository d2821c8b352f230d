"""`nano-run` reports what it chose, and rejects bad input in one sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "s.py").write_text("print('ran')")
    return "s.py"


class TestSummary:
    def test_one_line_reports_precision_and_threads_with_their_reasons(
        self, nano_run: Run, script: str
    ) -> None:
        result = nano_run(script)
        assert result.stdout == "ran\n"
        (line,) = [x for x in result.stderr.splitlines() if "warning" not in x]
        assert line.startswith(("nano-run: float32: ", "nano-run: mixed_bfloat16: "))
        assert "; threads " in line

    def test_quiet_prints_nothing(self, nano_run: Run, script: str) -> None:
        assert nano_run("--quiet", script).stderr == ""
        assert nano_run("-q", script).stderr == ""

    def test_the_requested_precision_is_used(self, nano_run: Run, script: str) -> None:
        line = nano_run("--precision", "float32", script).stderr
        assert line.startswith("nano-run: float32, as requested; threads ")

    def test_bfloat16_without_a_unit_gets_a_warning(self, nano_run: Run, script: str) -> None:
        result = nano_run(
            "--precision", "mixed_bfloat16", script, env={"TF_ENABLE_ONEDNN_OPTS": "0"}
        )
        assert "warning: mixed_bfloat16 is no faster than float32 here: " in result.stderr
        assert result.stdout == "ran\n"

    @pytest.mark.tensorflow
    def test_an_edited_keras_beside_the_script_is_trained_in_float32(
        self, nano_run: Run, script: str, tmp_path: Path
    ) -> None:
        (tmp_path / "keras" / "src").mkdir(parents=True)
        (tmp_path / "keras" / "src" / "version.py").write_text('__version__ = "3.15.1"')
        result = nano_run("--precision", "mixed_bfloat16", script)
        assert result.stdout == "ran\n"
        start = "nano-run: float32 instead of mixed_bfloat16: Keras 3.15.1 does not fit the guard "
        assert result.stderr.startswith(start)
        unsearched = {"PYTHONSAFEPATH": "1"}
        line = nano_run("--precision", "mixed_bfloat16", script, env=unsearched).stderr
        assert line.startswith("nano-run: mixed_bfloat16, as requested")

    def test_options_may_come_from_the_environment(self, nano_run: Run, script: str) -> None:
        result = nano_run(script, env={"NANO_RUN_PRECISION": "float32"})
        assert result.stderr.startswith("nano-run: float32, as requested")

    def test_the_program_gets_the_plans_variables(self, nano_run: Run, tmp_path: Path) -> None:
        (tmp_path / "s.py").write_text(
            "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['KMP_BLOCKTIME'])"
        )
        result = nano_run("-q", "--threads", "1", "s.py", env={"KMP_BLOCKTIME": "77"})
        assert result.stdout == "1 77\n"


class TestNested:
    def test_the_inner_call_makes_its_own_plan(self, nano_run: Run, tmp_path: Path) -> None:
        (tmp_path / "inner.py").write_text("import os; print(os.environ['OMP_NUM_THREADS'])")
        (tmp_path / "outer.py").write_text(
            "import subprocess, sys\n"
            "start = 'import sys; from nano_init.cli.run import main; sys.exit(main())'\n"
            "subprocess.run([sys.executable, '-c', start, *sys.argv[1:]], check=True)\n"
        )
        inner = ("-q", "--threads", "1", "inner.py")
        wide = {"OMP_NUM_THREADS": "7"}
        assert nano_run("-q", "outer.py", *inner).stdout == "1\n"
        assert nano_run("-q", "outer.py", *inner, env=wide).stdout == "7\n"


class TestDryRun:
    def test_it_runs_nothing_and_prints_commands_for_a_shell(
        self, nano_run: Run, script: str, environ: dict[str, str], tmp_path: Path
    ) -> None:
        printed = nano_run("--dry-run", "--precision", "float32", script, "a b")
        assert printed.returncode == 0
        assert printed.stderr == ""
        assert f"exec {sys.executable} s.py 'a b'\n" in printed.stdout
        assert "# OMP_NUM_THREADS: " in printed.stdout
        rerun = subprocess.run(
            ["sh"],
            input=printed.stdout,
            env=environ,
            cwd=tmp_path,
            text=True,
            capture_output=True,
            check=False,
        )
        assert (rerun.stdout, rerun.stderr) == ("ran\n", "")


class TestKeepFloat32:
    def test_patterns_are_shown_by_a_dry_run(self, nano_run: Run, script: str) -> None:
        options = ("--keep-float32", "head*", "--keep-float32=LSTM")
        printed = nano_run("--dry-run", "--precision", "mixed_bfloat16", *options, script).stdout
        patch = '{"precision": "mixed_bfloat16", "keep_float32": ["head*", "LSTM"]}'
        assert f"export NANO_INIT_PATCH='{patch}'\n" in printed

    def test_the_environment_variable_separates_patterns_by_spaces(
        self, nano_run: Run, script: str
    ) -> None:
        twin = {"NANO_RUN_KEEP_FLOAT32": "head* LSTM"}
        assert '"keep_float32": ["head*", "LSTM"]' in nano_run("--dry-run", script, env=twin).stdout

    def test_a_module_may_follow_a_pattern(self, nano_run: Run, script: str) -> None:
        result = nano_run("-q", "--keep-float32", "head", "-ms")
        assert (result.stdout, result.stderr) == ("ran\n", "")

    def test_an_empty_pattern_is_rejected(self, nano_run: Run, script: str) -> None:
        result = nano_run("--keep-float32", "", script)
        assert (result.stdout, result.returncode) == ("", 2)
        assert result.stderr == (
            "nano-run: the pattern '' of layers to keep in float32 is empty; give a name, "
            "as 'head*'\n"
        )

    @pytest.mark.tensorflow
    @pytest.mark.slow
    def test_patterns_reach_keras(self, nano_run: Run, tmp_path: Path) -> None:
        pytest.importorskip("tensorflow", reason="patches the real Keras")
        (tmp_path / "s.py").write_text(
            "import keras\nfor name in ('head', 'body'):\n"
            "    print(keras.layers.Dense(1, name=name).compute_dtype)"
        )
        options = ("--precision", "mixed_bfloat16", "--keep-float32", "head")
        assert nano_run("-q", *options, "s.py").stdout == "float32\nbfloat16\n"


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "nano-run: missing argument 'SCRIPT'; see 'nano-run --help'"),
            (["no.py"], "nano-run: script not found: 'no.py'; check the path"),
            (["."], "nano-run: '.' is a folder without __main__.py; name a script in it"),
            (
                ["--precision", "int3", "s.py"],
                (
                    "nano-run: precision 'int3' is unknown; "
                    "choose auto, measured, float32 or mixed_bfloat16"
                ),
            ),
            (
                ["--precision", "bfloat16", "s.py"],
                (
                    "nano-run: precision 'bfloat16' is not for training (its variables would "
                    "lose every update smaller than 1/256 of their value); choose auto, "
                    "measured, float32 or mixed_bfloat16"
                ),
            ),
            (
                ["--precision"],
                "nano-run: option '--precision' requires an argument; see 'nano-run --help'",
            ),
            (
                ["--presicion", "float32", "s.py"],
                (
                    "nano-run: no such option '--presicion', did you mean --precision; "
                    "see 'nano-run --help'"
                ),
            ),
            (
                ["--precision", "", "s.py"],
                (
                    "nano-run: precision '' is unknown; "
                    "choose auto, measured, float32 or mixed_bfloat16"
                ),
            ),
            (
                ["-u", "s.py"],
                (
                    "nano-run: no such option '-u'; for Python's own set PYTHONUNBUFFERED=1; "
                    "see 'nano-run --help'"
                ),
            ),
            (
                ["-Wignore", "s.py"],
                (
                    "nano-run: no such option '-W'; for Python's own set PYTHONWARNINGS=ignore; "
                    "see 'nano-run --help'"
                ),
            ),
            (
                ["--threads", "0", "s.py"],
                "nano-run: --threads is '0'; give a whole number from 1 to 8192",
            ),
            (
                ["--threads", "two", "s.py"],
                "nano-run: --threads is 'two'; give a whole number from 1 to 8192",
            ),
        ],
    )
    def test_one_sentence_and_exit_code_2(
        self, nano_run: Run, script: str, arguments: list[str], message: str
    ) -> None:
        result = nano_run(*arguments)
        assert (result.stdout, result.returncode) == ("", 2)
        assert result.stderr == message + "\n"

    @pytest.mark.parametrize("name", ["NANO_RUN_PRECISION", "NANO_RUN_QUIET"])
    def test_options_parsed_by_click_get_the_same_checks(
        self, nano_run: Run, script: str, name: str
    ) -> None:
        """An environment variable changes which parser reads the command line, not its meaning."""
        twin = {name: {"NANO_RUN_PRECISION": "auto", "NANO_RUN_QUIET": "1"}[name]}
        refused = nano_run("--precision", "bfloat16", script, env=twin)
        assert refused.returncode == 2
        assert refused.stderr.startswith("nano-run: precision 'bfloat16' is not for training (")
        taken = nano_run("--quiet", "--precision", "mixed-bfloat16", script, env=twin)
        assert (taken.stdout, taken.stderr) == ("ran\n", "")

    def test_an_empty_environment_variable_is_ignored(self, nano_run: Run, script: str) -> None:
        result = nano_run(script, env={"NANO_RUN_PRECISION": "", "NANO_RUN_THREADS": ""})
        assert result.stdout == "ran\n"

    def test_the_most_common_environment_variable_is_read_without_click(
        self, nano_run: Run, tmp_path: Path
    ) -> None:
        """`nano-init --precision` sets it in a shell, where click would slow down each nano-run."""
        nano_run_trace = {"NANO_RUN_PRECISION": "float32", "PYTHONPROFILEIMPORTTIME": "1"}
        (tmp_path / "s.py").write_text("")
        shown = nano_run("s.py", env=nano_run_trace).stderr
        assert "nano-run: float32, as requested" in shown
        assert "| click" not in shown

    def test_an_invalid_environment_variable_is_reported(self, nano_run: Run, script: str) -> None:
        result = nano_run(script, env={"NANO_RUN_PRECISION": "int3"})
        assert result.returncode == 2
        assert "int3" in result.stderr
        assert result.stderr.count("\n") == 1

    def test_an_invalid_thread_variable_is_reported(self, nano_run: Run, script: str) -> None:
        result = nano_run(script, env={"NANO_INIT_THREADS": "many"})
        assert result.returncode == 2
        assert result.stderr == (
            "nano-run: NANO_INIT_THREADS is 'many'; give a whole number from 1 to 8192\n"
        )


class TestCompletion:
    @pytest.mark.parametrize("words", ["nano-run s", "nano-run s.py data"])
    def test_scripts_and_arguments_are_completed_as_files(self, nano_run: Run, words: str) -> None:
        environment = {
            "_NANO_RUN_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        assert nano_run(env=environment).stdout == f"file,{words.split()[-1]}\n"


class TestHelp:
    def test_help_has_examples(self, nano_run: Run) -> None:
        result = nano_run("--help")
        assert result.returncode == 0
        assert "nano-run --precision mixed_bfloat16 train.py" in result.stdout

    def test_version(self, nano_run: Run) -> None:
        import nano_init

        assert nano_run("--version").stdout == f"nano-run, version {nano_init.__version__}\n"
