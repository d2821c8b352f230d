"""Hosts compare the file of their program, which is found without running any of it."""

from __future__ import annotations

from importlib import metadata

import pytest

from nano_init.launch.rendezvous import compare_facts
from nano_init.protocol.patch_options import PatchOptions
from nano_init.protocol.target import Target
from nano_init.run.job_fingerprint import digest_target, list_facts
from nano_init.run.request import RunRequest
from nano_init.survey import survey


@pytest.mark.parametrize(
    ("name", "path"),
    [("mod", "mod.py"), ("pkg", "pkg/__main__.py"), ("pkg.sub", "pkg/sub.py")],
)
def test_a_module_is_identified_by_the_file_that_would_run(tmp_path, name, path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text("raise RuntimeError('was imported')")
    digests = []
    for text in ("1", "2"):
        (tmp_path / path).write_text(text)
        digests.append(digest_target(Target(name, (), is_module=True), {}, [str(tmp_path)]))

    assert digests[0] != digests[1]
    assert all(digest.startswith(f"{name} (") for digest in digests)


def test_a_folder_is_identified_by_its_main_file_and_not_by_its_location(tmp_path):
    digests = []
    for place, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / place / "app").mkdir(parents=True)
        (tmp_path / place / "app/__main__.py").write_text(text)
        digests.append(digest_target(Target(str(tmp_path / place / "app")), {}))

    assert digests[0] == digests[1] != digests[2]


def test_a_module_that_is_not_found_is_identified_by_its_name(tmp_path):
    target = Target("nowhere.at_all", (), is_module=True)

    assert digest_target(target, {}, [str(tmp_path)]) == "nowhere.at_all"


def test_a_program_from_stdin_is_identified_by_its_content():
    digests = [digest_target(Target("-"), {}, program=text) for text in (b"1", b"1", b"2", b"")]

    assert digests[0] == digests[1] != digests[2]
    assert digests[0].startswith("stdin (")
    assert digests[3] == "stdin (empty)"


@pytest.mark.parametrize(
    ("here", "there", "sentence"),
    [
        ("1", "2", "a differs: 1 on host 0, 2 on h; start the same on all hosts"),
        ("1", "1", ""),
        ("1", "", ""),
        ("", "1", ""),
    ],
)
def test_an_optional_fact_is_compared_only_if_both_hosts_have_it(here, there, sentence):
    assert compare_facts({"a": here}, {"a": there}, "h") == sentence


def test_a_host_lists_its_version_of_tf_keras_or_an_empty_one():
    listed = list_facts(RunRequest(Target("-")), PatchOptions("float32"), survey({}))

    try:
        version = metadata.version("tf_keras")
    except metadata.PackageNotFoundError:
        version = ""
    assert listed["the version of tf_keras"] == version


def test_a_fact_missing_on_the_other_host_is_a_difference():
    assert compare_facts({"a": "1"}, {}, "h").startswith("a differs: 1 on host 0, not known on h")
