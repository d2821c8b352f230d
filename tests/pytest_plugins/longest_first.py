"""Share out long files first, so that no test process ends long before the others.

pytest-xdist with `--dist loadfile` gives a process file after file, by default in the order of
their number of tests. Files of few, long tests would come last, and one process would run them
while the others wait. `--no-loadscope-reorder` makes it keep the order that this plugin sets.
"""

from __future__ import annotations

from collections import Counter

import pytest

__all__ = ["long_files_first", "pytest_collection_modifyitems"]


def long_files_first(tests: list[tuple[str, bool]]) -> list[int]:
    """Return the order of tests: files with slow tests first, then those with many tests.

    The tests of a file stay together, in the order they have.

    Args:
        tests: The file of each test and whether the test is slow.
    """
    counts = Counter(file for file, _ in tests)
    slow = {file for file, is_slow in tests if is_slow}
    first = {file: place for place, (file, _) in reversed(list(enumerate(tests)))}

    def rank(place: int) -> tuple[bool, int, int, int]:
        file = tests[place][0]
        return file not in slow, -counts[file], first[file], place

    return sorted(range(len(tests)), key=rank)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests of a process of pytest-xdist; one process alone keeps its order."""
    if not hasattr(config, "workerinput"):
        return
    marked = [
        (item.nodeid.split("::")[0], item.get_closest_marker("slow") is not None) for item in items
    ]
    items[:] = [items[place] for place in long_files_first(marked)]
