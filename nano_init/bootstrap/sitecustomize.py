"""Patch Keras as soon as the program imports it; leave no other trace.

`nano-run` puts this folder first in PYTHONPATH, so that Python imports this module before
the program, in the process itself and in every Python process that it starts. The module removes
the folder from `sys.path`, installs an import hook for Keras, and imports the `sitecustomize` that
it shadows, if there is one.

It imports only what Python has already imported, since it runs before every program.
"""

import os
import sys

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_PACKAGE_PARENT = os.path.dirname(os.path.dirname(_FOLDER))
_VARIABLE = "NANO_INIT_PATCH"
_WATCH_VARIABLE = "NANO_INIT_WATCH"
_SIGNATURE_VARIABLE = "NANO_INIT_SIGNATURE"
# Libraries that divide the cores among their own workers, unless OMP_NUM_THREADS is set.
_DIVIDING = ("joblib", "loky", "distributed", "ray", "torch.distributed.elastic")


class _PackageOnPath:
    """Make this nano-init importable in the program's environment."""

    def __enter__(self):
        self._is_borrowed = _PACKAGE_PARENT not in sys.path
        if self._is_borrowed:
            sys.path.append(_PACKAGE_PARENT)

    def __exit__(self, *_):
        if self._is_borrowed:
            sys.path.remove(_PACKAGE_PARENT)


def _join_job():
    """Take this worker's place in its job; its child processes are not workers."""
    membership = os.environ.pop("NANO_INIT_WORKER", None)
    if membership is None:
        return ()
    with _PackageOnPath():
        from nano_init.distributed.worker_startup import join

        join(membership)
    return ("numpy", "tensorflow")


def _meet(name):
    """Prepare or patch a module that was just imported."""
    if name in _DIVIDING:
        _let_divide()
        return
    if name not in ("keras", "tf_keras"):
        with _PackageOnPath():
            from nano_init.distributed.module_preparation import prepare_module

            prepare_module(name)
        return
    if os.environ.get(_VARIABLE):
        _patch_keras(name)
    if _signature:
        _recognize_model(name)
    if _watch:
        _watch_keras(name)


def _let_divide():
    """Remove nano-init's OMP_NUM_THREADS from `os.environ`, which the program and its workers see.

    OpenMP libraries that this process loads later read the C environment, where it stays.
    """
    with _PackageOnPath():
        from nano_init.thread_division import withdraw_threads

        withdraw_threads(os.environ, os.putenv)


def _recognize_model(name):
    """Warn about a stored choice measured on another model; never raise into the program."""
    try:
        with _PackageOnPath():
            from nano_init.instrumentation.model_check import expect_model

            expect_model(_signature, name)
    except Exception as error:  # noqa: BLE001 - the program must continue after any error
        sys.stderr.write(
            "nano-run: cannot check the model of the stored choice (%s: %s)\n"  # noqa: UP031
            % (type(error).__name__, error)
        )


def _watch_keras(name):
    """Record the steps of a sample or a reported run; never raise into the program."""
    try:
        with _PackageOnPath():
            import json

            from nano_init.instrumentation.watch import start_watching

            start_watching(json.loads(_watch), name)
    except Exception as error:  # noqa: BLE001 - the program must continue after any error
        sys.stderr.write(
            "nano-run: cannot record steps (%s: %s)\n"  # noqa: UP031
            % (type(error).__name__, error)
        )


def _patch_keras(name):
    """Patch the Keras that was just imported; never raise into the program."""
    try:
        with _PackageOnPath():
            from nano_init.patch import apply_from_launcher

            apply_from_launcher(os.environ.get(_VARIABLE) or "{}", name)
    except Exception as error:  # the program must continue after any error, except in a worker
        if _IS_WORKER:
            raise
        sys.stderr.write(
            "nano-run: %s is not patched (%s: %s); the script runs unpatched\n"  # noqa: UP031
            % (name, type(error).__name__, error)
        )


