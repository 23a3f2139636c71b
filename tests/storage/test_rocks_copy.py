"""A copy that is made while a database is written to, flushed and compacted is a moment of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from chainfire.errors import Stalled
from chainfire.storage import rocks_copy
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.rocks_options import KIB, MIB
from tests import report
from tests.storage.backends import put

FAMILIES = ("a", "b", "c")
COPIES = 8
KEYS = 10_000
# Memtables so small that they are flushed all the time, and often compacted.
BUSY = replace(RocksOptions.state(cache_bytes=MIB), write_buffer_bytes=64 * KIB)


def key_of(number: int) -> bytes:
    return b"%06d" % (number * 7919 % KEYS)


def value_of(number: int, family: int) -> bytes:
    return b"%06d" % number * 40 * family


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[RocksBackend]:
    with closing(RocksBackend(tmp_path / "db", FAMILIES, BUSY)) as backend:
        yield backend


@pytest.mark.interpreted
def test_a_copy_made_beside_flushes_and_compactions_holds_whole_batches_up_to_one(
    backend: RocksBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[bool] = []
    copy_database = rocks_copy.copy_database

    def counted(*arguments: object) -> bool:
        copied.append(copy_database(*arguments))  # type: ignore[arg-type]
        return copied[-1]

    monkeypatch.setattr("chainfire.storage.rocks.copy_database", counted)
    done, written = threading.Event(), 0

    def copy() -> None:
        try:
            for number in range(COPIES):
                promised.append(written)
                backend.checkpoint(tmp_path / f"copy-{number}")
        finally:
            done.set()

    promised: list[int] = []
    thread = threading.Thread(target=copy)
    thread.start()
    while not done.is_set():
        number = written + 1
        batch = backend.batch()
        for at, family in enumerate(FAMILIES):  # of different sizes: they are flushed apart
            batch.put(family, key_of(number), value_of(number, at))
            batch.put(family, b"newest", b"%d" % number)
        with suppress(Stalled):  # nothing of it is written then
            backend.write(batch)
            written = number
    thread.join()
    for copy_number, at_least in enumerate(promised):
        with closing(RocksBackend(tmp_path / f"copy-{copy_number}", FAMILIES, BUSY)) as copied_one:
            newest = {copied_one.get(family, b"newest") for family in FAMILIES}
            assert len(newest) == 1, newest
            last = int(newest.pop() or b"0")
            assert at_least <= last <= written
            for at, family in enumerate(FAMILIES):
                newest_numbers = range(max(1, last - KEYS + 1), last + 1)
                expected = {key_of(number): value_of(number, at) for number in newest_numbers}
                assert dict(copied_one.iterate(family)) == expected | {b"newest": b"%d" % last}
    assert len(copied) == len(promised) == COPIES
    report.count("copies of a database that was written to", copied.count(True))
    assert any(copied)


def test_what_is_written_later_is_not_in_the_copy(backend: RocksBackend, tmp_path: Path) -> None:
    put(backend, (b"1", b"before"))
    backend.checkpoint(tmp_path / "copy")
    put(backend, (b"1", b"after"))
    backend.sync()
    with closing(RocksBackend(tmp_path / "copy", FAMILIES, BUSY)) as copy:
        assert list(copy.iterate("a")) == [(b"1", b"before")]


def test_where_links_are_refused_the_engine_copies(
    backend: RocksBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(rocks_copy.os, "link", refused)
    put(backend, (b"1", b"here"))
    backend.checkpoint(tmp_path / "copy")
    monkeypatch.undo()
    with closing(RocksBackend(tmp_path / "copy", FAMILIES, BUSY)) as copy:
        assert list(copy.iterate("a")) == [(b"1", b"here")]


def test_a_database_that_never_stands_still_is_not_copied(
    backend: RocksBackend, tmp_path: Path
) -> None:
    number = iter(range(1000))
    source = tmp_path / "db"
    assert not rocks_copy.copy_database(source, tmp_path / "copy", lambda: [next(number)])
    assert not (tmp_path / "copy").exists()
