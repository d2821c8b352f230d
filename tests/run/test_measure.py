"""--report and --tune run the program even if nothing can be measured."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nano_init.errors import SampleError
from nano_init.evidence.sampling.sample import SampleRequest, take_sample
from nano_init.evidence.tuning.fork_server import ForkServer
from nano_init.evidence.tuning.pausable_training import PausableTraining

Run = Callable[..., Any]

NO_FOLDER = """
import tempfile
def find():
    raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")
tempfile._get_default_tempdir = find
"""


@pytest.fixture
def without_folder(tmp_path: Path, environ: dict[str, str]) -> dict[str, str]:
    """Variables under which Python finds no temporary folder, as in a read-only container."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(NO_FOLDER)
    return {
        "PYTHONPATH": f"{site}{os.pathsep}{environ['PYTHONPATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }


class TestWithoutTemporaryFolder:
    def test_a_run_with_report_still_runs_and_is_reported(
        self, nano_run: Run, tmp_path: Path, without_folder: dict[str, str]
    ) -> None:
        (tmp_path / "s.py").write_text("import sys; print('ran'); sys.exit(3)")
        result = nano_run("--report=r.json", "s.py", env=without_folder)
        assert (result.stdout, result.returncode) == ("ran\n", 3)
        assert "the report is in r.json" in result.stderr

    @pytest.mark.slow
    def test_a_run_with_tune_runs_untuned(
        self, nano_run: Run, tmp_path: Path, without_folder: dict[str, str]
    ) -> None:
        (tmp_path / "s.py").write_text("import sys; print('ran'); sys.exit(3)")
        result = nano_run("--tune", "s.py", env=without_folder)
        assert (result.stdout, result.returncode) == ("ran\n", 3)
        assert (
            "nano-run: not tuned: a sample needs a temporary folder (No usable temporary "
            "directory found in ['/tmp']); set TMPDIR to one that can be written to\n"
        ) in result.stderr
        assert "Traceback" not in result.stderr

    def test_a_comparison_is_rejected_in_one_sentence(
        self, nano_run: Run, tmp_path: Path, without_folder: dict[str, str]
    ) -> None:
        (tmp_path / "s.py").write_text("print('ran')")
        result = nano_run("--compare", "s.py", env=without_folder)
        assert (result.stdout, result.returncode) == ("", 2)
        assert result.stderr == (
            "nano-run: --compare needs a temporary folder (No usable temporary directory found in "
            "['/tmp']); set TMPDIR to one that can be written to\n"
        )

    @pytest.mark.parametrize(
        "act",
        [
            lambda: take_sample(["/bin/true"], {}, SampleRequest()),
            lambda: PausableTraining(["/bin/true"], {}, SampleRequest()),
            lambda: ForkServer("/bin/false", {}),
        ],
    )
    def test_every_way_to_sample_raises_a_sample_error(
        self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", "/nowhere")
        with pytest.raises(SampleError, match=r"needs a temporary folder \(No such file"):
            act()

    def test_forking_raises_a_sample_error_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The folder existed when the fork server started."""
        fork_server = ForkServer("/bin/false", {})
        try:

            def lose(wanted: Any) -> Any:
                monkeypatch.setattr("tempfile.tempdir", "/nowhere")
                return partial(fork_server.fork, seconds=5.0)(wanted)

            with pytest.raises(SampleError, match="needs a temporary folder"):
                PausableTraining([sys.executable, "s.py"], {}, SampleRequest(), lose)
        finally:
            fork_server.close()


class TestComparison:
    """Comparison of a script that fails only under nano-run."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("precision", "way_out"),
        [
            ("float32", ""),
            (
                "mixed_bfloat16",
                (
                    "; under python it did not, so mixed_bfloat16 may be the cause: "
                    "try --precision float32"
                ),
            ),
        ],
    )
    def test_the_side_that_failed_is_reported_with_a_remedy(
        self, nano_run: Run, tmp_path: Path, precision: str, way_out: str
    ) -> None:
        (tmp_path / "s.py").write_text(
            "import keras, numpy as np, os, sys\n"
            # Set by nano-run, and not by python.
            "if any(name.startswith('NANO_INIT_PATCH') for name in os.environ):\n"
            "    sys.exit('not so')\n"
            "model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])\n"
            "model.compile('sgd', 'mse')\n"
            "model.fit(np.ones((80, 4)), np.ones((80, 4)), batch_size=4, verbose=0)\n"
        )
        options = ("--compare", "-q", "--sample-steps", "12", "--precision", precision)
        result = nano_run(*options, "s.py")
        if "copy-on-write" in result.stderr:
            pytest.skip(result.stderr)
        assert (result.stdout, result.returncode) == ("", 1)
        assert result.stderr == (
            f"nano-run: under nano-run: the script failed before its first step: not so{way_out}\n"
        )
