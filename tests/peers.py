"""What a test needs from outside; without it the test is skipped with a clear word.

Where peers were installed on purpose (`CHAINFIRE_REQUIRE_PEERS=1`) conftest.py turns skips into
failures.
"""

from __future__ import annotations

import shutil

import pytest

from tests import report
from tests.servers import Kind, chainfire


def need_kind(kind: Kind | None, what: str) -> Kind:
    if kind is None:
        pytest.skip(f"{what} is not installed")
    if not kind.is_chainfire:
        report.peer(kind.name)
    return kind


def need_chainfire() -> Kind:
    return need_kind(chainfire(), "the Chainfire server")


def need_tool(name: str) -> str:
    """The path of a program such as etcdctl."""
    path = shutil.which(name, path="/usr/bin:/usr/local/bin:/bin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    report.peer(name)
    return path