class _KerasFinder:
    """A meta path finder that finds Keras through the finders after it, and patches it."""

    def __init__(self, others=()):
        self._names = ["keras", "tf_keras", *others]

    def find_spec(self, name, path=None, target=None):
        if name not in self._names:
            return None
        # The finders before it were asked already. Asking all others would cause a recursion.
        start = sys.meta_path.index(self) + 1 if self in sys.meta_path else 0
        for finder in sys.meta_path[start:]:
            if not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                self._watch(name, spec.loader)
                return spec
        return None

    def _watch(self, name, loader):
        """Make the loader patch Keras after it has run the module.

        The loader's method is shadowed on this one object instead of wrapping the loader, so
        that the module's `__loader__`, and everything that reads source or data through it,
        stay the same.
        """
        run = getattr(loader, "exec_module", None)
        if run is None:
            return

        def exec_module(module):
            try:
                run(module)
            except BaseException as error:  # the program's traceback must not show this frame
                if error.__traceback__ is not None:
                    error.__traceback__ = error.__traceback__.tb_next
                raise
            if module.__name__ != name:  # a zipimporter loads all modules of its archive
                return
            vars(loader).pop("exec_module", None)
            if name in self._names:
                self._names.remove(name)
                _meet(name)

        loader.exec_module = exec_module


class _ImportFinder:
    """A meta path finder that prepares the first import of TensorFlow or Keras, then goes away."""

    def find_spec(self, name, path=None, target=None):
        if name not in ("tensorflow", "keras"):
            return None
        sys.meta_path.remove(self)
        self._prepare(name)
        # The import system counts places in the list, and would miss finders that have moved.
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                return spec
        return None

    def _prepare(self, name):
        try:
            with _PackageOnPath():
                from nano_init.keras_patch.import_preparation import prepare_import

                prepare_import(os.environ.get(_VARIABLE) or "{}", os.environ, sys.meta_path)
        except ImportError:  # not even the standard library is on the path
            return
        except Exception as error:  # noqa: BLE001 - the program must continue after any error
            sys.stderr.write(
                "nano-run: cannot prepare the import of %s (%s: %s)\n"  # noqa: UP031
                % (name, type(error).__name__, error)
            )


class _BigdlFinder:
    """The last meta path finder, which provides BigDL-Nano's names if it is not installed."""

    def find_spec(self, name, path=None, target=None):
        if name != "bigdl" and not name.startswith("bigdl."):
            return None
        sys.meta_path.remove(self)
        with _PackageOnPath():
            from nano_init.bigdl import BigdlFinder, provide_bigdl

            provide_bigdl()
        return BigdlFinder().find_spec(name, path, target)


def _restore_preload():
    """Keep an allocator that was preloaded into this process out of its child processes."""
    before = os.environ.pop("NANO_INIT_PRELOAD", None)
    if before is None:
        return
    if before.startswith("+"):
        os.environ["LD_PRELOAD"] = before[1:]
    else:
        os.environ.pop("LD_PRELOAD", None)


def _leave_path():
    for entry in [p for p in sys.path if os.path.abspath(p) == _FOLDER]:
        sys.path.remove(entry)
    sys.path_importer_cache.pop(_FOLDER, None)


def _run_shadowed():
    """Import the sitecustomize that this one shadows.

    If there is none, the ImportError names this module, and Python's `site` goes on as it does
    without a sitecustomize.
    """
    shadow = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name == "sitecustomize":
            raise
        sys.modules["sitecustomize"] = shadow
        raise


# Removed: the processes that the program starts are not observed.
_watch = os.environ.pop(_WATCH_VARIABLE, None)
_signature = os.environ.pop(_SIGNATURE_VARIABLE, None)
_IS_WORKER = "NANO_INIT_WORKER" in os.environ
if os.environ.get(_VARIABLE) or _watch:
    sys.meta_path.insert(0, _KerasFinder((*_join_job(), *_DIVIDING)))
if os.environ.get(_VARIABLE):
    sys.meta_path.insert(0, _ImportFinder())
    sys.meta_path.append(_BigdlFinder())
_restore_preload()
_leave_path()
_run_shadowed()
