"""The backends walk with a plain dict per family through any sequence of operations."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from chainfire.storage.backend import Reader, Snapshot, WriteBatch
from chainfire.storage.memory import MemoryBackend
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.rocks_options import MIB
from chainfire.storage.wal import Wal
from tests.storage.backends import FAMILIES

Rows = dict[str, dict[bytes, bytes]]

NAMES = st.sampled_from(FAMILIES)
KEYS = st.binary(max_size=2) | st.sampled_from([b"\xff\xff", b"a", b"ab", b"b"])
BOUNDS = st.none() | KEYS
EFFECTS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMES, KEYS, st.binary(max_size=3)),
        st.tuples(st.just("delete"), NAMES, KEYS),
        st.tuples(st.just("delete_range"), NAMES, KEYS, KEYS),
    ),
    max_size=6,
)


class Against(RuleBasedStateMachine):
    snapshots: Bundle[tuple[Snapshot, Rows]] = Bundle("snapshots")

    @initialize(rocks=st.booleans())
    def open(self, rocks: bool) -> None:
        self.path = Path(tempfile.mkdtemp())
        self.rows: Rows = {name: {} for name in FAMILIES}
        self.synced = 0
        self.history = [self._copy()]  # after each batch
        self.snapshots_open: list[Snapshot] = []
        self.backend: MemoryBackend | RocksBackend = (
            self._open_rocks() if rocks else MemoryBackend(FAMILIES)
        )

    def _open_rocks(self) -> RocksBackend:
        return RocksBackend(self.path / "db", FAMILIES, RocksOptions.state(cache_bytes=MIB))

    def _copy(self) -> Rows:
        return {name: dict(rows) for name, rows in self.rows.items()}

    @rule(effects=EFFECTS)
    def write(self, effects: list[tuple[Any, ...]]) -> None:
        batch = self.backend.batch()
        _gather(batch, effects, self.rows)
        assert len(batch) == len(effects)
        self.backend.write(batch)
        self.history.append(self._copy())

    @rule(name=NAMES, key=KEYS)
    def get(self, name: str, key: bytes) -> None:
        assert self.backend.get(name, key) == self.rows[name].get(key)

    @rule(name=NAMES, lower=KEYS, upper=BOUNDS)
    def iterate(self, name: str, lower: bytes, upper: bytes | None) -> None:
        _compare(self.backend, self.rows[name], name, lower, upper)

    @rule(target=snapshots)
    def snapshot(self) -> tuple[Snapshot, Rows]:
        snapshot = self.backend.snapshot()
        self.snapshots_open.append(snapshot)
        return snapshot, self._copy()

    @rule(taken=snapshots, name=NAMES, lower=KEYS, upper=BOUNDS)
    def read_snapshot(
        self, taken: tuple[Snapshot, Rows], name: str, lower: bytes, upper: bytes | None
    ) -> None:
        snapshot, rows = taken
        _compare(snapshot, rows[name], name, lower, upper)
        assert snapshot.get(name, lower) == rows[name].get(lower)

    @rule(taken=consumes(snapshots))
    def close_snapshot(self, taken: tuple[Snapshot, Rows]) -> None:
        taken[0].close()
        self.snapshots_open.remove(taken[0])

    @rule()
    def sync(self) -> None:
        self.backend.sync()
        self.synced = len(self.history) - 1

    @rule()
    def compact(self) -> None:
        self.backend.compact()

    @precondition(lambda self: isinstance(self.backend, MemoryBackend))
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        assert isinstance(self.backend, MemoryBackend)
        assert self.backend.unsynced_batches == len(self.history) - 1 - self.synced
        keep = data.draw(st.integers(0, self.backend.unsynced_batches))
        self.backend = self.backend.crash(keep)
        del self.history[self.synced + keep + 1 :]
        self.synced = len(self.history) - 1
        self.rows = {name: dict(rows) for name, rows in self.history[-1].items()}

    @precondition(lambda self: isinstance(self.backend, RocksBackend))
    @rule(target=snapshots)
    def reopen(self) -> object:
        """Closing keeps what was written; snapshots end with the backend."""
        if not self.snapshots_open:
            self.backend.close()
            self.backend = self._open_rocks()
        return multiple()

    def teardown(self) -> None:
        if hasattr(self, "path"):
            for snapshot in self.snapshots_open:
                snapshot.close()
            self.backend.close()
            shutil.rmtree(self.path)


def _gather(batch: WriteBatch, effects: list[tuple[Any, ...]], tables: Rows) -> None:
    """The effects, in a batch and in the tables."""
    for kind, name, key, *rest in effects:
        rows = tables[name]
        if kind == "put":
            batch.put(name, key, rest[0])
            rows[key] = rest[0]
        elif kind == "delete":
            batch.delete(name, key)
            rows.pop(key, None)
        else:
            lower, upper = sorted((key, rest[0]))
            batch.delete_range(name, lower, upper)
            for gone in [row for row in rows if lower <= row < upper]:
                del rows[gone]


def _compare(
    reader: Reader, rows: dict[bytes, bytes], name: str, lower: bytes, upper: bytes | None
) -> None:
    expected = sorted(
        (key, value)
        for key, value in rows.items()
        if key >= lower and (upper is None or key < upper)
    )
    assert list(reader.iterate(name, lower, upper)) == expected
    assert list(reader.iterate(name, lower, upper, reverse=True)) == expected[::-1]
    assert list(reader.keys(name, lower, upper)) == [key for key, _ in expected]


class LogAgainst(RuleBasedStateMachine):
    """The log's store, in small files."""

    @initialize(reverse=st.booleans())
    def open(self, reverse: bool) -> None:
        self.path = Path(tempfile.mkdtemp())
        self.families = (
            FAMILIES[::-1] if reverse else FAMILIES
        )  # of the first, values stay in files
        self.rows: Rows = {name: {} for name in FAMILIES}
        self.log = self._open()

    def _open(self) -> Wal:
        return Wal(self.path / "log", self.families, file_bytes=1024)

    @rule(effects=EFFECTS)
    def write(self, effects: list[tuple[Any, ...]]) -> None:
        batch = self.log.batch()
        _gather(batch, effects, self.rows)
        assert len(batch) == len(effects)
        self.log.write(batch)

    @rule(name=NAMES, key=KEYS, value=st.binary(max_size=300))
    def write_row(self, name: str, key: bytes, value: bytes) -> None:
        self.log.write_row(name, key, value)
        self.rows[name][key] = value

    @rule(name=NAMES, lower=KEYS, upper=BOUNDS)
    def read(self, name: str, lower: bytes, upper: bytes | None) -> None:
        _compare(self.log, self.rows[name], name, lower, upper)
        assert self.log.get(name, lower) == self.rows[name].get(lower)

    @rule()
    def sync(self) -> None:
        self.log.sync()

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log = self._open()

    @invariant()
    def hold_all_rows(self) -> None:
        if hasattr(self, "log"):
            for name, rows in self.rows.items():
                assert list(self.log.iterate(name)) == sorted(rows.items())

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()
            shutil.rmtree(self.path)


_SETTINGS = settings(suppress_health_check=list(HealthCheck), stateful_step_count=25)
Against.TestCase.settings = settings(_SETTINGS, max_examples=40)
test_the_backends_behave_like_a_dict = Against.TestCase
LogAgainst.TestCase.settings = settings(_SETTINGS, max_examples=40)
test_the_log_behaves_like_a_dict = LogAgainst.TestCase


@pytest.mark.slow
def test_the_backends_behave_like_a_dict_for_long() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    for machine in (Against, LogAgainst):
        run_state_machine_as_test(machine, settings=settings(_SETTINGS, max_examples=500))


def test_many_rows_in_any_order_split_and_merge_like_a_dict() -> None:
    backend = MemoryBackend(["f"])
    rows: dict[bytes, bytes] = {}
    for step in range(4000):
        key = b"%05d" % (step * 7919 % 3001)
        batch = backend.batch()
        if step % 3 == 2:
            batch.delete("f", key)
            rows.pop(key, None)
        else:
            batch.put("f", key, b"%d" % step)
            rows[key] = b"%d" % step
        backend.write(batch)
        if step % 500 == 0:
            assert list(backend.iterate("f")) == sorted(rows.items())
    assert list(backend.iterate("f")) == sorted(rows.items())
