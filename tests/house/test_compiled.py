"""What is compiled (compiled/modules.toml), and what mypyc would not carry over into it."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.house.source import ROOT, SRC

PACKAGE = SRC / "chainfire"
TABLE = tomllib.loads((ROOT / "compiled/modules.toml").read_text())


@cache
def compiled() -> frozenset[Path]:
    found = {path for pattern in TABLE["modules"] for path in PACKAGE.glob(pattern)}
    found -= {PACKAGE / name for name in TABLE["left"]}
    return frozenset(path for path in found if path.name != "__init__.py")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def classes(path: Path) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))


@pytest.mark.parametrize("name", [*TABLE["modules"], *TABLE["left"]])
def test_every_name_is_that_of_a_file(name: str) -> None:
    assert list(PACKAGE.glob(name))


def test_no_interpreted_class_inherits_from_a_compiled_one() -> None:
    """It would be refused when its module is imported."""
    of_compiled = {
        (name_of(path), node.name)
        for path in compiled()
        for node in classes(path)
        if not any("Protocol" in ast.unparse(base) for base in node.bases)
    }
    wrong = []
    for path in sorted(set(PACKAGE.rglob("*.py")) - compiled()):
        imported = {
            alias.asname or alias.name: (node.module, alias.name)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        wrong += [
            f"{path.name}: {node.name}"
            for node in classes(path)
            for base in node.bases
            if imported.get(ast.unparse(base)) in of_compiled
        ]
    assert not wrong


# What takes all of its argument, at once and in order.
TAKERS = {
    *("all", "any", "sum", "min", "max", "sorted"),
    *("list", "tuple", "set", "frozenset", "dict", "bytes"),
    *("join", "extend", "update"),
}


def test_no_generator_expression_is_to_be_taken_in_steps() -> None:
    """mypyc makes a list of it. A function with `yield` stays what it is."""
    wrong = []
    for path in sorted(compiled()):
        taken = {
            call.args[0]
            for call in ast.walk(tree(path))
            if isinstance(call, ast.Call)
            and call.args
            and ast.unparse(call.func).rpartition(".")[2] in TAKERS
        }
        wrong += [
            f"{path.name}:{node.lineno}"
            for node in ast.walk(tree(path))
            if isinstance(node, ast.GeneratorExp) and node not in taken
        ]
    assert not wrong


def test_no_default_of_an_attribute_is_made_at_run_time() -> None:
    """mypyc warns of them, and leaves an exception behind that strikes somewhere else.

    A default of None it leaves out without a word where the type has a Protocol in it.
    """
    wrong = []
    for path in sorted(compiled()):
        for node in classes(path):
            if any("Enum" in ast.unparse(base) for base in node.bases) or any(
                "dataclass" in ast.unparse(decorator) for decorator in node.decorator_list
            ):
                continue
            methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            for part in node.body:
                if not isinstance(part, ast.Assign | ast.AnnAssign) or part.value is None:
                    continue
                if isinstance(part, ast.AnnAssign) and "ClassVar" in ast.unparse(part.annotation):
                    continue
                value = ast.unparse(part.value)
                made = isinstance(part.value, ast.Call) or value in methods or value == "None"
                if made:
                    wrong.append(f"{path.name}:{part.lineno}")
    assert not wrong


def test_no_star_is_handed_to_super() -> None:
    """mypyc hands the tuple itself over."""
    wrong = [
        f"{path.name}:{node.lineno}"
        for path in sorted(compiled())
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).startswith("super().")
        and any(isinstance(argument, ast.Starred) for argument in node.args)
    ]
    assert not wrong


def test_what_is_written_out_for_a_dataclass_takes_its_fields_in_their_order() -> None:
    """Made by the thousand, a record has an `__init__` of its own, which mypyc compiles."""
    wrong, found = [], 0
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in classes(path):
            if not any("init=False" in ast.unparse(each) for each in node.decorator_list):
                continue
            found += 1
            fields = [
                ast.unparse(part.target) for part in node.body if isinstance(part, ast.AnnAssign)
            ]
            inits = [
                part
                for part in node.body
                if isinstance(part, ast.FunctionDef) and part.name == "__init__"
            ]
            taken = [argument.arg for argument in inits[0].args.args[1:]] if inits else []
            if taken != fields:
                wrong.append(f"{path.name}: {node.name}")
    assert found and not wrong


SUSPENDING = ast.Await | ast.Yield | ast.YieldFrom | ast.AsyncFor | ast.AsyncWith


def test_nothing_waits_while_an_exception_is_handled() -> None:
    """The exception would be that of whoever runs meanwhile: a loop that never ends, or worse."""
    wrong = []
    for path in sorted(compiled()):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.AsyncWith):
                wrong.append(f"{path.name}:{node.lineno}")
            if isinstance(node, ast.Try):
                ends = [*node.finalbody, *(part for h in node.handlers for part in h.body)]
                if any(isinstance(part, SUSPENDING) for end in ends for part in ast.walk(end)):
                    wrong.append(f"{path.name}:{node.lineno}")
    assert not wrong


def test_no_attribute_begins_with_the_word_of_the_c_compiler() -> None:
    """`self._thread` becomes the member `__thread`, which is a keyword there."""
    wrong = [
        f"{path.name}:{node.lineno}"
        for path in sorted(compiled())
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr == "_thread"
    ]
    assert not wrong
