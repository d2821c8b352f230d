"""One record for each part of the patch, from which documents, tuner and benchmarks follow."""

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

# They act on the import itself, before there is anything to replace.
IMPORT_PATHS = {"collection_pause", "lazy_imports"}

# What they bring is shown by benchmarks/first_step.py, not by the time of a step.
FIRST_STEP_PATHS = IMPORT_PATHS | {"one_trace", "step_scalars"}


def test_each_part_has_a_name_of_its_own() -> None:
    assert {name for name, n in Counter(r.name for r in ALL_RECORDS).items() if n > 1} == set()


@pytest.mark.parametrize("record", ALL_RECORDS, ids=lambda record: record.name)
def test_a_callable_is_a_module_and_a_name_in_it(record) -> None:
    assert bool(record.targets) == (record.name not in IMPORT_PATHS)
    for text in (*record.targets, *record.uses):
        module, colon, name = text.partition(":")
        assert colon
        assert all(part.isidentifier() for part in (*module.split("."), *name.split(".")))


@pytest.mark.parametrize("record", ALL_RECORDS, ids=lambda record: record.name)
def test_a_summary_is_one_line_that_fits_a_table(record) -> None:
    assert record.summary
    assert not set(record.summary) & set("\n|")


def test_only_faster_paths_have_groups_and_models() -> None:
    assert [r.name for r in ALL_RECORDS if r.kind != PATH and (r.group or r.models)] == []
    assert {r.name for r in PATH_RECORDS if not r.models} == FIRST_STEP_PATHS


def test_a_group_is_named_in_the_order_of_the_paths() -> None:
    updates = ("adadelta", "adagrad", "adam", "adamax", "lion", "nadam", "rmsprop", "sgd")
    assert updates in path_groups()


def test_the_models_of_a_path_are_models_of_the_benchmarks() -> None:
    tree = ast.parse((ROOT / "benchmarks" / "models.py").read_text(encoding="utf-8"))
    (models,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODELS"
    )
    assert isinstance(models, ast.Dict)
    names = {key.value for key in models.keys if isinstance(key, ast.Constant)}
    assert {model for record in PATH_RECORDS for model in record.models} <= names


def test_the_records_are_read_without_keras_and_tensorflow() -> None:
    program = (
        "import sys, nano_init.protocol.patch_parts\n"
        "sys.exit(bool({'keras', 'tensorflow', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_guard_is_never_switched_off_with_the_paths() -> None:
    names = {record.name for record in ALL_RECORDS if record.kind == GUARD}
    assert names & {record.name for record in PATH_RECORDS} == set()
