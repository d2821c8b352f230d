"""The less common options of `nano-init`: data formats, allocators, hooks, BigDL-Nano's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nano_init.machine.allocators import find_allocator

Run = Callable[..., "subprocess.CompletedProcess[str]"]


class TestFormats:
    @pytest.mark.parametrize(
        ("output", "line"),
        [
            ("docker", "OMP_NUM_THREADS=1\n"),
            ("dotenv", "OMP_NUM_THREADS="),
            ("systemd", "OMP_NUM_THREADS="),
            ("github", "OMP_NUM_THREADS"),
            ("kubernetes", "OMP_NUM_THREADS"),
            ("conda", "OMP_NUM_THREADS"),
        ],
    )
    def test_the_plan_is_written_as_data(
        self, nano_init_command: Run, output: str, line: str
    ) -> None:
        result = nano_init_command("--format", output, "--threads", "1")
        assert (result.returncode, result.stderr) == (0, "")
        assert line in result.stdout

    def test_a_format_and_a_shell_cannot_be_combined(self, nano_init_command: Run) -> None:
        result = nano_init_command("--shell", "sh", "--format", "json")
        assert (result.returncode, result.stdout) == (2, "")
        assert "--format" in result.stderr


class TestSourcedOptions:
    def test_options_on_the_command_line_override_the_variable(
        self, nano_init_command: Run
    ) -> None:
        result = nano_init_command(
            "--shell", "sh", "--allocator", "none", env={"NANO_INIT_ARGS": "--allocator auto"}
        )
        assert (result.returncode, result.stderr) == (0, "")
        assert "LD_PRELOAD" not in result.stdout

    @pytest.mark.parametrize("option", ["-h", "--help", "--version"])
    def test_help_never_reaches_the_code_that_a_shell_evaluates(
        self, nano_init_command: Run, option: str
    ) -> None:
        result = nano_init_command("--shell", "sh", option)
        assert (result.returncode, result.stdout) == (0, "")
        assert "nano-init" in result.stderr

    def test_a_value_that_is_not_utf8_is_restored_byte_for_byte(
        self, environ: dict[str, str]
    ) -> None:
        start = "import sys; from nano_init.cli.init import main; sys.exit(main())"
        state = b"1,OMP_PLACES=+%FF%FE:-"
        result = subprocess.run(
            [sys.executable, "-c", start, "--shell", "sh", "--unset"],
            env={**environ, "NANO_INIT_STATE": os.fsdecode(state)},
            capture_output=True,
            check=True,
        )
        assert b"OMP_PLACES='\xff\xfe'" in result.stdout


class TestBigdlNanosShortOptions:
    def plan(self, nano_init_command: Run, *options: str) -> dict[str, str]:
        result = nano_init_command("--format", "json", *options)
        assert result.returncode == 0, result.stderr
        return {v["name"]: v["value"] for v in json.loads(result.stdout)["variables"]}

    def test_o_leaves_openmp_alone(self, nano_init_command: Run) -> None:
        names = self.plan(nano_init_command, "-o")
        assert not any(name.startswith(("OMP_", "KMP_")) for name in names)
        assert "TF_NUM_INTRAOP_THREADS" in names

    def test_p_binds_threads(self, nano_init_command: Run) -> None:
        assert "compact" in self.plan(nano_init_command, "-p")["KMP_AFFINITY"]

    def test_r_caps_the_cores(self, nano_init_command: Run) -> None:
        assert self.plan(nano_init_command, "-r", "1")["OMP_NUM_THREADS"] == "1"

    def test_c_preloads_nothing(self, nano_init_command: Run) -> None:
        assert "LD_PRELOAD" not in self.plan(nano_init_command, "-c")

    def test_j_preloads_jemalloc(self, nano_init_command: Run) -> None:
        library = find_allocator("jemalloc", os.environ)
        if library is None:
            pytest.skip("needs a jemalloc library (libjemalloc2)")
        plan = self.plan(nano_init_command, "-j")
        assert plan["LD_PRELOAD"] == library
        assert "MALLOC_CONF" in plan

    def test_d_shows_the_settings(self, nano_init_command: Run) -> None:
        result = nano_init_command("--shell", "sh", "-d")
        assert "Usable cores" in result.stderr

    @pytest.mark.parametrize("option", ["-g", "-s"])
    def test_an_option_without_a_counterpart_gets_a_warning(
        self, nano_init_command: Run, option: str
    ) -> None:
        result = nano_init_command("--format", "json", option)
        assert result.returncode == 0
        assert "BigDL-Nano's --" in result.stderr
        assert result.stderr.count("\n") == 1

    def test_two_allocators_at_once_are_rejected(self, nano_init_command: Run) -> None:
        result = nano_init_command("-j", "-t")
        assert result.returncode == 2
        assert "only one allocator can be used, not jemalloc and tcmalloc" in result.stderr


class TestHooks:
    def test_a_missing_active_environment_is_reported(self, nano_init_command: Run) -> None:
        result = nano_init_command("--install-hook", "conda", env={"CONDA_PREFIX": None})
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == (
            "nano-init: no conda environment is active (CONDA_PREFIX is not set)\n"
        )

    def test_a_hook_is_installed_into_the_active_environment_and_removed(
        self, nano_init_command: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "conda" / "conda-meta").mkdir(parents=True)
        if not Path(sys.executable).with_name("nano-run").exists():
            pytest.skip("needs the commands installed next to the interpreter")
        active = {"CONDA_PREFIX": str(tmp_path / "conda")}
        installed = nano_init_command("--install-hook", "conda", env=active).stdout.splitlines()
        assert installed
        assert all(Path(path).exists() for path in installed)
        removed = nano_init_command("--remove-hook", "conda", env=active).stdout.splitlines()
        assert sorted(removed) == sorted(installed)
        assert not any(Path(path).exists() for path in installed)


class TestPrecision:
    def test_it_is_exported_for_nano_run(self, nano_init_command: Run) -> None:
        code = nano_init_command("--shell", "sh", "--precision", "float32").stdout
        assert "NANO_RUN_PRECISION='float32'" in code
