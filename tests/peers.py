"""What a test needs from outside: skipped with a clear word, or a failure where it was installed.

`CHAINFIRE_REQUIRE_PEERS=1` (set by `.ci/run`, which installs them) turns every skip for a missing
peer or tool into a failure.
"""

from __future__ import annotations

import importlib
import shutil

import pytest

from tests.servers import Kind, chainfire, peers_required


def missing(what: str) -> None:
    """Skip the test, or fail it where peers are required. Does not return."""
    if peers_required():
        pytest.fail(f"{what} is required here and missing")
    pytest.skip(f"{what} is not installed")


def need_kind(kind: Kind | None, what: str) -> Kind:
    if kind is None:
        missing(what)
    assert kind is not None
    return kind


def need_chainfire() -> Kind:
    return need_kind(chainfire(), "the Chainfire server")


def need_tool(name: str) -> str:
    """The path of a program such as etcdctl."""
    path = shutil.which(name, path="/usr/bin:/usr/local/bin:/bin")
    if path is None:
        missing(name)
    assert path is not None
    return path


def count(name: str, number: int) -> None:
    """Add to the summary that the test run prints at its end, where there is one."""
    try:
        report = importlib.import_module("tests.report")
    except ModuleNotFoundError:
        return
    report.count(name, number)
