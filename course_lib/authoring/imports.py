"""Which modules of the library import which, read from their text without running them.

Main path: library = Library(root); library.reached(names), library.cycles(), library.path_of(module).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

PACKAGE = "course_lib"


class Library:
    """The modules below `root/course_lib` and the imports between them, wherever those stand in a file."""

    def __init__(self, root: Path) -> None:
        self.paths = {module_name(path, root): path for path in sorted(root.glob(f"{PACKAGE}/**/*.py"))}
        """Path of each module, by its full name."""

    @cached_property
    def imports(self) -> dict[str, frozenset[str]]:
        """The modules that each module imports, in functions and for type checking too."""
        return {module: frozenset(self._imports(module) - {module}) for module in self.paths}

    @cached_property
    def starts(self) -> dict[str, frozenset[str]]:
        """The modules that each module names in full as a text: what it starts as a process of its own."""
        return {
            module: frozenset(text for text in _texts(tree) if text in self.paths)
            for module, tree in self.trees.items()
        }

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The syntax tree of each module."""
        return {module: ast.parse(path.read_text("utf-8")) for module, path in self.paths.items()}

    @cached_property
    def _lazy(self) -> dict[str, dict[str, str]]:
        """For each package: public name -> the module from which it is loaded at its first use."""
        return {
            module: {name: f"{module}.{place}" for name, place in _lazy_names(self.trees[module])}
            for module, path in self.paths.items()
            if path.name == "__init__.py"
        }

    def _imports(self, module: str) -> set[str]:
        is_package = self.paths[module].name == "__init__.py"
        found = imported(self.trees[module], module, is_package=is_package)
        return self.modules_of(name for _, name in found)

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
        """Return these modules, the packages around them, and all that they import or start, at any depth."""
        reached: set[str] = set()
        waiting = list(modules)
        while waiting:
            module = waiting.pop()
            if module in reached or module not in self.paths:
                continue
            reached.add(module)
            waiting += [*self.imports[module], *self.starts[module], module.rpartition(".")[0]]
        return reached

    def cycles(self) -> list[list[str]]:
        """Return the groups of modules that import one another, directly or not, sorted."""
        below = {module: self._below(module) for module in self.paths}
        groups = {frozenset(m for m in below[each] if each in below[m]) for each in self.paths}
        return sorted(sorted(group) for group in groups if group)

    def _below(self, module: str) -> set[str]:
        below: set[str] = set()
        waiting = list(self.imports[module])
        while waiting:
            each = waiting.pop()
            if each not in below:
                below.add(each)
                waiting += self.imports[each]
        return below


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
        elif isinstance(node, ast.Call) and _is_dynamic(node):
            yield node.lineno, ast.literal_eval(node.args[0])


def _texts(tree: ast.AST) -> Iterator[str]:
    return (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _lazy_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (name, module) of the tables in a package's file: {"module": ["Name"]} or {"Name": "module"}."""
    for table in (node for node in ast.walk(tree) if isinstance(node, ast.Dict)):
        for key, value in zip(table.keys, table.values, strict=True):
            if key is not None and isinstance(value, ast.List | ast.Set | ast.Tuple):
                yield from ((name, text) for name in _texts(value) for text in _texts(key))
            elif key is not None and isinstance(value, ast.Constant):
                yield from ((name, text) for name in _texts(key) for text in _texts(value))


def _is_dynamic(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    is_fixed = bool(call.args) and isinstance(call.args[0], ast.Constant)
    return name in ("import_module", "__import__") and is_fixed
