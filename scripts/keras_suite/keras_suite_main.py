"""Run Keras's own tests plain and patched, and print every test whose outcome differs.

The tests are those of a source tree of Keras's, which is no part of nano-init. A test that differs
is run again, alone, both ways: one that does not differ each time depends on chance, and is counted
apart.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from differences import Difference, find_differences, read_expected, reason_for
from suite_process import SuiteRun, run_tests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from suite_process import Outcome

_DEFAULT = [f"keras/src/{name}" for name in ("layers", "optimizers", "losses", "metrics")]
_REPEATS = 2
_EXAMPLE = """
example:
  git clone --depth 1 --branch v3.15.1 https://github.com/keras-team/keras /tmp/keras
  scripts/keras-suite /tmp/keras
  scripts/keras-suite /tmp/keras keras/src/layers/rnn -n 2 --precision mixed_bfloat16

exit status: 0 if no test differs but those that may, 1 if one does, 2 if the call is wrong
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if none differs that must not, 1 if one does, 2 if the call is wrong."""
    options = _parser().parse_args(arguments)
    folder = options.folder.resolve()
    try:
        files = _test_files(folder, options.tests or _DEFAULT)
    except ValueError as error:
        print(f"keras-suite: {error}", file=sys.stderr)
        return 2
    plain = SuiteRun(folder, None, options.timeout)
    patched = replace(plain, precision=options.precision)
    results = {run: _run_all(run, files, options) for run in (plain, patched)}
    found = find_differences(results[plain], results[patched])
    stable, chance = _split_by_chance(found, plain, patched)
    return _report(results[plain], stable, chance, options.precision)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/keras-suite",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="the root of Keras's source tree")
    add("tests", nargs="*", metavar="TEST", help=f"folders or files in it ({' '.join(_DEFAULT)})")
    add("-n", dest="processes", type=int, default=os.cpu_count() or 1, help="processes at a time")
    precisions = ("float32", "mixed_bfloat16")
    add("--precision", choices=precisions, default="float32", help="the patch's (%(default)s)")
    add("--timeout", type=float, default=300, help="seconds that a file may take (%(default)s)")
    add("--batch", type=int, default=12, help="files in one process (%(default)s)")
    return parser


def _test_files(folder: Path, tests: Sequence[str]) -> list[str]:
    """Return the test files that are asked for, relative to the folder.

    Raises:
        ValueError: The folder is not a Keras source tree, or a test is not in it.
    """
    if not (folder / "keras" / "src" / "version.py").is_file():
        raise ValueError(f"{folder} is not a Keras source tree: it has no keras/src/version.py")
    found: list[Path] = []
    for test in tests:
        path = folder / test
        if not path.exists():
            raise ValueError(f"{folder} has no {test}")
        found += [path] if path.is_file() else sorted(path.rglob("*_test.py"))
    if not found:
        raise ValueError(f"there is no *_test.py in {', '.join(tests)} of {folder}")
    return [str(path.relative_to(folder)) for path in dict.fromkeys(found)]


def _run_all(
    run: SuiteRun, files: Sequence[str], options: argparse.Namespace
) -> dict[str, Outcome]:
    batches = list(_batches(files, options.batch))
    found: dict[str, Outcome] = {}
    with ThreadPoolExecutor(options.processes) as pool:
        parts = pool.map(lambda batch: run_tests(run, batch), batches)
        for number, part in enumerate(parts, start=1):
            found.update(part)
            state = f"{number} of {len(batches)} batches, {len(found)} tests"
            print(f"keras-suite: {run.label}: {state}", file=sys.stderr)
    return found


def _batches(files: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(files), size):
        yield files[start : start + size]


def _split_by_chance(
    found: Sequence[Difference], plain: SuiteRun, patched: SuiteRun
) -> tuple[list[Difference], list[Difference]]:
    """Return the differences that stay when they are run again, and those that do not."""
    stable = list(found)
    for _ in range(_REPEATS):
        again: list[Difference] = []
        for difference in stable:
            results = [run_tests(run, [difference.test]) for run in (plain, patched)]
            again += find_differences(*results)
        names = {difference.test for difference in again}
        stable = [difference for difference in stable if difference.test in names]
    kept = {difference.test for difference in stable}
    return stable, [difference for difference in found if difference.test not in kept]


def _report(
    plain: dict[str, Outcome],
    stable: Sequence[Difference],
    chance: Sequence[Difference],
    precision: str,
) -> int:
    expected = read_expected()
    unexpected = 0
    for difference in stable:
        reason = reason_for(difference.test, precision, expected)
        unexpected += reason is None
        print(f"{'DIFFERS' if reason is None else 'may differ'}  {difference.test}")
        for label, outcome in (("plain", difference.plain), ("patched", difference.patched)):
            print(f"    {label}: {outcome.outcome} {outcome.message}".rstrip())
        if reason:
            print(f"    because {reason}")
    for difference in chance:
        print(f"by chance  {difference.test}")
    counts = f"{len(stable) - unexpected} that may, {len(chance)} by chance"
    print(f"{len(plain)} tests, {precision}: {unexpected} differ, and {counts}")
    if not plain:
        print("keras-suite: no test was run; try one file with pytest first", file=sys.stderr)
    return 1 if unexpected or not plain else 0


if __name__ == "__main__":
    sys.exit(main())
