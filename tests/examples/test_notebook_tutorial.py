"""The tutorial notebook runs from a clean kernel and reproduces its committed output."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="the notebook is executed by nbclient")
pytest.importorskip("tensorflow", reason="the notebook trains with TensorFlow")
nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "bfloat16_training.ipynb"

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.slow,
    # Raised by jupyter_client and traitlets.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def printed(notebook: Any) -> str:
    """Return the standard output of all cells."""
    return "".join(
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "stream" and output["name"] == "stdout"
    )


def plots(notebook: Any) -> int:
    """Return the number of images that the cells show."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def accuracies(text: str) -> dict[str, float]:
    """Return the test accuracies by the name of the training."""
    found = re.findall(r"^(.+) test accuracy: (\d\.\d+)$", text, re.MULTILINE)
    return {name: float(number) for name, number in found}


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook, executed by a kernel of this interpreter."""
    folder = tmp_path_factory.mktemp("notebook")
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    described = {"argv": command, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(described))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("NANO_", "OMP_", "TF_NUM"))}
    environ = {**kept, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": ""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3")
        client.execute(env={n: v for n, v in environ.items() if v})
    return notebook


def test_both_precisions_and_the_custom_loop_learn_the_digits(executed: Any) -> None:
    found = accuracies(printed(executed))
    assert set(found) == {"float32", "mixed_bfloat16", "custom loop"}
    assert min(found.values()) > 0.88
    assert abs(found["float32"] - found["mixed_bfloat16"]) < 0.03


def test_policies_and_dtypes_are_shown(executed: Any) -> None:
    text = printed(executed)
    assert "hidden_1   computes in bfloat16  and has float32 weights" in text
    assert "head       computes in float32   and has float32 weights" in text
    assert "built under the patch: mixed_bfloat16\n" in text
    assert "built after it:        float32\n" in text


def test_the_digits_and_both_losses_are_plotted(executed: Any) -> None:
    assert plots(executed) == 2


def test_the_committed_notebook_has_the_output_of_its_cells(executed: Any) -> None:
    """Numbers may differ by machine; what is printed and plotted does not."""
    committed = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert plots(committed) == plots(executed)
    found, kept = accuracies(printed(executed)), accuracies(printed(committed))
    assert found.keys() == kept.keys()
    assert all(abs(found[name] - kept[name]) < 0.03 for name in found)
