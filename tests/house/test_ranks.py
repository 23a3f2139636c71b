"""Imports go down the table of ranks, never in circles, and foreign modules have owners."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter

import pytest

from tests import report
from tests.house.ranks import BANNED_CALLS, DETERMINISTIC, ENGINES, OWNERS, UNITS
from tests.house.source import PACKAGE, ROOT, Import, Module, imports, is_ours, modules, unit_of

WRITTEN = [module for module in modules().values() if not module.generated]


def test_every_unit_has_a_rank() -> None:
    assert {module.unit for module in modules().values()} - UNITS.keys() == {PACKAGE}


@pytest.mark.parametrize("unit", sorted({module.unit for module in WRITTEN} & UNITS.keys()))
def test_arrows_go_down(unit: str) -> None:
    wrong = [
        f"{module.at(arrow.line)}: {unit} must not import {arrow.target}"
        for module in WRITTEN
        if module.unit == unit
        for arrow in imports(module)
        if is_ours(arrow.target) and not may_import(unit, arrow.target)
    ]
    assert not wrong, "\n".join(wrong)
    report.count("modules whose imports were held against the ranks", _files_of(unit))


def may_import(unit: str, target: str) -> bool:
    wanted = unit_of(target)
    if target in ENGINES and unit not in ENGINES[target]:
        return False
    if wanted == unit:
        return True
    if wanted not in UNITS or wanted in UNITS[unit].never:
        return False
    allowed = UNITS[unit].only
    if allowed is not None:
        return wanted in allowed
    return UNITS[wanted].rank < UNITS[unit].rank or wanted in UNITS[unit].beside


def _files_of(unit: str) -> int:
    return sum(module.unit == unit for module in WRITTEN)


def test_the_table_itself_points_down() -> None:
    for name, unit in UNITS.items():
        for below in (unit.only or frozenset()) & UNITS.keys():
            assert UNITS[below].rank < unit.rank or unit.rank == 0, (name, below)


def test_architecture_names_every_unit() -> None:
    house = (ROOT / "ARCHITECTURE.md").read_text().split("## The house")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in house.splitlines() if re.match(r"\| \d ", line)]
    told = {unit: int(rank) for rank, units in rows for unit in re.findall(r"`(\w+)`", units)}
    built = {module.unit for module in modules().values()} - {PACKAGE}
    assert built <= told.keys()
    assert told == {unit: UNITS[unit].rank for unit in told}


def test_the_package_itself_imports_only_its_version_and_what_may_be_compiled() -> None:
    ours = {arrow.target for arrow in top_level_imports(modules()[PACKAGE])}
    assert ours == {"chainfire.version", "chainfire.compiled"}


def top_level_imports(module: Module) -> list[Import]:
    """Imports of ours that run when the module is imported."""
    lines = {
        node.lineno for node in module.tree.body if isinstance(node, ast.Import | ast.ImportFrom)
    }
    return [arrow for arrow in imports(module) if arrow.line in lines and is_ours(arrow.target)]


def test_no_cycles_between_modules() -> None:
    graph = {
        module.name: {arrow.target for arrow in imports(module)} & modules().keys()
        for module in WRITTEN
        if module.name != PACKAGE  # its lazy names point at everything
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        pytest.fail(" -> ".join(cycle.args[1]))


def test_foreign_modules_are_imported_by_their_owners_only() -> None:
    wrong = []
    for module in WRITTEN:
        path = module.path.relative_to(ROOT / "src" / PACKAGE).as_posix()
        for arrow in imports(module):
            owners = OWNERS.get(arrow.target.split(".")[0])
            if owners is not None and not any(path.startswith(owner) for owner in owners):
                wrong.append(f"{module.at(arrow.line)}: {arrow.target} is for {owners}")
    assert not wrong, "\n".join(wrong)


def test_pure_units_do_not_reach_the_world() -> None:
    wrong = [
        f"{module.at(arrow.line)}: {module.unit} must not import {arrow.target}"
        for module in WRITTEN
        if module.unit in UNITS and module.path.stem not in UNITS[module.unit].except_in
        for arrow in imports(module)
        if arrow.target.split(".")[0] in UNITS[module.unit].banned
    ]
    assert not wrong, "\n".join(wrong)


def test_deterministic_units_call_nothing_that_differs_between_runs() -> None:
    """`hash` and `id` change with the process; `open` and `print` are I/O."""
    wrong = [
        f"{module.at(node.lineno)}: {node.func.id}()"
        for module in WRITTEN
        if module.unit in DETERMINISTIC
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in BANNED_CALLS
    ]
    assert not wrong, "\n".join(wrong)


def test_rocksdict_is_never_iterated_by_keys_or_items() -> None:
    """They end silently at a corrupt block; `iter()` has a status. Dicts of families are dicts."""
    readers = [modules()[f"chainfire.storage.{name}"] for name in ("rocks", "rocks_snapshot")]
    wrong = [
        f"{module.at(node.lineno)}: {ast.unparse(node.func)}()"
        for module in readers
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"keys", "items", "values", "entities"}
        and not ast.unparse(node.func.value).endswith("families")
    ]
    assert not wrong, "\n".join(wrong)


IMPORT_NAMES = {"pyyaml": "yaml", "protobuf": "google", "grpcio": "grpc"}


def test_dependencies_are_what_the_source_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=!~;\[ ]", row, maxsplit=1)[0] for row in project["dependencies"]]
    declared = {IMPORT_NAMES.get(n.lower(), n.lower().replace("-", "_")) for n in names}
    optional = {"chainfire_native", "chainfire_compiled"}
    imported = {
        arrow.target.split(".")[0]
        for module in modules().values()
        for arrow in imports(module)
        if not is_ours(arrow.target)
    }
    assert imported - sys.stdlib_module_names - optional == declared
