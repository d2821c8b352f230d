"""What TensorFlow's namespaces contain is imported when it is read, and is then as ever."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import nano_init

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# A TensorFlow of a few lines, with the import statements that matter.
FAKE = {
    "tensorflow/__init__.py": (
        "from tensorflow._api.v2 import nn, saved_model\n"
        "from tensorflow._api.v2 import compat\n"
        "from tensorflow._api.v2 import code, lite\n"
    ),
    "tensorflow/_api/__init__.py": "",
    "tensorflow/_api/v2/__init__.py": "",
    "tensorflow/_api/v2/nn/__init__.py": (
        '# Generated.\n"""Public API for tf.nn namespace\n"""\n\nimport sys as _sys\n\n'
        "from tensorflow._api.v2.nn import inner\n"
        "from tensorflow.python.light import relu # line: 3\n"
        "from tensorflow.python.heavy import cell as Cell # line: 5\n"
    ),
    "tensorflow/_api/v2/nn/inner/__init__.py": "from tensorflow.python.heavy import cell\n",
    "tensorflow/_api/v2/saved_model/__init__.py": "from tensorflow.python.light import relu\n",
    "tensorflow/_api/v2/code/__init__.py": "print('code runs')\nvalue = 5\n",
    "tensorflow/_api/v2/compat/__init__.py": "from tensorflow._api.v2.compat import v1\n",
    "tensorflow/_api/v2/compat/v1/__init__.py": "from tensorflow._api.v2.compat.v1 import old\n",
    "tensorflow/_api/v2/compat/v1/old/__init__.py": (
        "import sys, types\nprint('old runs')\n"
        "sys.modules[__name__] = types.SimpleNamespace(is_wrapper=True)\n"
    ),
    "tensorflow/python/__init__.py": "",
    "tensorflow/python/framework/__init__.py": "",
    "tensorflow/python/framework/versions.py": "VERSION = '2.21.0'\n",
    "tensorflow/python/ops/__init__.py": "",
    "tensorflow/python/ops/linalg/__init__.py": "",
    "tensorflow/python/ops/linalg/linalg.py": "print('operators run')\n",
    "tensorflow/lite/__init__.py": "",
    "tensorflow/lite/tools.py": "def convert(): return 4\n",
    "tensorflow/_api/v2/lite/__init__.py": (
        "from tensorflow.lite.tools import convert\nfrom tensorflow.python.light import relu\n"
    ),
    "tensorflow/python/light.py": "print('light runs')\ndef relu(): return 1\n",
    "tensorflow/python/heavy.py": "print('heavy runs')\nclass cell: pass\n",
}

PRELUDE = """
import os, sys
sys.path.insert(0, {parent!r})
from nano_init.keras_patch.import_preparation import prepare_import
prepare_import('{{"disable": {disable}}}', {{}}, sys.meta_path)
"""


def _run(folder: Path, program: str, disable: str = "[]", **fakes: str) -> list[str]:
    for name, text in {**FAKE, **fakes}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    parent = str(Path(nano_init.__file__).parent.parent)
    code = PRELUDE.format(parent=parent, disable=disable) + program
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_name_is_imported_when_it_is_read(tmp_path: Path) -> None:
    program = """
import tensorflow as tf
print("imported")
print(tf.nn.relu())
print(tf.nn.relu is sys.modules["tensorflow.python.light"].relu)
print(tf.nn.inner.cell is tf.nn.Cell)
print(tf.nn.__doc__.strip(), tf.nn._sys is sys)
from tensorflow._api.v2.nn import Cell
try:
    tf.nn.absent
except AttributeError as error:
    print(error)
"""
    assert _run(tmp_path, program) == [
        "imported",
        "light runs",
        "1",
        "True",
        "heavy runs",
        "True",
        "Public API for tf.nn namespace True",
        "module 'tensorflow._api.v2.nn' has no attribute 'absent'",
    ]


@pytest.mark.parametrize(
    ("reading", "shown"),
    [
        ("print('Cell' in dir(tf.nn))", "True"),
        ("print('Cell' in vars(tf.nn))", "True"),
        ("exec('from tensorflow._api.v2.nn import *'); print(Cell.__name__)", "cell"),
        ("del tf.nn.Cell; print(hasattr(tf.nn, 'Cell'), type(tf.nn).__name__)", "False module"),
        (
            """from unittest import mock
