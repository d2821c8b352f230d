"""What hosts compare of a program: its file, found without running any of it."""

from __future__ import annotations

import pytest

from nano_init.cli.facts import digest_target
from nano_init.launch.target import Target


@pytest.mark.parametrize(
    ("name", "path"),
    [("mod", "mod.py"), ("pkg", "pkg/__main__.py"), ("pkg.sub", "pkg/sub.py")],
)
def test_a_module_is_told_apart_by_the_file_that_would_run(tmp_path, name, path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text("raise RuntimeError('was imported')")
    digests = []
    for text in ("1", "2"):
        (tmp_path / path).write_text(text)
        digests.append(digest_target(Target(name, (), is_module=True), [str(tmp_path)]))

    assert digests[0] != digests[1]
    assert all(digest.startswith(f"{name} (") for digest in digests)


def test_a_folder_is_told_apart_by_its_main_file_and_not_by_where_it_lies(tmp_path):
    digests = []
    for place, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / place / "app").mkdir(parents=True)
        (tmp_path / place / "app/__main__.py").write_text(text)
        digests.append(digest_target(Target(str(tmp_path / place / "app"))))

    assert digests[0] == digests[1] != digests[2]


def test_a_module_that_is_not_found_is_its_name(tmp_path):
    target = Target("nowhere.at_all", (), is_module=True)

    assert digest_target(target, [str(tmp_path)]) == "nowhere.at_all"
