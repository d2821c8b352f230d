"""Where a report is written: never over anything but an earlier report."""

from __future__ import annotations

import itertools
import json
import os
import tempfile

from nano_init.errors import UsageError
from nano_init.evidence.report.report_html import HTML_MARK, render_html
from nano_init.evidence.report.run_report import report_to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nano_init.evidence.report.run_report import Report

__all__ = ["check_report_file", "write_report"]

_JSON_MARK = '"nano_run_report"'

_FORMS = (".html", ".json")


def check_report_file(path: str) -> None:
    """Raise before the run if its report could not be written, or would replace a file.

    Args:
        path: where the report is to go; its ending says in which form.

    Raises:
        UsageError: the ending is unknown, the folder cannot be written to, or a file is there
            that is no report.
    """
    if not path.endswith(_FORMS):
        raise UsageError(f"--report={path}: its name must end in {' or '.join(_FORMS)}")
    folder = os.path.dirname(path) or os.curdir
    if not os.path.isdir(folder):
        raise UsageError(f"--report={path}: folder not found: {folder!r}")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--report={path}: the folder {folder!r} cannot be written to")
    if os.path.lexists(path) and not _is_report(path):
        raise UsageError(
            f"--report={path} exists and is not a report of nano-run; choose another file"
        )


def write_report(path: str, report: Report) -> str:
    """Write a report, whole or not at all.

    Args:
        path: where to, as `check_report_file` has let pass before the run.
        report: the report.

    Returns:
        Where it was written: next to the path if a file that is no report is there by now.

    Raises:
        OSError: it cannot be written.
    """
    if path.endswith(".json"):
        text = json.dumps(report_to_json(report), indent=2) + "\n"
    else:
        text = render_html(report)
    file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - it becomes the report
        "w",
        encoding="utf-8",
        errors="backslashreplace",  # arguments need not be UTF-8
        dir=os.path.dirname(path) or os.curdir,
        delete=False,
    )
    try:
        with file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(file.name, 0o666 & ~umask)
        return _move(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise


def _move(source: str, path: str) -> str:
    """Move a file to a path or, if that is not to be replaced, next to it; return where to."""
    if not os.path.lexists(path) or _is_report(path):
        os.replace(source, path)
        return path
    stem, ending = os.path.splitext(path)
    for number in itertools.count(2):
        free = f"{stem}-{number}{ending}"
        try:
            os.close(os.open(free, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            continue
        try:
            os.replace(source, free)
        except BaseException:
            os.unlink(free)
            raise
        break
    return free


def _is_report(path: str) -> bool:
    if not os.path.isfile(path):  # a pipe would be waited for
        return False
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            head = file.read(4096)
    except OSError:
        return False
    return HTML_MARK in head or _JSON_MARK in head
