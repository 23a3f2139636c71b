"""Fixtures of the storage tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chainfire.storage.backend import StorageBackend
from tests.storage.backends import KINDS, Kind


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def backend(kind: Kind, tmp_path: Path) -> Iterator[StorageBackend]:
    backend = kind.open(tmp_path / "db")
    yield backend
    backend.close()