with mock.patch.object(tf.nn, 'Cell', 7): print(tf.nn.Cell, end=' ')
print(tf.nn.Cell.__name__)""",
            "7 cell",
        ),
        ("tf.nn.Cell = 7; print(tf.nn.Cell, vars(tf.nn)['Cell'])", "7 7"),
        ("import inspect; print(dict(inspect.getmembers(tf.nn))['Cell'].__name__)", "cell"),
        ("print(repr(tf.nn)[:30], __import__('inspect').ismodule(tf.nn))", None),
    ],
)
def test_all_names_are_there_for_what_reads_them_all(
    tmp_path: Path, reading: str, shown: str | None
) -> None:
    lines = _run(tmp_path, f"import tensorflow as tf\n{reading}")
    assert lines[-1] == (shown or "<module 'tensorflow._api.v2.nn True")


def test_a_namespace_with_other_code_runs_as_a_whole_when_it_is_read(tmp_path: Path) -> None:
    program = "import tensorflow as tf\nprint('imported')\nprint(tf.code.value)"
    assert _run(tmp_path, program) == ["imported", "code runs", "5"]


def test_a_package_with_the_name_of_a_namespace_does_not_take_its_place(tmp_path: Path) -> None:
    program = """
import tensorflow as tf
print(tf.lite.convert(), tf.lite.relu(), tf.lite.__name__)
import tensorflow.lite.tools
print(tf.lite.relu())
"""
    shown = ["light runs", "4 1 tensorflow._api.v2.lite", "1"]
    assert _run(tmp_path, program) == shown


def test_nor_does_a_package_that_tensorflow_imports_after_the_namespace(tmp_path: Path) -> None:
    """As `import tensorflow` does with the package `tensorflow.lite` if Keras is tf_keras."""
    later = FAKE["tensorflow/__init__.py"] + "import tensorflow.lite.tools\n"
    program = "import tensorflow as tf\nprint(tf.lite.__name__)"
    lines = _run(tmp_path, program, **{"tensorflow/__init__.py": later})
    assert lines == ["tensorflow._api.v2.lite"]


def test_namespaces_that_replace_themselves_are_as_ever(tmp_path: Path) -> None:
    program = "import tensorflow as tf\nprint('imported')\nprint(tf.compat.v1.old.is_wrapper)"
    assert _run(tmp_path, program) == ["imported", "old runs", "True"]


def test_what_a_saved_model_may_name_is_there_before_saved_models_are(tmp_path: Path) -> None:
    program = "import tensorflow as tf\nprint('imported')\ntf.saved_model.relu"
    assert _run(tmp_path, program) == ["imported", "operators run", "light runs"]


def test_an_error_comes_at_each_reading(tmp_path: Path) -> None:
    program = """
import tensorflow as tf
for attempt in range(2):
    try:
        tf.nn.Cell
    except RuntimeError as error:
        print(attempt, error)
print(tf.nn.relu())
"""
    heavy = {"tensorflow/python/heavy.py": "raise RuntimeError('broken')"}
    assert _run(tmp_path, program, **heavy) == ["0 broken", "1 broken", "light runs", "1"]


EAGER = ["light runs", "heavy runs"]


def test_an_unknown_tensorflow_keeps_its_imports(tmp_path: Path) -> None:
    later = {"tensorflow/python/framework/versions.py": "VERSION = '9.1.0'\n"}
    assert _run(tmp_path, "import tensorflow", **later)[:2] == EAGER[::-1]


def test_the_switch_keeps_the_imports(tmp_path: Path) -> None:
    assert _run(tmp_path, "import tensorflow", '["lazy_namespaces"]')[:2] == EAGER[::-1]
