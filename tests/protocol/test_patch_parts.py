"""Each part of the patch has one record; docs, tuner and benchmarks are derived from it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from nano_init.protocol.faster_paths import PATH_RECORDS, path_groups
from nano_init.protocol.patch_parts import ALL_RECORDS
from nano_init.protocol.patch_record import GUARD, PATH

ROOT = Path(__file__).parents[2]

# These paths act on the import itself and replace no callable.
IMPORT_PATHS = {"collection_pause", "lazy_imports", "lazy_namespaces", "type_variables"}

# benchmarks/first_step.py shows the gain of these paths; the time per step does not.
FIRST_STEP_PATHS = IMPORT_PATHS | {
    "flat_step",
    "legacy_one_trace",
    "legacy_step_scalars",
    "one_trace",
    "replica_reduction",
    "step_scalars",
}


def test_part_names_are_unique() -> None:
    assert {name for name, n in Counter(r.name for r in ALL_RECORDS).items() if n > 1} == set()


@pytest.mark.parametrize("record", ALL_RECORDS, ids=lambda record: record.name)
def test_a_callable_is_written_as_module_and_name(record) -> None:
    assert bool(record.targets) == (record.name not in IMPORT_PATHS)
    for text in (*record.targets, *record.uses):
        module, colon, name = text.partition(":")
        assert colon
        assert all(part.isidentifier() for part in (*module.split("."), *name.split(".")))


@pytest.mark.parametrize("record", ALL_RECORDS, ids=lambda record: record.name)
def test_a_summary_is_one_line_without_table_separators(record) -> None:
    assert record.summary
    assert not set(record.summary) & set("\n|")


def test_only_faster_paths_have_groups_and_models() -> None:
    assert [r.name for r in ALL_RECORDS if r.kind != PATH and (r.group or r.models)] == []
    assert {r.name for r in PATH_RECORDS if not r.models} == FIRST_STEP_PATHS


def test_a_group_lists_its_paths_in_order() -> None:
    legacy = ("legacy_adam", "legacy_rmsprop", "legacy_sgd")
    updates = (
        "adadelta",
        "adafactor",
        "adagrad",
        "adam",
        "adamax",
        "ftrl",
        "lamb",
        *legacy,
        "lion",
        "nadam",
        "rmsprop",
        "sgd",
    )
    assert updates in path_groups()


def test_the_benchmarks_have_every_model_of_a_path() -> None:
    tree = ast.parse((ROOT / "benchmarks" / "models.py").read_text(encoding="utf-8"))
    (models,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODELS"
    )
    assert isinstance(models, ast.Dict)
    names = {key.value for key in models.keys if isinstance(key, ast.Constant)}
    assert {model for record in PATH_RECORDS for model in record.models} <= names


def test_reading_the_records_imports_neither_keras_nor_tensorflow() -> None:
    program = (
        "import sys, nano_init.protocol.patch_parts\n"
        "sys.exit(bool({'keras', 'tensorflow', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("adam", {"keras"}),
        ("fit_stall", {"keras"}),
        ("legacy_adam", {"tf_keras"}),
        ("legacy_fit_stall", {"tf_keras"}),
        ("frame_filters", {"keras", "tf_keras"}),
        ("operands", {"keras", "tf_keras"}),
        ("lazy_namespaces", {"keras", "tf_keras"}),
    ],
)
def test_a_part_is_for_the_keras_that_it_changes(name, packages) -> None:
    """What changes TensorFlow alone is for both, but not if it changes a Keras too."""
    (record,) = (record for record in ALL_RECORDS if record.name == name)
    assert record.keras_packages == packages


def test_a_path_for_keras_2_is_named_so() -> None:
    named = {record.name for record in PATH_RECORDS if record.name.startswith("legacy_")}
    assert {r.name for r in PATH_RECORDS if r.keras_packages == {"tf_keras"}} == named


def test_a_guard_is_not_a_path_that_can_be_switched_off() -> None:
    names = {record.name for record in ALL_RECORDS if record.kind == GUARD}
    assert names & {record.name for record in PATH_RECORDS} == set()
