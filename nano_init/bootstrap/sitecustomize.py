"""Patch Keras as soon as the program imports it; leave no other trace.

`nano-run` puts this folder first in PYTHONPATH, so that Python imports this module before
the program, in the process itself and in every Python that it starts. The module takes
the folder off `sys.path` again, puts a hook in front of the import of Keras, and hands
over to the `sitecustomize` that it stands before, if there is one.

It imports nothing that Python has not imported by then: it runs before every program.
"""

import os
import sys

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_PACKAGE_PARENT = os.path.dirname(os.path.dirname(_FOLDER))
_VARIABLE = "NANO_INIT_PATCH"
_WATCH_VARIABLE = "NANO_INIT_WATCH"
_SIGNATURE_VARIABLE = "NANO_INIT_SIGNATURE"
# Libraries that divide the cores among their workers, unless OMP_NUM_THREADS is set.
_DIVIDING = ("joblib", "loky", "distributed", "ray", "torch.distributed.elastic")


class _PackageOnPath:
    """Let this nano-init be imported, in whichever environment the program runs."""

    def __enter__(self):
        self._is_borrowed = _PACKAGE_PARENT not in sys.path
        if self._is_borrowed:
            sys.path.append(_PACKAGE_PARENT)

    def __exit__(self, *_):
        if self._is_borrowed:
            sys.path.remove(_PACKAGE_PARENT)


def _join_job():
    """Take this worker's place in its job; what it starts itself is no worker of it."""
    membership = os.environ.pop("NANO_INIT_WORKER", None)
    if membership is None:
        return ()
    with _PackageOnPath():
        from nano_init.distributed.worker_startup import join

        join(membership)
    return ("numpy", "tensorflow")


def _meet(name):
    """Do what is to be done to a module that has just been imported."""
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
    """Take nano-init's own OMP_NUM_THREADS out of what the program, and its workers, see.

    OpenMP libraries that this process loads later read the process's own environment, where the
    number of threads stays.
    """
    with _PackageOnPath():
        from nano_init.thread_division import withdraw_threads

        withdraw_threads(os.environ, os.putenv)


def _recognize_model(name):
    """Warn of a stored choice that was measured on another model; never raise into the program."""
    try:
        with _PackageOnPath():
            from nano_init.instrumentation.model_check import expect_model

            expect_model(_signature, name)
    except Exception as error:  # noqa: BLE001 - whatever it is, the program must go on
        sys.stderr.write(
            "nano-run: the model is not recognized (%s: %s)\n"  # noqa: UP031
            % (type(error).__name__, error)
        )


def _watch_keras(name):
    """Note the steps of a sample or a reported run; never raise into the program."""
    try:
        with _PackageOnPath():
            import json

            from nano_init.instrumentation.watch import start_watching

            start_watching(json.loads(_watch), name)
    except Exception as error:  # noqa: BLE001 - whatever it is, the program must go on
        sys.stderr.write(
            "nano-run: steps are not seen (%s: %s)\n"  # noqa: UP031
            % (type(error).__name__, error)
        )


def _patch_keras(name):
    """Patch the Keras that has just been imported; never raise into the program."""
    try:
        with _PackageOnPath():
            from nano_init.patch import apply_from_launcher

            apply_from_launcher(os.environ.get(_VARIABLE) or "{}", name)
    except Exception as error:  # whatever it is, the program must go on, but for a worker
        if _IS_WORKER:
            raise
        sys.stderr.write(
            "nano-run: %s is not patched (%s: %s); the script runs unpatched\n"  # noqa: UP031
            % (name, type(error).__name__, error)
        )


class _KerasFinder:
    """A meta path finder that finds Keras by the finders behind it, and patches it."""

    def __init__(self, others=()):
        self._names = ["keras", "tf_keras", *others]

    def find_spec(self, name, path=None, target=None):
        if name not in self._names:
            return None
        # Those before it were asked before; one that asked all others would be asked by them.
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
        """Let the loader patch Keras once it has run the module.

        The loader's own method is shadowed on the one object rather than the loader
        wrapped in another, so that the module's `__loader__` and all that reads source
        or data through it stay as they are.
        """
        run = getattr(loader, "exec_module", None)
        if run is None:
            return

        def exec_module(module):
            try:
                run(module)
            except BaseException as error:  # its traceback is the program's: without this frame
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
    """A meta path finder that prepares the first import of TensorFlow or Keras, and is gone."""

    def find_spec(self, name, *_):
        if name not in ("tensorflow", "keras"):
            return
        sys.meta_path.remove(self)
        try:
            with _PackageOnPath():
                from nano_init.keras_patch.import_preparation import prepare_import

                prepare_import(os.environ.get(_VARIABLE) or "{}", os.environ, sys.meta_path)
        except ImportError:  # not even Python's own library is on the path
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the program must go on
            sys.stderr.write(
                "nano-run: the import of %s is not prepared (%s: %s)\n"  # noqa: UP031
                % (name, type(error).__name__, error)
            )
        return


class _BigdlFinder:
    """A meta path finder that stands last, and brings BigDL-Nano's names if none is installed."""

    def find_spec(self, name, path=None, target=None):
        if name != "bigdl" and not name.startswith("bigdl."):
            return None
        sys.meta_path.remove(self)
        with _PackageOnPath():
            from nano_init.bigdl import BigdlFinder, provide_bigdl

            provide_bigdl()
        return BigdlFinder().find_spec(name, path, target)


def _restore_preload():
    """Keep an allocator that was preloaded into this process out of those that it starts."""
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
    """Import the sitecustomize that this one stands before.

    Where there is none, the ImportError names this module, and Python's `site` goes on
    just as it does for a sitecustomize that does not exist.
    """
    shadow = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name == "sitecustomize":
            raise
        sys.modules["sitecustomize"] = shadow
        raise


# Taken out: the processes that the program starts are not watched.
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
