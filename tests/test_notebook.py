"""In a running kernel, settings that can still take effect are applied; the others are reported."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nano_init.errors import LaunchError
from nano_init.launch import kernel
from nano_init.notebook import apply_settings, late_settings, restore_process
from nano_init.plan.settings import Setting
from nano_init.shells.transition import enter, original

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SETTINGS = (
    Setting("OMP_NUM_THREADS", "2", "why"),
    Setting("TF_NUM_INTRAOP_THREADS", "2", "why"),
    Setting("TF_ENABLE_ONEDNN_OPTS", "0", "your own value", "kept"),
)


class TestLateVariables:
    def test_nothing_is_late_in_a_fresh_process(self) -> None:
        assert late_settings(SETTINGS, {"sys", "os"}, {}) == {}

    def test_the_variables_of_a_loaded_library_are_late(self) -> None:
        assert late_settings(SETTINGS, {"numpy"}, {}) == {"OMP_NUM_THREADS": "numpy"}
        assert late_settings(SETTINGS, {"tensorflow"}, {}) == {
            "TF_NUM_INTRAOP_THREADS": "tensorflow"
        }

    def test_a_value_that_is_already_set_is_not_late(self) -> None:
        assert late_settings(SETTINGS, {"numpy"}, {"OMP_NUM_THREADS": "2"}) == {}

    def test_a_kept_value_is_never_late(self) -> None:
        assert "TF_ENABLE_ONEDNN_OPTS" not in late_settings(SETTINGS, {"tensorflow"}, {})


class TestRestoreProcess:
    def test_variables_are_restored_but_later_user_changes_stay(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("nano_init.keras_patch.unpatch_tensorflow", lambda: None)
        environ = {"OMP_NUM_THREADS": "3", "KMP_BLOCKTIME": "3"}
        apply_settings(_settings(OMP_NUM_THREADS="1", KMP_BLOCKTIME="1", TF_XLA_FLAGS="1"), environ)
        apply_settings(_settings(OMP_NUM_THREADS="2", KMP_BLOCKTIME="1"), environ)
        environ.pop("NANO_INIT_STATE")
        assert environ == {"OMP_NUM_THREADS": "2", "KMP_BLOCKTIME": "1"}
        environ["KMP_BLOCKTIME"] = "7"
        restore_process(environ)
        assert environ == {"OMP_NUM_THREADS": "3", "KMP_BLOCKTIME": "7"}

    def test_a_sourced_environment_is_restored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("nano_init.keras_patch.unpatch_tensorflow", lambda: None)
        environ: dict[str, str] = {}
        for change in enter(environ, _settings(OMP_NUM_THREADS="7")).assignments:
            environ[change.name] = change.after or ""
        sourced = dict(environ)
        apply_settings(_settings(OMP_NUM_THREADS="2"), environ)
        assert original(environ)[0] == {}
        restore_process(environ)
        assert environ == sourced


def _settings(**values: str) -> tuple[Setting, ...]:
    return tuple(Setting(name, value, "why") for name, value in values.items())


EXTENSION = """
import os, sys
import nano_init
if len(sys.argv) > 1:
    import numpy
before = dict(os.environ)
nano_init.load_ipython_extension(None)
print("OMP", os.environ.get("OMP_NUM_THREADS"), "INTRA", os.environ["TF_NUM_INTRAOP_THREADS"])
import tensorflow as tf
print("pool", tf.config.threading.get_intra_op_parallelism_threads(), nano_init.__version__)
nano_init.unload_ipython_extension(None)
print({n for n in set(before) | set(os.environ) if before.get(n) != os.environ.get(n)
       and n in ("OMP_NUM_THREADS", "KMP_BLOCKTIME", "TF_NUM_INTRAOP_THREADS")})
"""


@pytest.mark.tensorflow
@pytest.mark.slow
def test_the_extension_applies_reports_and_undoes_the_settings(python: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="the extension patches Keras")
    (tmp_path / "s.py").write_text(EXTENSION)
    late = {"NANO_INIT_THREADS": "1"}
    result = python("s.py", "numpy", env=late)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith(("nano-init: float32: ", "nano-init: mixed_bfloat16: "))
    assert lines[1].startswith("nano-init: threads 1: ")
    assert lines[2] == (
        "nano-init: too late for OMP_NUM_THREADS: numpy is already loaded; "
        "restart the kernel and load nano_init first"
    )
    assert lines[3] == "OMP None INTRA 1"
    assert lines[-1] == "set()"


class TestKernel:
    @pytest.fixture(autouse=True)
    def _own_jupyter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("ipykernel", reason="a kernel needs ipykernel")
        monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
        monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")

    def test_it_is_installed_once_and_removed(self) -> None:
        folder = kernel.install_kernel("/opt/bin/nano-run")
        spec = json.loads((Path(folder) / "kernel.json").read_text())
        assert spec["argv"][0] == "/opt/bin/nano-run"
        with pytest.raises(LaunchError, match="already; --force replaces it"):
            kernel.install_kernel("/other/nano-run")
        kernel.install_kernel("/other/nano-run", force=True)
        assert kernel.remove_kernel() == folder
        assert not Path(folder).exists()

    def test_removing_a_missing_kernel_is_an_error(self) -> None:
        with pytest.raises(LaunchError, match="there is nothing to remove"):
            kernel.remove_kernel()

    @pytest.mark.slow
    def test_a_notebook_cell_runs_under_nano_run(
        self, environ: dict[str, str], tmp_path: Path
    ) -> None:
        """The kernel answers, and its process has the planned environment."""
        import sys

        from jupyter_client.manager import start_new_kernel

        nano_run = tmp_path / "nano-run"
        nano_run.write_text(
            f"#!{sys.executable}\n"
            "import sys\nfrom nano_init.cli.run import main\nsys.exit(main())\n"
        )
        nano_run.chmod(0o755)
        kernel.install_kernel(str(nano_run))
        manager, client = start_new_kernel(kernel_name=kernel.KERNEL_NAME, env=environ)
        try:
            shown: list[str] = []
            client.execute_interactive(
                "import os; print(os.environ['OMP_NUM_THREADS'])",
                timeout=120,
                output_hook=lambda m: shown.append(m["content"].get("text", "")),
            )
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
        assert "".join(shown).strip().isdigit()
