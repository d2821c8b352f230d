"""Whether bfloat16 can be guarded is read from the files of Keras, before it is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from nano_init.evidence.doctor.part_findings import list_part_findings
from nano_init.fingerprints.installed_parts import (
    bfloat16_fault,
    find_installed,
    judge_installed,
)
from nano_init.fingerprints.verdict import MISSING, UNVERIFIED, VERIFIED, Verdict
from nano_init.protocol.faster_paths import PATH_RECORDS


def installed(folder: Path, keras: str, tensorflow: str = "2.21.0"):
    (folder / "keras" / "src").mkdir(parents=True)
    (folder / "keras" / "src" / "version.py").write_text(f'__version__ = "{keras}"\n')
    (folder / "tensorflow").mkdir()
    return find_installed(tensorflow, {}, [str(folder)])


@pytest.mark.parametrize("version", ["3.3.3", "3.15.1", "3.12.0.dev1"])
def test_a_verified_version_is_taken_at_its_word(tmp_path, version):
    assert bfloat16_fault(installed(tmp_path, version), {}) == ""


def test_an_unverified_version_is_looked_at(tmp_path):
    found = installed(tmp_path, "3.16.0.dev2026")
    fault = bfloat16_fault(found, {})
    assert fault.startswith("Keras 3.16.0.dev2026 does not fit the guard operands (")
    assert bfloat16_fault(found, {"NANO_INIT_UNVERIFIED": "1"}) == ""


@pytest.mark.tensorflow
def test_a_later_version_with_the_verified_sources_is_guarded(tmp_path):
    import importlib.util

    for package in ("keras", "tensorflow"):
        spec = importlib.util.find_spec(package)
        (tmp_path / package).symlink_to(Path(spec.origin).parent)
    found = find_installed("2.99.0", {}, [str(tmp_path)])
    assert bfloat16_fault(found, {}) == ""


@pytest.mark.parametrize(
    ("keras", "tensorflow", "words"),
    [
        ("3.2.1", "2.21.0", "Keras 3.2.1 is older than 3.3: pip install 'keras>=3.3'"),
        ("3.5.0", "2.15.1", "TensorFlow 2.15.1 is older than 2.16: pip install 'tensorf"),
    ],
)
def test_an_old_version_is_named_with_the_way_out(tmp_path, keras, tensorflow, words):
    assert bfloat16_fault(installed(tmp_path, keras, tensorflow), {}).startswith(words)


def test_without_keras_nothing_is_said(tmp_path):
    assert bfloat16_fault(find_installed("2.21.0", {}, [str(tmp_path)]), {}) == ""


def test_a_path_without_its_source_is_missing(tmp_path):
    verdicts = judge_installed(PATH_RECORDS, installed(tmp_path, "3.15.1"))
    assert verdicts["gru"] == Verdict(MISSING, "GRU.inner_loop is missing")


def test_the_doctor_lists_what_is_active_and_why_others_are_not():
    parts = {record.name: Verdict(VERIFIED) for record in PATH_RECORDS}
    parts["gru"] = Verdict(UNVERIFIED, "GRU.inner_loop has changed")
    found = list(list_part_findings(parts, {"NANO_INIT_DISABLE": "adam"}))
    (well,) = (seen for level, seen, _ in found if level == "ok")
    assert "lstm" in well
    assert "gru" not in well
    assert " adam," not in well
    assert ("note", "adam: switched off by NANO_INIT_DISABLE", "") in found
    (seen,) = (seen for level, seen, _ in found if level == "warning")
    assert seen == "gru steps aside: GRU.inner_loop has changed"


def test_the_doctor_says_nothing_of_a_patch_without_keras():
    assert list(list_part_findings({}, {})) == []
