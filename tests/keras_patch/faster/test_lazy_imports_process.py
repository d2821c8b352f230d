"""Keras's optional libraries are imported on first use, and then work as usual."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import nano_init

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# A fake Keras with the import statements that matter.
FAKE = {
    "keras/__init__.py": "from keras import wrappers, src\nfrom keras import visualization",
    "keras/wrappers/__init__.py": "import heavy\nclass Wrapper: pass\nprint('wrappers run')",
    "keras/visualization/__init__.py": "raise RuntimeError('broken')",
    "keras/src/__init__.py": "from keras.src import slicing, visualization",
    "keras/src/visualization/__init__.py": "from keras.src.visualization import boxes",
    "keras/src/visualization/boxes.py": "print('boxes run')\ndef draw(): return 3",
    "keras/src/slicing.py": (
        "try:\n    import pandas\nexcept ImportError:\n    pandas = None\n"
        "ARRAY_TYPES = (list,)\n"
        "if pandas:\n    ARRAY_TYPES += (pandas.Series, pandas.DataFrame)\n"
    ),
    "heavy.py": "print('heavy runs')",
    "pandas.py": "class Series: pass\nclass DataFrame: pass",
}

PRELUDE = """
import os, sys
sys.path.insert(0, {parent!r})
from nano_init.keras_patch.import_preparation import prepare_import
prepare_import('{{"disable": {disable}}}', {{}}, sys.meta_path)
"""


def _run(
    folder: Path, program: str, disable: str = "[]", fakes: dict[str, str] = FAKE
) -> list[str]:
    for name, text in fakes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    parent = str(Path(nano_init.__file__).parent.parent)
    code = PRELUDE.format(parent=parent, disable=disable) + program
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_module_runs_once_on_first_use(tmp_path: Path) -> None:
    program = """
import keras, importlib
import keras.wrappers
print(type(keras.wrappers).__name__, "heavy" in sys.modules)
from keras.wrappers import Wrapper
print(Wrapper.__module__, type(keras.wrappers).__name__, keras.wrappers.Wrapper is Wrapper)
from keras.src.visualization import boxes
print(boxes.draw(), keras.src.visualization.boxes is boxes, "boxes" in dir(keras.src.visualization))
import pickle
print(pickle.loads(pickle.dumps(Wrapper)) is Wrapper)
importlib.reload(keras.wrappers)
"""
    assert _run(tmp_path, program) == [
        "LazyModule False",
        "heavy runs",
        "wrappers run",
        "keras.wrappers module True",
        "boxes run",
        "3 True True",
        "True",
        "wrappers run",
    ]


def test_a_failing_module_raises_its_error_on_every_use(tmp_path: Path) -> None:
    program = """
import keras
for attempt in range(2):
    try:
        keras.visualization.plot
    except RuntimeError as error:
        print(attempt, error)
keras.wrappers.mine = 5
print(keras.wrappers.mine)
"""
    assert _run(tmp_path, program) == ["0 broken", "1 broken", "heavy runs", "wrappers run", "5"]


@pytest.mark.parametrize("first", ["keras", "pandas"])
def test_keras_uses_pandas_as_soon_as_the_program_imports_it(tmp_path: Path, first: str) -> None:
    program = f"""
import {first}
print("pandas" in sys.modules)
import keras, pandas
from keras.src import slicing
print(slicing.pandas is pandas, [kind.__name__ for kind in slicing.ARRAY_TYPES])
"""
    expected = [str(first == "pandas"), "True ['list', 'Series', 'DataFrame']"]
    assert _run(tmp_path, program) == expected


def test_disabling_the_path_leaves_every_import_unchanged(tmp_path: Path) -> None:
    program = (
        "sys.modules['keras.visualization'] = sys\nimport keras\nprint('pandas' in sys.modules)"
    )
    assert _run(tmp_path, program, '["lazy_imports"]') == [
        "heavy runs",
        "wrappers run",
        "boxes run",
        "True",
    ]


def test_garbage_collection_pauses_during_the_import_and_is_restored(tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text("import gc; print(gc.isenabled(), gc.get_threshold())")
    before = "import gc; gc.set_threshold(600, 7, 5)\nimport keras; print(gc.get_threshold())"
    assert _run(tmp_path, before, fakes={}) == [f"True ({2**30}, 7, 5)", "(600, 7, 5)"]


REAL = """
import sys
import keras
print([name for name in ("sklearn", "matplotlib", "pandas") if name in sys.modules])
import pandas, numpy as np
from keras.wrappers import SKLearnClassifier
from sklearn.base import BaseEstimator
print(issubclass(SKLearnClassifier, BaseEstimator))
print(keras.visualization.plot_image_gallery.__name__, keras.utils.plot_model.__name__)
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
table = pandas.DataFrame({"a": np.ones(4), "b": np.zeros(4)})
model.fit(table, table["a"], batch_size=2, verbose=0)
print(model.optimizer.iterations.numpy())
"""


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_program_can_use_all_optional_libraries(nano_run: Run, tmp_path: Path) -> None:
    for library in ("sklearn", "matplotlib", "pandas"):
        pytest.importorskip(library)
    (tmp_path / "s.py").write_text(REAL)
    # The path omits the folder that hides these libraries from other tests.
    path = {"PYTHONPATH": str(Path(__file__).parents[3])}
    result = nano_run("-q", "--precision", "float32", "s.py", env=path)
    assert result.stdout.splitlines() == ["[]", "True", "plot_image_gallery plot_model", "2"], (
        result.stderr
    )


@pytest.mark.parametrize("library", ["pandas", "tensorflow"])
def test_a_failing_import_shows_no_frames_of_the_package(
    nano_run: Run, tmp_path: Path, library: str
) -> None:
    (tmp_path / "s.py").write_text(
        "import keras, pandas\n" if library == "pandas" else "import tensorflow\n"
    )
    (tmp_path / "keras.py").write_text("__version__ = '2.0'\n")
    (tmp_path / f"{library}.py").write_text("raise ImportError('broken here')\n")
    result = nano_run("-q", "--precision", "float32", "s.py")
    assert "ImportError: broken here" in result.stderr
    assert "shadowed_loader" not in result.stderr
    assert "nano_init/keras_patch" not in result.stderr
