"""Which modules of the library import which, read from their text without running them.

Main path: library = Library(root); library.reached(names), library.cycle(), library.paths.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = "course_lib"
DYNAMIC = ("import_module", "__import__")


class Library:
    """The modules below `root/course_lib` and the imports between them, wherever those stand in a file."""

    def __init__(self, root: Path) -> None:
        self.paths = {module_name(path, root): path for path in sorted(root.glob(f"{PACKAGE}/**/*.py"))}
        """Path of each module, by its full name."""

    @cached_property
    def imports(self) -> dict[str, frozenset[str]]:
        """The modules that each module imports, in functions and for type checking too."""
        return {
            module: frozenset(self.modules_of(name for _, name in self.imports_of(module)) - {module})
            for module in self.paths
        }

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The syntax tree of each module."""
        return {module: ast.parse(path.read_text("utf-8")) for module, path in self.paths.items()}

    @cached_property
    def _lazy(self) -> dict[str, dict[str, str]]:
        """For each package: public name -> the module from which it is loaded at its first use."""
        return {
            module: dict(self._lazy_names(module))
            for module, path in self.paths.items()
            if path.name == "__init__.py"
        }

    def _lazy_names(self, package: str) -> Iterator[tuple[str, str]]:
        """Yield (name, module) of a face that loads its names from the stub file beside it."""
        stub = self.paths[package].with_suffix(".pyi")
        if stub.exists():
            for _, name in imported(ast.parse(stub.read_text("utf-8")), package, is_package=True):
                yield name.rpartition(".")[2], name.rpartition(".")[0]

    @cache  # noqa: B019 - as long as the library itself
    def imports_of(self, module: str) -> list[tuple[int, str]]:
        """Return line and full name of everything that a module of the library imports."""
        is_package = self.paths[module].name == "__init__.py"
        return list(imported(self.trees[module], module, is_package=is_package))

    def modules_of(self, names: Iterable[str]) -> set[str]:
        """Return the modules behind imported names: `a.b.Name` is in `a.b`, or where `a.b` loads it from."""
        found: set[str] = set()
        for name in names:
            owner, _, last = name.rpartition(".")
            if name in self.paths:
                found |= {name, *self._lazy.get(name, {}).values()}
            elif owner in self.paths:
                found |= {owner, self._lazy.get(owner, {}).get(last, owner)}
        return found & self.paths.keys() - {PACKAGE}

    def reached(self, modules: Iterable[str]) -> set[str]:
        """Return these modules, the packages around them, and all that they import or start, at any depth.

        What a module starts as a process of its own, it names in full as a text.
        """
        reached: set[str] = set()
        waiting = list(modules)
        while waiting:
            module = waiting.pop()
            if module in self.paths and module not in reached:
                reached.add(module)
                waiting += [*self.imports[module], *_texts(self.trees[module]), module.rpartition(".")[0]]
        return reached

    def cycle(self) -> list[str]:
        """Return modules that import one another, directly or not, the first again at the end; or nothing."""
        try:
            TopologicalSorter(self.imports).prepare()
        except CycleError as error:
            return list(error.args[1])
        return []


def module_name(path: Path, root: Path) -> str:
    """Return a file's full name as a module; that of its folder for an `__init__.py`."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, module: str, *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything that a module imports; a relative import is made absolute."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *(node.module.split(".") if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            yield from [(node.lineno, str(node.args[0].value))] if called in DYNAMIC else []


def _texts(tree: ast.AST) -> Iterator[str]:
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return (value for value in constants if isinstance(value, str))
