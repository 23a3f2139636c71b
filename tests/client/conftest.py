"""A real etcd for the client: the newest at hand, on a free port."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers import need_kind
from tests.servers import Server, etcds


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind = need_kind(next(iter(etcds()), None), "etcd")
    with Server(kind, tmp_path_factory.mktemp("etcd") / "data") as server:
        yield server
