"""etcd/raft's own scripts, read where they lie.

The folder is named by CHAINFIRE_RAFT_SCRIPTS; otherwise ../shared/data/raft is tried. Its scripts
may lie in folders of any name: what a script is about, its verbs tell. Log lines, which narrate
the other implementation, are masked; everything else is compared to the letter.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from tests import report
from tests.raft.datadriven import Directive, parse, without_log_lines
from tests.raft.environment import Environment
from tests.raft.pure import ConfChangeEnvironment, QuorumEnvironment

VARIABLE = "CHAINFIRE_RAFT_SCRIPTS"
NAMED = os.environ.get(VARIABLE)
DEFAULT = Path(__file__).parents[2] / ".." / "shared" / "data" / "raft"
FOLDER = Path(NAMED) if NAMED else DEFAULT
SCRIPTS = sorted(FOLDER.rglob("*.txt"))
absent = pytest.mark.skipif(
    NAMED is None and not SCRIPTS,
    reason=f"no Raft scripts: {VARIABLE} names no folder and ../shared/data/raft is not there",
)


class Runner(Protocol):
    def run(self, d: Directive) -> str: ...


def runner_for(verb: str) -> tuple[str, Callable[[], Runner]]:
    if verb in ("committed", "vote"):
        return "quorum", QuorumEnvironment
    if verb in ("simple", "enter-joint", "leave-joint"):
        return "confchange", ConfChangeEnvironment
    return "interaction", Environment


@absent
def test_the_folder_holds_scripts() -> None:
    assert SCRIPTS, f"{FOLDER} holds no script"


@absent
@pytest.mark.parametrize("path", SCRIPTS or [FOLDER], ids=lambda path: path.stem)
def test_script_of_etcd(path: Path) -> None:
    directives = list(parse(path))
    family, make = runner_for(directives[0].verb)
    runner = make()
    for directive in directives:
        printed = runner.run(directive)
        assert without_log_lines(printed) == without_log_lines(directive.expected), directive.place
    report.count(f"scripts of etcd/raft: {family}")
    report.count(f"directives of etcd/raft: {family}", len(directives))
