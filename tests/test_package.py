"""The built distributions contain the right files and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import nano_init

REPOSITORY = Path(__file__).resolve().parent.parent


def tracked(*folders: str) -> set[str]:
    """Return the files of the project under some folders."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *folders],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("needs a git checkout to know what belongs to the project")
    return {name for name in listed.stdout.splitlines() if (REPOSITORY / name).is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, REPOSITORY],
        check=True,
        capture_output=True,
    )
    return folder


def test_the_wheel_contains_only_the_package_scripts_and_manual_pages(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    stem = f"nano_init-{nano_init.__version__}"
    scripts = f"{stem}.data/scripts"
    metadata = {
        f"{stem}.dist-info/{name}"
        for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }
    sourceable = {n for n in names if n.startswith(scripts)}
    assert {f"{scripts}/bigdl-nano-init", f"{scripts}/bigdl-nano-unset-env"} <= sourceable
    assert all(Path(n).name.startswith("bigdl-nano-") for n in sourceable)
    manuals = {f"{stem}.data/data/share/man/man1/nano-{name}.1" for name in ("init", "run")}
    assert manuals <= names
    assert names - metadata - sourceable - manuals == tracked("nano_init")
    assert "nano_init/py.typed" in names


def test_the_source_distribution_contains_all_files_to_build_and_test(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    stem = f"nano_init-{nano_init.__version__}/"
    with tarfile.open(sdist) as archive:
        names = {m.name.removeprefix(stem) for m in archive.getmembers() if m.isfile()}
    folders = ("nano_init", "scripts", "examples", "benchmarks", "docs", "man", "tests")
    files = {
        "README.md",
        "mkdocs.yml",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "pyproject.toml",
    }
    assert names - {"PKG-INFO", ".gitignore"} == tracked(*folders) | files


@pytest.mark.slow
def test_an_installed_wheel_works_without_tensorflow(built: Path, tmp_path: Path) -> None:
    """`nano-init`, `nano-run` and the scripts to source are on PATH and need only click."""
    (wheel,) = built.glob("*.whl")
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel],
        check=True,
    )
    (tmp_path / "s.py").write_text("import os; print(os.environ['OMP_NUM_THREADS'])")
    environ = {n: v for n, v in os.environ.items() if not n.startswith(("PYTHON", "OMP_"))}
    environ["PATH"] = f"{environment / 'bin'}{os.pathsep}{environ['PATH']}"

    def output(*command: str) -> str:
        return subprocess.run(
            command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    assert "not installed with nano-init" in output("nano-init", "--print")
    assert output(str(python), "-m", "nano_init", "--version").startswith("nano-init, version")
    threads = output("nano-run", "-q", "s.py")
    sourced = output("bash", "-euc", '. bigdl-nano-init; echo "$OMP_NUM_THREADS"')
    assert sourced == threads
    restored = output(
        "sh", "-euc", '. bigdl-nano-init; . bigdl-nano-unset-env; echo "${OMP_NUM_THREADS-unset}"'
    )
    assert restored == "unset\n"
    patch = subprocess.run(
        [python, "-c", "import nano_init; nano_init.patch_tensorflow()"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "TensorFlow is not installed: pip install 'nano-init[tensorflow]'" in patch.stderr


def test_importing_the_package_imports_no_numeric_library() -> None:
    code = (
        "import sys, nano_init; nano_init.__all__; dir(nano_init)\n"
        "print(sorted({'tensorflow', 'keras', 'numpy', 'click'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "[]\n"


def test_every_public_name_exists() -> None:
    assert sorted(nano_init.__all__) == nano_init.__all__
    for name in nano_init.__all__:
        assert getattr(nano_init, name) is not None


def test_an_unknown_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = nano_init.no_such_name
