"""One etcd and one Chainfire per module, for tests that run the same commands on both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import peers
from tests.compat.ctl import Ctl
from tests.servers import Server, etcds


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind = peers.need_chainfire()
    flags = ("--alarm-auto-clear=false",) if kind.is_chainfire else ()  # etcd's manual way
    with Server(kind, _directory(tmp_path_factory), flags) as server:
        yield server


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind = peers.need_kind(next(iter(etcds()), None), "a real etcd")
    with Server(kind, _directory(tmp_path_factory)) as server:
        yield server


@pytest.fixture(scope="module")
def ctl(ours: Server) -> Ctl:
    return Ctl(peers.need_tool("etcdctl"), ours.target)


@pytest.fixture(scope="module")
def ctl_of_peer(theirs: Server) -> Ctl:
    return Ctl(peers.need_tool("etcdctl"), theirs.target)


def _directory(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("server") / "data"
