"""The generated parts of the documentation are complete and up to date."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import click
import pytest

import nano_init
from nano_init.protocol import variables
from nano_init.protocol.faster_paths import path_table
from nano_init.protocol.supported_versions import KERAS_RANGE, TENSORFLOW_RANGE

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
MARKER = re.compile(r"<!-- generate: (\S+) ?(.*?) -->")


@pytest.fixture(scope="module", autouse=True)
def _generators() -> None:
    folders = [str(ROOT / "scripts" / "documentation"), str(ROOT / "benchmarks")]
    sys.path[:0] = folders
    yield
    for folder in folders:
        sys.path.remove(folder)


def load(name: str):
    return importlib.import_module(name)


def test_rendered_tables_and_manual_pages_are_up_to_date() -> None:
    """`scripts/render-docs` updates them."""
    for path, text in load("render").rendered().items():
        assert path.read_text(encoding="utf-8") == text, path.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_marker_of_a_page_is_filled(page: Path) -> None:
    markdown = page.read_text(encoding="utf-8")
    filled = load("mkdocs_hooks").fill_page(markdown)
    assert "<!-- generate" not in filled
    assert len(filled) >= len(markdown) - 60 * len(MARKER.findall(markdown))


def test_the_faster_paths_page_has_the_path_table() -> None:
    text = (ROOT / "docs" / "faster_paths.md").read_text(encoding="utf-8")
    assert path_table() in load("mkdocs_hooks").fill_page(text)


def test_an_unknown_marker_raises_an_error() -> None:
    with pytest.raises(KeyError):
        load("mkdocs_hooks").fill_page("<!-- generate: horoscope -->")


def test_every_message_belongs_to_a_topic_of_the_troubleshooting_page() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    prefixes = tuple(
        prefix
        for kind, argument in MARKER.findall(text)
        if kind == "messages"
        for prefix in argument.split()
    )
    messages = load("message_catalog").read_messages()
    assert len(messages) > 150
    assert {m.module for m in messages if not m.module.startswith(prefixes)} == set()


def test_each_troubleshooting_entry_quotes_an_existing_message() -> None:
    """Rewording a message requires rewording its entry."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    known = [message.text for message in load("message_catalog").read_messages()]
    entries = re.findall(r"^(`.+)\n:   ", text, re.MULTILINE)
    quotes = [quote for entry in entries for quote in re.findall(r"`([^`]+)`", entry)]
    assert len(quotes) > 10
    for quote in quotes:
        parts = [part.strip() for part in quote.split("…") if part.strip()]
        assert any(all(part in message for part in parts) for message in known), quote


def test_the_variable_table_lists_every_variable_with_its_meaning() -> None:
    rows = load("variable_table").read_variables()
    names = {row.name.removesuffix("OPTION") for row in rows}
    assert names == {getattr(variables, name) for name in variables.__all__}
    assert all(row.meaning and row.section for row in rows)
    assert any(row.is_user for row in rows)


@pytest.mark.parametrize("name", ["nano-run", "nano-init"])
def test_the_reference_lists_every_option_with_its_help(name: str) -> None:
    reference = load("option_reference")
    command = reference.COMMANDS[name]
    text = reference.command_markdown(name)
    shown = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    assert len(shown) > 15
    for option in shown:
        assert f"{option.opts[0]}" in text
        assert (option.help or "").replace("*", r"\*") in text


@pytest.mark.parametrize("name", ["nano-run", "nano-init"])
def test_no_text_line_of_a_manual_page_parses_as_a_roff_request(name: str) -> None:
    requests = {"TH", "SH", "TP", "PP", "B", "BR", "nf", "fi", "\\"}
    for line in load("manual_pages").manual_page(name).splitlines():
        if line.startswith((".", "'")):
            assert line[1:].split(" ")[0].strip('"') in requests, line


def test_figures_record_machine_versions_command_date_and_commit() -> None:
    tables = load("tables")
    names = [path.stem for path in sorted((ROOT / "benchmarks" / "results").glob("*.json"))]
    assert names
    for name in names:
        record = tables.read_record(name)
        for key in ("benchmark", "machine", "versions", "command", "date", "commit", "tables"):
            assert record[key], (name, key)
        for table in tables.read_tables(name).values():
            assert {len(row) for row in table.rows} == {len(table.columns)}


def test_a_stale_block_of_figures_is_replaced_and_other_text_stays() -> None:
    text = "before\n<!-- figures: quota/quota -->\nold\n<!-- end -->\nafter\n"
    filled = load("tables").fill_blocks(text)
    assert filled.startswith("before\n<!-- figures: quota/quota -->\n\n| command | ms/step |")
    assert filled.endswith("\n\n<!-- end -->\nafter\n")
    assert "old" not in filled
    assert load("tables").fill_blocks(filled) == filled


def test_a_cell_shows_its_unit_and_its_spread() -> None:
    record = load("record")
    columns = (record.Column("a", 1), record.Column("b", percent=True), record.Column("c", 2))
    rows = ((1234.56, 0.21, (1.0, 0.5, 2.0)), (None, "fails", 3))
    table = record.format_table(record.Table("t", "T", columns, rows))
    assert table.splitlines()[2:] == [
        "| 1,234.6 | 21% | 1.00 (0.50 to 2.00) |",
        "|  | fails | 3.00 |",
    ]


def test_the_api_page_lists_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = {name.rsplit(".", 1)[-1] for name in re.findall(r"^::: (\S+)", text, re.MULTILINE)}
    assert set(nano_init.__all__) - {"__version__"} <= shown


def test_the_support_table_lists_the_verified_versions() -> None:
    table = load("version_table").support_markdown()
    assert f"| Keras | {' to '.join(KERAS_RANGE)};" in table
    assert f"| TensorFlow | {' to '.join(TENSORFLOW_RANGE)} |" in table
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"<!-- support -->\n\n{table}\n\n<!-- end -->\n" in readme


def test_the_readme_has_at_most_700_words() -> None:
    words = (ROOT / "README.md").read_text(encoding="utf-8").split()
    assert len(words) <= 700
