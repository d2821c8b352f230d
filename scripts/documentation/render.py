"""Write what is generated from the code and kept in the repository, or say what is stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
ROOT = _HERE.parents[1]
sys.path[:0] = [str(_HERE), str(ROOT / "benchmarks"), str(ROOT)]

from manual_pages import manual_page  # noqa: E402
from option_reference import COMMANDS  # noqa: E402
from tables import fill_blocks  # noqa: E402
from version_table import fill_support  # noqa: E402

__all__ = ["rendered"]

# Files for readers on GitHub and PyPI, where no hook fills a page.
_WITH_TABLES = ("README.md", "benchmarks/README.md")


def rendered() -> dict[Path, str]:
    """Return the text that each generated file should have."""
    files = {ROOT / "man" / f"{name}.1": manual_page(name) for name in COMMANDS}
    for name in _WITH_TABLES:
        path = ROOT / name
        files[path] = fill_support(fill_blocks(path.read_text(encoding="utf-8")))
    return files


def main() -> int:
    """Write the files; with --check write nothing and return 1 if one is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only name the files that are stale")
    check = parser.parse_args().check
    stale = {
        path: text
        for path, text in rendered().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        name = path.relative_to(ROOT)
        print(f"{name} is stale; run scripts/render-docs" if check else f"{name} written")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
