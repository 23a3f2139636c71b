"""Our own scripts, in scripts/: stories of members that etcd/raft's scripts leave out.

To change one, write its directives, run with CHAINFIRE_REWRITE_SCRIPTS=1, read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import report
from tests.raft.datadriven import parse, rewrite
from tests.raft.environment import Environment

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    environment = Environment()
    printed = [(directive, environment.run(directive)) for directive in parse(path)]
    if os.environ.get("CHAINFIRE_REWRITE_SCRIPTS"):
        rewrite(path, printed)
        return
    for directive, output in printed:
        assert output.rstrip("\n") == directive.expected, directive.place
    report.count("raft scripts of our own")
    report.count("raft directives of our own", len(printed))
