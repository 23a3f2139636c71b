"""The file that is synced in the engine's place is the one that holds what is not durable."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainfire.errors import SyncFailed
from chainfire.storage.rocks import RocksBackend, RocksOptions
from tests.storage.backends import FAMILIES, put

LARGE = bytes(100_000)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[RocksBackend]:
    backend = RocksBackend(tmp_path / "log", FAMILIES, RocksOptions.log())
    yield backend
    backend.close()


def write(backend: RocksBackend, token: bytes, filler: bytes = b"") -> None:
    if len(token) % 2:
        put(backend, (token, token + filler))
    else:
        backend.write_row("b", token, token + filler)


def holds(descriptor: int, token: bytes) -> bool:
    return token in Path(f"/proc/self/fd/{descriptor}").read_bytes()


def become_known(backend: RocksBackend) -> int:
    for _ in range(5):
        write(backend, b"k")
        descriptor = backend.sync_descriptor()
        if descriptor is not None:
            return descriptor
        backend.sync()
    raise AssertionError("the file is not found")


def test_whatever_begins_a_new_file_each_record_is_in_the_one_that_is_named(
    backend: RocksBackend, tmp_path: Path
) -> None:
    dice = random.Random(7)
    known, files = 0, set[int]()
    for number in range(600):
        token = b"%x-%08x" % (number, dice.getrandbits(32))
        write(backend, token, LARGE if dice.random() < 0.2 else b"")
        descriptor = backend.sync_descriptor()
        if descriptor is None:
            backend.sync()
        else:
            known += 1
            files.add(os.fstat(descriptor).st_ino)
            # Twice, unless the end of a block of the file cuts one in two.
            assert holds(descriptor, token)
            backend.synced_outside(0, 0.0)
        if dice.random() < 0.01:
            dice.choice([backend.compact, backend._families["a"].flush])()
    assert known > 400 and len(files) > 2
    assert backend.statistics().sync_count == 600
    again = backend._path
    backend.close()
    backend = RocksBackend(again, FAMILIES, RocksOptions.log())
    assert sum(1 for family in "ab" for _ in backend.keys(family)) == 600
    backend.close()


def test_a_new_file_is_named_only_once_the_engine_has_synced_it_itself(
    backend: RocksBackend,
) -> None:
    first = os.fstat(become_known(backend)).st_ino
    write(backend, b"k")
    assert backend.sync_descriptor() is not None
    backend._families["a"].flush()
    backend._families["b"].flush()
    for _ in range(4):  # however long it has been seen
        write(backend, b"k")
        assert backend.sync_descriptor() is None
    backend.sync()
    descriptor = backend.sync_descriptor()
    assert descriptor is not None and os.fstat(descriptor).st_ino != first


def test_a_sync_that_began_before_the_file_was_found_is_not_enough(backend: RocksBackend) -> None:
    write(backend, b"k")
    assert backend.sync_descriptor() is None
    backend.sync()
    write(backend, b"k")
    assert backend.sync_descriptor() is None
    backend.sync()
    assert backend.sync_descriptor() is not None


def test_a_failure_is_final(backend: RocksBackend) -> None:
    become_known(backend)
    with pytest.raises(SyncFailed, match="fdatasync: Input/output error"):
        backend.synced_outside(errno.EIO, 0.1)
    for refused in (
        lambda: write(backend, b"k"),
        backend.sync,
        backend.sync_descriptor,
        lambda: backend.synced_outside(0, 0.1),
    ):
        with pytest.raises(SyncFailed):
            refused()


def test_a_file_that_is_lost_is_let_go(backend: RocksBackend) -> None:
    descriptor = become_known(backend)
    backend.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
