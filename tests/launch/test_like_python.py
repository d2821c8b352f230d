"""To the outside, `nano-run SCRIPT` behaves exactly like `python SCRIPT`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nano_init.protocol.programs import BOOTSTRAP_FOLDER

Run = Callable[..., "subprocess.CompletedProcess[str]"]

STATE = """
import os, sys
print(sys.argv, sys.orig_argv[1:], __name__, __file__, __spec__, __package__)
print(sys.path, sys.flags, sys.executable, os.getcwd())
print(sorted(sys.modules))
print([getattr(f, "__name__", type(f).__name__) for f in sys.meta_path])
"""


def same(nano_run: Run, python: Run, *arguments: str, **options: object) -> None:
    """Assert that both ways give the same output, errors and exit status."""
    theirs = python(*arguments, **options)
    ours = nano_run("--quiet", *arguments, **options)
    assert (ours.stdout, ours.stderr, ours.returncode) == (
        theirs.stdout,
        theirs.stderr,
        theirs.returncode,
    )


class TestProgramState:
    def test_arguments_names_paths_and_modules(
        self, nano_run: Run, python: Run, tmp_path: Path
    ) -> None:
        """The import hooks for Keras and BigDL-Nano are the only difference."""
        (tmp_path / "s.py").write_text(STATE)
        theirs = python("s.py", "--epochs", "3", "-m", "a b", "", "--")
        ours = nano_run("--quiet", "s.py", "--epochs", "3", "-m", "a b", "", "--")
        shown = ours.stdout.replace("['_ImportFinder', '_KerasFinder', ", "[").replace(
            ", '_BigdlFinder']", "]"
        )
        assert shown == theirs.stdout
        assert ours.stderr == theirs.stderr == ""

    def test_a_script_in_another_folder(self, nano_run: Run, python: Run, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "sibling.py").write_text("value = 5")
        (tmp_path / "sub" / "s.py").write_text(
            "import sibling, sys; print(sibling.value, sys.path)"
        )
        same(nano_run, python, "sub/s.py")

    def test_a_module_with_relative_imports(
        self, nano_run: Run, python: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "p" / "q").mkdir(parents=True)
        (tmp_path / "p" / "__init__.py").write_text("")
        (tmp_path / "p" / "q" / "__init__.py").write_text("")
        (tmp_path / "p" / "a.py").write_text("value = 7")
        (tmp_path / "p" / "q" / "__main__.py").write_text(
            "from ..a import value\nimport sys\nprint(value, sys.argv, sys.path, __spec__.name)"
        )
        same(nano_run, python, "-m", "p.q", "--epochs", "3")

    def test_a_folder_a_zip_file_and_stdin(
        self, nano_run: Run, python: Run, tmp_path: Path
    ) -> None:
        code = "import sys; print(sys.argv, __name__, sys.path)"
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "__main__.py").write_text(code)
        with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
            archive.writestr("__main__.py", code)
        same(nano_run, python, "folder", "x")
        same(nano_run, python, "app.pyz", "x")
        same(nano_run, python, "-", "x", input=code)

    def test_the_program_reads_stdin(self, nano_run: Run, python: Run, tmp_path: Path) -> None:
        (tmp_path / "s.py").write_text("import sys; print(sys.stdin.read()[::-1])")
        same(nano_run, python, "s.py", input="one\ntwo")

    def test_a_script_named_like_an_option_may_follow_two_hyphens(
        self, nano_run: Run, python: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "-x.py").write_text("import sys; print(sys.argv)")
        same(nano_run, python, "--", "-x.py", "--epochs", "3")

    def test_a_module_name_may_be_joined_to_m(self, nano_run: Run, python: Run) -> None:
        same(nano_run, python, "-mjson.tool", "--help")

    @pytest.mark.parametrize(
        "locale_environ",
        [
            {"LANG": "", "LC_ALL": "", "LC_CTYPE": ""},
            {"LANG": "C", "LC_ALL": "", "LC_CTYPE": "POSIX"},
            {"LANG": "C", "LC_ALL": "", "LC_CTYPE": "C.UTF-8"},
            {"LC_ALL": "C"},
            {"LC_ALL": "", "LANG": "tr_TR.UTF-8"},
        ],
    )
    def test_the_program_gets_the_callers_locale(
        self,
        nano_run: Run,
        python: Run,
        tmp_path: Path,
        locale_environ: dict[str, str],
    ) -> None:
        """Python replaces the locale "C" in its environment with a UTF-8 one (PEP 538)."""
        (tmp_path / "s.py").write_text(
            "import locale, os, sys\n"
            "print(sys.flags.utf8_mode, locale.getpreferredencoding(), locale.setlocale(0))\n"
            "print({n: v for n, v in os.environ.items() if n.startswith(('LC_', 'LANG'))})\n"
        )
        same(nano_run, python, "s.py", env=locale_environ)

    def test_special_characters_in_names_and_arguments_are_preserved(
        self, nano_run: Run, python: Run, tmp_path: Path
    ) -> None:
        name = "a b'\"$x é.py"
        (tmp_path / name).write_text("import sys; print(ascii(sys.argv))")
        same(nano_run, python, name, "c d'\"$y\n")


class TestExit:
    @pytest.mark.parametrize(
        "code",
        [
            "raise SystemExit(7)",
            "import sys; sys.exit('a message')",
            "def f():\n    return 1 / 0\nf()",
            "import os; os._exit(3)",
            "x = (",
            "import no_such_module",
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
            "import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(9)",
            "import os; os.abort()",
        ],
    )
    def test_exit_status_and_traceback(
        self, nano_run: Run, python: Run, tmp_path: Path, code: str
    ) -> None:
        (tmp_path / "s.py").write_text(code)
        same(nano_run, python, "s.py")

    def test_python_itself_reports_a_missing_module(self, nano_run: Run, python: Run) -> None:
        same(nano_run, python, "-m", "no.such.module")

    def test_the_program_keeps_the_process_id_and_receives_signals(
        self, environ: dict[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "s.py").write_text(
            "import os, signal, sys\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))\n"
            "print(os.getpid(), flush=True)\n"
            "signal.pause()\n"
        )
        start = "from nano_init.cli.run import main; main()"
        with subprocess.Popen(
            [sys.executable, "-c", start, "--quiet", "s.py"],
            env=environ,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert int(process.stdout.readline()) == process.pid
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 42


class TestChildren:
    @pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
    @pytest.mark.filterwarnings("ignore")
    def test_multiprocessing(self, nano_run: Run, python: Run, tmp_path: Path, method: str) -> None:
        (tmp_path / "s.py").write_text(
            "import multiprocessing as mp, sys\n"
            "def f(x): return (x * x, sys.path, __name__)\n"
            "if __name__ == '__main__':\n"
            f"    with mp.get_context({method!r}).Pool(1) as pool:\n"
            "        print(pool.map(f, [1, 2, 3]))\n"
        )
        same(nano_run, python, "s.py")

    def test_a_python_started_by_the_program(
        self, nano_run: Run, python: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "s.py").write_text(
            "import subprocess, sys\n"
            "code = 'import sys; print(sys.path, sorted(sys.modules))'\n"
            "for flags in ([], ['-I'], ['-E'], ['-s'], ['-B', '-u']):\n"
            "    print(subprocess.run([sys.executable, *flags, '-c', code],\n"
            "                         capture_output=True, text=True))\n"
        )
        same(nano_run, python, "s.py")


class TestSitecustomize:
    def test_the_users_sitecustomize_still_runs(
        self, nano_run: Run, python: Run, environ: dict[str, str], tmp_path: Path
    ) -> None:
        own = tmp_path / "own"
        own.mkdir()
        (own / "sitecustomize.py").write_text("import sys; sys.marked = __file__; value = 1")
        (tmp_path / "s.py").write_text(
            "import sys, sitecustomize\n"
            "print(sys.marked, sitecustomize.__file__, sitecustomize.value, sys.path)"
        )
        path = {"PYTHONPATH": f"{own}{os.pathsep}{environ['PYTHONPATH']}"}
        same(nano_run, python, "s.py", env=path)

    @pytest.mark.parametrize("code", ["1 / 0", "import no_such_module", "raise ImportError('x')"])
    def test_a_broken_sitecustomize_fails_as_under_python(
        self,
        nano_run: Run,
        python: Run,
        environ: dict[str, str],
        tmp_path: Path,
        code: str,
    ) -> None:
        own = tmp_path / "own"
        own.mkdir()
        (own / "sitecustomize.py").write_text(code)
        (tmp_path / "s.py").write_text("import sys; print(sorted(sys.modules))")
        path = {"PYTHONPATH": f"{own}{os.pathsep}{environ['PYTHONPATH']}"}
        theirs = python("s.py", env=path)
        ours = nano_run("--quiet", "s.py", env=path)
        assert (ours.stdout, ours.returncode) == (theirs.stdout, theirs.returncode)
        # nano-run is a Python program too, and imports the broken module once itself.
        assert ours.stderr == theirs.stderr * 2

    def test_children_inherit_pythonpath_after_the_bootstrap_folder(
        self, nano_run: Run, environ: dict[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "s.py").write_text("import os; print(os.environ['PYTHONPATH'])")
        expected = f"{BOOTSTRAP_FOLDER}{os.pathsep}{environ['PYTHONPATH']}"
        assert nano_run("-q", "s.py").stdout.strip() == expected


class TestImports:
    def test_a_program_without_keras_imports_no_extra_modules(
        self, nano_run: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "s.py").write_text(
            "import sys\n"
            "names = {'tensorflow', 'keras', 'numpy', 'nano_init', 'json', 'click'}\n"
            "print(sorted(names & set(sys.modules)))"
        )
        # Coverage measurement imports some of them.
        uncovered = {"COVERAGE_PROCESS_START": None, "COVERAGE_PROCESS_CONFIG": None}
        assert nano_run("-q", "s.py", env=uncovered).stdout == "[]\n"

    def test_find_spec_neither_imports_nor_patches_keras(
        self, nano_run: Run, python: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "keras.py").write_text("print('imported')")
        (tmp_path / "s.py").write_text(
            "import importlib.util, sys\n"
            "spec = importlib.util.find_spec('keras')\n"
            "print(spec.name, spec.origin, type(spec.loader), 'keras' in sys.modules)"
        )
        same(nano_run, python, "s.py")
