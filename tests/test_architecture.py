"""Import rules between the parts of the package, as described in docs/architecture.md.

Imports inside functions and under TYPE_CHECKING count too.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import nano_init

PACKAGE = Path(nano_init.__file__).parent

# Code that runs in the training process, and code that runs in the launcher.
TRAINING = frozenset(
    [
        *("bootstrap", "keras_patch", "distributed", "process_calls", "instrumentation"),
        *("patch", "notebook", "optimizers", "bigdl"),
    ]
)
LAUNCHER = frozenset(["launch", "evidence", "run", "cli"])

# Code that acts: it starts processes, sets variables or patches Keras. `plan` imports none.
ACTING = TRAINING | LAUNCHER | {"survey"}


def name_of(path: Path) -> str:
    parts = ("nano_init", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def imports_of(module: str, *, for_types: bool = True) -> set[str]:
    """Return the modules of the package that a module imports anywhere in its file."""
    found = set()
    tree = ast.parse(PATHS[module].read_text(encoding="utf-8"))
    skipped = set() if for_types else {id(n) for branch in _type_branches(tree) for n in branch}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & PATHS.keys() or {node.module}
    return found & PATHS.keys()


def _type_branches(tree: ast.Module) -> list[list[ast.AST]]:
    return [
        [inner for statement in node.body for inner in ast.walk(statement)]
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    ]


def room_of(module: str) -> str:
    """Return the subpackage that contains a module, or the module itself at the top level."""
    return module.split(".")[1] if "." in module else ""


def cycles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the sets of modules that reach each other (Tarjan's algorithm by path sets)."""
    reach = {module: _reachable(module, graph) for module in graph}
    return {
        frozenset({other for other in reach[module] if module in reach[other]})
        for module in graph
        if module in reach[module]
    }


def _reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    left = list(graph[start])
    while left:
        module = left.pop()
        if module not in seen:
            seen.add(module)
            left += graph[module]
    return seen


def test_there_are_no_import_cycles() -> None:
    graph = {module: imports_of(module) for module in PATHS}
    assert cycles(graph) == set()


def test_the_check_finds_a_cycle() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert cycles(graph) == {frozenset("abc")}


def test_no_wing_imports_the_other() -> None:
    crossing = {
        (module, other)
        for module in PATHS
        for other in imports_of(module)
        for here, there in ((TRAINING, LAUNCHER), (LAUNCHER, TRAINING))
        if room_of(module) in here and room_of(other) in there
    }
    assert crossing == set()


def test_the_ground_imports_neither_wing() -> None:
    wings = TRAINING | LAUNCHER
    ground = [module for module in PATHS if room_of(module) not in wings]
    crossing = {
        (module, other)
        for module in ground
        # The package itself loads its public names lazily.
        if module not in ("nano_init", "nano_init.__main__")
        for other in imports_of(module)
        if room_of(other) in wings
    }
    assert crossing == set()


def test_a_plan_imports_nothing_that_acts() -> None:
    acting = {
        (module, other)
        for module in PATHS
        if room_of(module) == "plan"
        for other in imports_of(module, for_types=False)
        if room_of(other) in ACTING
    }
    assert acting == set()


def test_only_commands_import_commands() -> None:
    importing = {
        module
        for module in PATHS
        if room_of(module) not in ("cli", "__main__")
        for other in imports_of(module)
        if room_of(other) == "cli"
    }
    assert importing == set()


def test_module_names_are_unique() -> None:
    named = defaultdict(list)
    for module, path in PATHS.items():
        if path.stem != "__init__":
            named[path.stem].append(module)
    assert {name for name, modules in named.items() if len(modules) > 1} == set()


def test_public_class_names_are_unique() -> None:
    named = defaultdict(list)
    for module, path in PATHS.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                named[node.name].append(module)
    assert {name for name, modules in named.items() if len(modules) > 1} == set()


def test_names_of_program_files_end_in_main() -> None:
    started = {
        path.stem
        for path in PATHS.values()
        if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
    }
    odd = {name for name in started if not name.endswith("_main")} - {"__main__"}
    assert odd == set()
