"""The source as data: every module under src/chainfire with its syntax tree and its imports.

Imports inside functions and under TYPE_CHECKING count like all others: an arrow is an arrow.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
PACKAGE = "chainfire"


@dataclass(frozen=True, slots=True)
class Import:
    target: str  # dotted name of a module, ours or foreign
    line: int


@dataclass(frozen=True, slots=True)
class Module:
    name: str  # dotted
    path: Path
    tree: ast.Module

    @property
    def unit(self) -> str:
        """What the table of ranks speaks of: the entry directly under src/chainfire."""
        return unit_of(self.name)

    @property
    def generated(self) -> bool:
        return self.name.endswith("_pb2")

    def at(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}"


def unit_of(name: str) -> str:
    """ "chainfire.node.shell" -> "node"; the package itself is its own unit."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else PACKAGE


@cache
def modules() -> dict[str, Module]:
    found: dict[str, Module] = {}
    for path in sorted((SRC / PACKAGE).rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path, ast.parse(path.read_text(), str(path)))
    return found


def imports(module: Module) -> Iterator[Import]:
    """Each imported module once per place; `from package import module` names the module."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.at(node.lineno)}: a relative import"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield Import(whole if whole in modules() else node.module, node.lineno)


def is_ours(target: str) -> bool:
    return target == PACKAGE or target.startswith(PACKAGE + ".")
