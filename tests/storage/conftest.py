"""Fixtures of the storage tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chainfire.storage.backend import Backend, LogBackend, StorageBackend
from tests.storage.backends import BACKENDS, KINDS, LOGS, Kind


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    backend = BACKENDS[request.param](tmp_path / "db")
    yield backend
    backend.close()


@pytest.fixture(params=sorted(LOGS))
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogBackend]:
    log = LOGS[request.param](tmp_path / "db")
    yield log
    log.close()


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def state(kind: Kind, tmp_path: Path) -> Iterator[StorageBackend]:
    state = kind.open(tmp_path / "db")
    yield state
    state.close()
