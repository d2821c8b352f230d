"""`nano-init` shows its recommendations to people, programs and shells."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A recorded machine: four cores, AVX512_BF16, a quota of two and a half processors."""
    root = tmp_path / "dump"
    files = {
        "proc/cpuinfo": "".join(
            f"processor\t: {n}\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9004\n"
            "flags\t\t: avx avx2 fma avx512f avx512bw avx512vl avx512dq avx512_vnni "
            "avx512_bf16\n\n"
            for n in range(4)
        ),
        "proc/self/cgroup": "0::/job\n",
        "proc/self/mountinfo": "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "sys/fs/cgroup/job/cpu.max": "250000 100000\n",
        "sys/devices/system/cpu/online": "0-3\n",
    }
    for n in range(4):
        files[f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list"] = f"{n}\n"
        files[f"sys/devices/system/cpu/cpu{n}/topology/physical_package_id"] = "0\n"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


class TestJson:
    def test_the_structure_is_the_documented_one(self, nano_init_command: Run) -> None:
        result = nano_init_command("--print", "--format", "json")
        assert result.returncode == 0
        shown = json.loads(result.stdout)
        assert list(shown) == ["machine", "limits", "precision", "variables"]
        assert set(shown["machine"]) == {
            "vendor",
            "model",
            "arch",
            "isa_level",
            "bf16",
            "sockets",
            "numa_nodes",
            "cores",
            "threads",
            "performance_cpus",
            "efficiency_cpus",
        }
        assert set(shown["limits"]) == {"affinity", "cpu_quota", "memory_bytes", "usable_cores"}
        assert set(shown["precision"]) == {"recommended", "reason"}
        for variable in shown["variables"]:
            assert set(variable) == {"name", "value", "reason", "status"}
            assert variable["status"] in {"set", "kept", "unset"}

    def test_a_recorded_machine_is_described(self, nano_init_command: Run, recording: Path) -> None:
        result = nano_init_command("--sysroot", str(recording), "--print", "--format", "json")
        shown = json.loads(result.stdout)
        assert shown["machine"]["bf16"] == "avx512"
        assert shown["machine"]["isa_level"] == "AVX512_CORE_BF16"
        assert (shown["machine"]["cores"], shown["machine"]["threads"]) == (4, 4)
        assert shown["limits"]["cpu_quota"] == 2.5
        assert shown["limits"]["usable_cores"] == 2
        assert shown["precision"]["recommended"] == "mixed_bfloat16"

    def test_the_output_for_a_recording_does_not_depend_on_this_shell(
        self, nano_init_command: Run, recording: Path
    ) -> None:
        arguments = ("--sysroot", str(recording), "--format", "json")
        plain = nano_init_command(*arguments).stdout
        assert plain == nano_init_command(*arguments, env={"OMP_NUM_THREADS": "99"}).stdout

    def test_a_kept_value_is_reported(self, nano_init_command: Run) -> None:
        result = nano_init_command("--format", "json", env={"OMP_NUM_THREADS": "9"})
        (variable,) = [
            v for v in json.loads(result.stdout)["variables"] if v["name"] == "OMP_NUM_THREADS"
        ]
        assert (variable["value"], variable["status"]) == ("9", "kept")


class TestTable:
    def test_machine_choices_and_variables_are_shown_with_reasons(
        self, nano_init_command: Run
    ) -> None:
        shown = nano_init_command("--print").stdout
        for word in ("Processor", "Usable cores", "Precision", "Variable", "Why"):
            assert word in shown
        assert "OMP_NUM_THREADS" in shown

    def test_it_is_the_default_output(self, nano_init_command: Run) -> None:
        assert nano_init_command().stdout == nano_init_command("--print").stdout

    @pytest.mark.parametrize("columns", ["40", "80", "200"])
    def test_lines_fit_a_terminal_of_80_columns_or_more(
        self, nano_init_command: Run, columns: str
    ) -> None:
        shown = nano_init_command("--print", env={"COLUMNS": columns}).stdout
        widest = max(int(columns), 80)
        assert all(len(line) <= widest for line in shown.splitlines())


class TestExplain:
    def test_a_fact_is_shown_with_its_sources_and_derivation(
        self, nano_init_command: Run, recording: Path
    ) -> None:
        shown = nano_init_command("--sysroot", str(recording), "--explain", "usable_cores").stdout
        assert shown.startswith("usable_cores = 2\n")
        assert "/sys/fs/cgroup/job/cpu.max: 250000 100000\n" in shown
        assert "quota 2.5 binds" in shown

    def test_a_variable_is_shown_with_the_users_value(self, nano_init_command: Run) -> None:
        shown = nano_init_command("--explain", "KMP_BLOCKTIME", env={"KMP_BLOCKTIME": "7"}).stdout
        assert shown.splitlines()[:2] == [
            "KMP_BLOCKTIME = 7",
            "  environment KMP_BLOCKTIME: '7'",
        ]

    def test_json_contains_the_same(self, nano_init_command: Run) -> None:
        result = nano_init_command("--explain", "OMP_NUM_THREADS", "--format", "json")
        explanation = json.loads(result.stdout)
        assert set(explanation) == {"name", "value", "sources", "conclusion"}
        assert explanation["sources"][0] == {
            "source": "environment OMP_NUM_THREADS",
            "said": "unset",
        }


class TestRecord:
    def test_a_recording_gives_the_same_output_when_replayed(
        self, nano_init_command: Run, recording: Path, tmp_path: Path
    ) -> None:
        recorded = nano_init_command("--sysroot", str(recording), "--record", "m.tar.gz")
        assert (recorded.returncode, recorded.stdout) == (0, "")
        replayed, original = (
            nano_init_command("--sysroot", root, "--format", "json").stdout
            for root in ("m.tar.gz", str(recording))
        )
        assert replayed == original

    def test_a_file_is_never_overwritten_without_force(
        self, nano_init_command: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "m.tar.gz").write_text("mine")
        refused = nano_init_command("--record", "m.tar.gz")
        assert refused.returncode == 2
        assert refused.stderr == ("nano-init: m.tar.gz already exists; --force overwrites it\n")
        assert (tmp_path / "m.tar.gz").read_text() == "mine"
        assert nano_init_command("--record", "m.tar.gz", "--force").returncode == 0


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_the_shell_can_complete_options(self, nano_init_command: Run, shell: str) -> None:
        code = nano_init_command(env={"_NANO_INIT_COMPLETE": f"{shell}_source"}).stdout
        assert "_NANO_INIT_COMPLETE" in code


class TestShell:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "sh"])
    def test_code_sets_every_variable_and_the_undo_state(
        self, nano_init_command: Run, shell: str
    ) -> None:
        result = nano_init_command("--shell", shell)
        assert result.returncode == 0
        assert result.stderr == ""
        assert "OMP_NUM_THREADS" in result.stdout
        assert "NANO_INIT_STATE" in result.stdout

    def test_verbose_shows_the_table_on_stderr(self, nano_init_command: Run) -> None:
        result = nano_init_command("--shell", "sh", "-v")
        assert "Usable cores" in result.stderr
        assert "Usable cores" not in result.stdout

    def test_a_sourcing_shell_passes_its_options_in_one_variable(
        self, nano_init_command: Run
    ) -> None:
        result = nano_init_command("--shell", "sh", env={"NANO_INIT_ARGS": "--threads 1 -v"})
        assert "export OMP_NUM_THREADS='1'" in result.stdout
        assert "Usable cores" in result.stderr

    def test_unset_without_anything_set_changes_nothing(self, nano_init_command: Run) -> None:
        result = nano_init_command("--shell", "sh", "--unset")
        assert (result.returncode, result.stderr) == (0, "")


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--sysroot", "/no/such/folder"], "/no/such/folder"),
            (["--shell", "tclsh"], "tclsh"),
            (["--format", "yaml"], "yaml"),
            (["--threads", "0"], "--threads is '0'; give a whole number from 1 to 8192"),
            (["--nonsense"], "--nonsense"),
            (["operand"], "operand"),
            (["--print", "--shell", "sh"], "--print"),
            (["--explain", "nonsense"], "'nonsense' cannot be explained; choose one of"),
            (["--explain", "bf16", "--record", "x"], "cannot be combined"),
            (["--record", "no/such/folder/m.tar.gz"], "no/such/folder/m.tar.gz cannot be written"),
        ],
    )
    def test_one_sentence_and_exit_code_2(
        self, nano_init_command: Run, arguments: list[str], message: str
    ) -> None:
        result = nano_init_command(*arguments)
        assert (result.stdout, result.returncode) == ("", 2)
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("nano-init: ")

    def test_unclosed_quotes_in_the_variable_are_reported(self, nano_init_command: Run) -> None:
        result = nano_init_command("--shell", "sh", env={"NANO_INIT_ARGS": "--threads '1"})
        assert (result.stdout, result.returncode) == ("", 2)
        assert result.stderr == (
            'nano-init: NANO_INIT_ARGS is "--threads \'1": no closing quotation; correct it\n'
        )

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("--threads", "option '--threads' requires an argument"),
            ("4", "'4' is not an option"),
            ("--thraeds 4", "no such option '--thraeds'"),
        ],
    )
    def test_invalid_options_in_the_variable_are_reported_with_its_name(
        self, nano_init_command: Run, text: str, why: str
    ) -> None:
        result = nano_init_command("--shell", "sh", env={"NANO_INIT_ARGS": text})
        assert (result.stdout, result.returncode) == ("", 2)
        assert result.stderr.startswith(f"nano-init: NANO_INIT_ARGS is {text!r}: {why}")

    def test_an_invalid_source_gets_a_warning_and_the_others_are_still_read(
        self, nano_init_command: Run, recording: Path
    ) -> None:
        cpu_max = recording / "sys/fs/cgroup/job/cpu.max"
        cpu_max.write_text("plenty\n")
        result = nano_init_command("--sysroot", str(recording), "--format", "json")
        assert result.returncode == 0
        assert json.loads(result.stdout)["limits"]["cpu_quota"] is None
        assert result.stderr.startswith("nano-init: warning: ")
        assert "cpu.max" in result.stderr

    def test_a_machine_without_sys_is_still_described(
        self, nano_init_command: Run, recording: Path
    ) -> None:
        (recording / "sys").rename(recording / "sys-gone")
        result = nano_init_command("--sysroot", str(recording), "--format", "json")
        assert result.returncode == 0
        assert json.loads(result.stdout)["machine"]["threads"] == 4
