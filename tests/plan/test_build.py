"""The installed TensorFlow is identified without importing it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nano_init.plan.build import Build, read_build


def install(folder: Path, distribution: str) -> str:
    (folder / "tensorflow").mkdir(parents=True)
    (folder / f"{distribution}.dist-info").mkdir()
    return str(folder)


@pytest.mark.parametrize(
    ("distribution", "build"),
    [
        ("tensorflow-2.21.0", Build("tensorflow", "2.21.0", "eigen")),
        ("tensorflow_cpu-2.16.2", Build("tensorflow-cpu", "2.16.2", "eigen")),
        ("intel_tensorflow-2.10.0", Build("intel-tensorflow", "2.10.0", "openmp")),
    ],
)
def test_a_distribution_gives_version_and_thread_pool(
    tmp_path: Path, distribution: str, build: Build
) -> None:
    assert read_build([install(tmp_path, distribution)]) == build


def test_the_first_tensorflow_on_the_path_counts(tmp_path: Path) -> None:
    first = install(tmp_path / "a", "tensorflow-2.20.0")
    second = install(tmp_path / "b", "tensorflow-2.16.0")
    found = read_build([str(tmp_path), first, second])
    assert found is not None
    assert found.version == "2.20.0"


def test_keras_versions_are_found_in_any_folder_of_the_path(tmp_path: Path) -> None:
    """They may be in other folders than TensorFlow, and the first on the path counts."""
    first = install(tmp_path / "a", "tensorflow-2.20.0")
    for folder, package, version in (
        ("b", "keras", "3.10.0"),
        ("c", "keras", "3.9.0"),
        ("c", "tf_keras", "2.20.1"),
    ):
        (tmp_path / folder / package).mkdir(parents=True)
        (tmp_path / folder / f"{package}-{version}.dist-info").mkdir()
    found = read_build([first, str(tmp_path / "b"), str(tmp_path / "c")])
    assert found is not None
    assert found.keras == "keras 3.10.0, tf_keras 2.20.1"


def test_without_tensorflow_there_is_no_build(tmp_path: Path) -> None:
    (tmp_path / "tensorflow_datasets-4.9.dist-info").mkdir()
    assert read_build([str(tmp_path), str(tmp_path / "missing")]) is None


def test_an_unreadable_folder_is_ignored(tmp_path: Path) -> None:
    closed = install(tmp_path / "closed", "tensorflow-2.21.0")
    Path(closed).chmod(0o311)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("root may list every folder")
        assert read_build([closed]) is None
    finally:
        Path(closed).chmod(0o755)
