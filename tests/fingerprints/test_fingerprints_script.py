"""`scripts/fingerprints` records the sources of a release and prints what has changed."""

from __future__ import annotations

import copy
import importlib.machinery
import importlib.util
from pathlib import Path

import pytest

from nano_init.fingerprints.known_sources import read_known_sources

SCRIPT = Path(__file__).parents[2] / "scripts" / "fingerprints"
GRU = "keras.src.layers.rnn.gru:GRU.inner_loop"
FILE = "keras/src/layers/rnn/gru.py"


def source(value, comment=""):
    return f"class GRU:\n    def inner_loop(self):\n        return {value}  # {comment}\n".encode()


@pytest.fixture
def script():
    loader = importlib.machinery.SourceFileLoader("fingerprints_script", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def part(script, tmp_path):
    return script.load(tmp_path / "none.json")["keras"]


def reader(data):
    def read(file):
        if file != FILE:
            raise FileNotFoundError(file)
        return data

    return read


def test_changes_of_a_minor_version_are_printed_with_the_parts_they_affect(script, part):
    script.add_release(part, "keras", "3.3.0", reader(source(1)))
    script.add_release(part, "keras", "3.4.0", reader(source(2)))
    lines = script.format_changes(part, "keras", "3.4").splitlines()
    assert lines[0].startswith("keras 3.4.0: 1 of ")
    assert lines[1:] == [f"  {GRU}  gru"]


def test_the_latest_release_represents_its_minor_version_in_any_order(script, part):
    for version, value in (("3.3.2", 2), ("3.3.0", 1), ("3.3.10", 3), ("3.3.9", 4)):
        script.add_release(part, "keras", version, reader(source(value)))
    assert part["releases"] == {"3.3": "3.3.10"}
    assert list(part["callables"][GRU].values()) == [["3.3"]]
    # The files of the other releases have different sources.
    assert sum(bool(minors) for minors in part["files"][FILE].values()) == 1


def test_a_file_that_differs_only_in_comments_is_known(script, part):
    script.add_release(part, "keras", "3.3.1", reader(source(1)))
    script.add_release(part, "keras", "3.3.0", reader(source(1, "as before")))
    assert len(part["files"][FILE]) == 2


def test_written_data_are_read_back(script, tmp_path):
    path = tmp_path / "data.json"
    data = script.load(path)
    script.add_release(data["keras"], "keras", "3.3.1", reader(source(1)))
    before = copy.deepcopy(data)
    script.store(data, path)
    assert script.load(path) == before


def test_a_known_release_that_is_read_again_changes_no_byte(script, tmp_path):
    path, data = tmp_path / "data.json", script.load(tmp_path / "none.json")
    releases = {"3.3.1": 1, "3.4.0": 2, "3.5.0": 1, "3.10.0": 3}
    for version, value in releases.items():
        script.add_release(data["keras"], "keras", version, reader(source(value)))
    script.store(data, path)
    before = path.read_bytes()
    for version, value in reversed(releases.items()):
        again = script.load(path)
        script.add_release(again["keras"], "keras", version, reader(source(value)))
        script.store(again, path)
        assert path.read_bytes() == before


def test_the_data_contain_every_callable_of_the_records(script):
    known = read_known_sources()
    for package in script.PACKAGES:
        assert script.watched_callables(package) == sorted(known[package].callables)
