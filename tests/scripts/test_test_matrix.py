"""The pairs of TensorFlow and Keras, and the table of what works on which."""

from __future__ import annotations

import pytest


@pytest.fixture
def pairs(import_from):
    return import_from("matrix", "pairs")


@pytest.fixture
def table(import_from):
    return import_from("matrix", "support_table")


@pytest.fixture
def suites(import_from):
    return import_from("matrix", "suites")


def test_the_support_page_shows_the_table_of_the_data(table):
    text = table.SUPPORT_PAGE.read_text(encoding="utf-8")
    assert table.with_table(text, table.render_table(table.read_rows())) == text


def test_every_row_of_the_data_is_a_pair_of_the_matrix(pairs, table):
    known = [pair.name for pair in pairs.read_matrix().pairs]
    rows = [row.pair for row in table.read_rows()]
    assert rows == [name for name in known if name in rows]


def test_every_suite_except_the_contract_suite_exists(pairs):
    """The contract tests may follow later; a rename of the others must change the matrix too."""
    root = pairs.MATRIX_FILE.parents[2]
    suites = pairs.read_matrix().suites
    missing = [
        path for name, paths in suites.items() for path in paths if not (root / path).exists()
    ]
    assert not set(missing) - set(suites["contract"])


def test_pairs_are_chosen_by_name_or_age_and_all_by_default(pairs):
    known = pairs.read_matrix().pairs
    choose = pairs.choose_pairs
    assert choose(known, []) == list(known)
    assert choose(known, ["newest", "oldest"]) == [known[0], known[-2]]
    assert choose(known, [pairs.PRE_RELEASE, known[1].name]) == [known[1], known[-1]]


def test_an_unknown_pair_is_rejected_in_one_sentence(run_script):
    done = run_script("test-matrix", "2.15")
    assert done.returncode == 2
    assert done.stderr.startswith("test-matrix: unknown pair '2.15'; choose from oldest, newest, ")
    assert done.stderr.count("\n") == 1


def test_the_list_has_every_pair(pairs, run_script):
    done = run_script("test-matrix", "--list")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        pair.name for pair in pairs.read_matrix().pairs
    ]


def test_counts_are_read_from_a_report(suites, tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite tests="7" failures="1" errors="2" skipped="1"/></testsuites>'
    )
    assert suites.read_counts(report) == suites.Counts(passed=3, failed=3, skipped=1)


def test_a_row_says_what_failed_and_what_was_not_run(table, suites):
    versions = suites.Versions("2.16.2", "3.3.3", "2.16.0", "3.10.13")
    counts = {"contract": None, "silent errors": suites.Counts(5, 0, 1), "training": None}
    good = table.SupportRow("a", versions, counts)
    bad = table.SupportRow("b", versions, {**counts, "training": suites.Counts(2, 1, 0)})
    assert table.render_table([good, bad]).splitlines()[2:] == [
        "| 2.16.2 | 3.3.3 | 2.16.0 | 3.10 | not run | pass | not run |",
        "| 2.16.2 | 3.3.3 | 2.16.0 | 3.10 | not run | pass | 1 of 3 fail |",
    ]


def test_new_rows_replace_old_ones_and_keep_the_order(table, suites, tmp_path):
    versions = suites.Versions("1", "2", "3", "4")
    old = [table.SupportRow(name, versions, {"a": None}) for name in ("x", "y", "gone")]
    new = [table.SupportRow("y", versions, {"a": suites.Counts(1, 0, 0)})]
    merged = table.merge_rows(old, new, ["x", "y", "z"])
    assert merged == [old[0], new[0]]
    table.write_rows(merged, tmp_path / "rows.json")
    assert table.read_rows(tmp_path / "rows.json") == merged


@pytest.mark.parametrize(
    ("paths", "share"),
    [
        (["tests/keras_patch/test_contract.py", "tests/keras_patch/test_parts.py"], "worksteal"),
        (["tests/test_package.py"] * 3, "loadfile"),
        (["tests/plan"], "loadfile"),
    ],
)
def test_two_processes_share_out_the_tests_of_two_files_but_else_whole_files(suites, paths, share):
    """A folder may have many files, and module fixtures are made once per file and process."""
    assert suites._share_of_process(paths, 2) == share
