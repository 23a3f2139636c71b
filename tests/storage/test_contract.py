"""The storage contract, the same for every backend."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from chainfire.storage.backend import Backend, LogBackend, StorageBackend
from tests.storage.backends import Kind, put

ABC = [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
BOUNDS = pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (b"", None, b"abc"),
        (b"b", None, b"bc"),
        (b"", b"b", b"a"),
        (b"b", b"c", b"b"),
        (b"aa", b"bb", b"b"),
        (b"b", b"b", b""),
        (b"c", b"a", b""),
        (b"d", None, b""),
        (b"", b"", b""),
    ],
)


def test_a_written_batch_is_read_at_once(backend: Backend) -> None:
    put(backend, *ABC)
    assert backend.get("a", b"b") == b"2"
    assert backend.get("a", b"bb") is None
    assert list(backend.iterate("a")) == ABC


def test_a_written_row_is_read_at_once_and_durable_with_the_next_sync(
    log: LogBackend,
) -> None:
    log.write_row("a", b"k", b"v")
    log.write_row("b", b"k", b"of b")
    assert (log.get("a", b"k"), log.get("b", b"k")) == (b"v", b"of b")
    log.sync()
    assert log.statistics().write_bytes
    with pytest.raises(KeyError):
        log.write_row("nowhere", b"k", b"v")


def test_a_sync_may_be_begun_before(log: LogBackend) -> None:
    log.begin_sync()
    put(log, *ABC)
    log.begin_sync()
    log.begin_sync()
    log.sync()
    assert list(log.iterate("a")) == ABC


def test_nothing_of_a_batch_is_read_before_it_is_written(backend: Backend) -> None:
    batch = backend.batch()
    batch.put("a", b"k", b"v")
    assert len(batch) == 1
    assert backend.get("a", b"k") is None


def test_families_do_not_mix(backend: Backend) -> None:
    batch = backend.batch()
    batch.put("a", b"k", b"of a")
    batch.put("b", b"k", b"of b")
    backend.write(batch)
    assert (backend.get("a", b"k"), backend.get("b", b"k")) == (b"of a", b"of b")


def test_an_unknown_family_is_a_key_error(backend: Backend) -> None:
    with pytest.raises(KeyError):
        backend.get("nowhere", b"k")
    with pytest.raises(KeyError):
        backend.iterate("nowhere")


def test_empty_keys_and_values_are_rows(backend: Backend) -> None:
    put(backend, (b"", b""), (b"\0", b""))
    assert backend.get("a", b"") == b""
    assert list(backend.iterate("a")) == [(b"", b""), (b"\0", b"")]


def test_keys_are_ordered_by_their_bytes(backend: Backend) -> None:
    keys = [b"\xff", b"\x00\xff", b"", b"\x7f", b"\x80", b"\x00", b"\xff\x00", b"\x00\x00"]
    put(backend, *((key, b"") for key in keys))
    assert list(backend.keys("a")) == sorted(keys)


@BOUNDS
def test_bounds_hold_in_both_directions(
    backend: Backend, lower: bytes, upper: bytes | None, expected: bytes
) -> None:
    put(backend, *ABC)
    rows = [row for row in ABC if row[0] in expected]
    assert list(backend.iterate("a", lower, upper)) == rows
    assert list(backend.iterate("a", lower, upper, reverse=True)) == rows[::-1]
    assert list(backend.keys("a", lower, upper)) == [key for key, _ in rows]


@BOUNDS
def test_bounds_hold_in_a_snapshot(
    state: StorageBackend, lower: bytes, upper: bytes | None, expected: bytes
) -> None:
    put(state, *ABC)
    rows = [row for row in ABC if row[0] in expected]
    snapshot = state.snapshot()
    assert list(snapshot.iterate("a", lower, upper)) == rows
    assert list(snapshot.iterate("a", lower, upper, reverse=True)) == rows[::-1]
    assert list(snapshot.keys("a", lower, upper)) == [key for key, _ in rows]
    snapshot.close()


def test_the_last_effect_on_a_key_in_a_batch_wins(backend: Backend) -> None:
    batch = backend.batch()
    batch.put("a", b"k", b"1")
    batch.put("a", b"k", b"2")
    batch.put("a", b"gone", b"1")
    batch.delete("a", b"gone")
    batch.delete("a", b"back")
    batch.put("a", b"back", b"1")
    backend.write(batch)
    assert list(backend.iterate("a")) == [(b"back", b"1"), (b"k", b"2")]


def test_delete_range_deletes_what_came_before_it_in_the_batch_and_nothing_after(
    backend: Backend,
) -> None:
    put(backend, *ABC)
    batch = backend.batch()
    batch.put("a", b"aa", b"before")
    batch.delete_range("a", b"a", b"c")
    batch.put("a", b"b", b"after")
    backend.write(batch)
    assert list(backend.iterate("a")) == [(b"b", b"after"), (b"c", b"3")]


def test_an_empty_delete_range_deletes_nothing(backend: Backend) -> None:
    put(backend, *ABC)
    batch = backend.batch()
    batch.delete_range("a", b"b", b"b")
    backend.write(batch)
    assert list(backend.iterate("a")) == ABC


def test_deleting_an_absent_key_is_nothing(backend: Backend) -> None:
    batch = backend.batch()
    batch.delete("a", b"k")
    backend.write(batch)
    assert list(backend.iterate("a")) == []


def test_an_empty_batch_can_be_written(backend: Backend) -> None:
    backend.write(backend.batch())
    assert list(backend.iterate("a")) == []


@pytest.mark.parametrize("reverse", [False, True])
def test_an_iterator_shows_the_rows_as_of_its_call(backend: Backend, reverse: bool) -> None:
    put(backend, *ABC)
    rows = backend.iterate("a", reverse=reverse)
    keys = backend.keys("a")
    put(backend, (b"aa", b"new"), (b"b", b"changed"), (b"d", b"new"))
    assert list(rows) == (ABC[::-1] if reverse else ABC)
    assert list(keys) == [b"a", b"b", b"c"]


def test_a_snapshot_never_changes_and_spans_families(state: StorageBackend) -> None:
    put(state, *ABC)
    put(state, *ABC, family="b")
    snapshot = state.snapshot()
    batch = state.batch()
    batch.delete_range("a", b"", b"z")
    batch.delete("b", b"a")
    batch.put("b", b"b", b"changed")
    state.write(batch)
    assert list(snapshot.iterate("a")) == ABC
    assert [snapshot.get("b", key) for key in (b"a", b"b", b"x")] == [b"1", b"2", None]
    assert list(state.iterate("b")) == [(b"b", b"changed"), (b"c", b"3")]
    snapshot.close()


def test_compaction_changes_no_row(state: StorageBackend) -> None:
    put(state, *ABC)
    batch = state.batch()
    batch.delete("a", b"b")
    state.write(batch)
    state.compact()
    assert list(state.iterate("a")) == [ABC[0], ABC[2]]


def test_a_checkpoint_opens_and_holds_what_was_synced(
    kind: Kind, state: StorageBackend, tmp_path: Path
) -> None:
    put(state, *ABC)
    state.sync()
    state.checkpoint(tmp_path / "copy")
    put(state, (b"d", b"later"))
    copy = kind.open_checkpoint(tmp_path / "copy")
    assert list(copy.iterate("a")) == ABC
    put(copy, (b"e", b"of the copy"))
    assert state.get("a", b"e") is None
    copy.close()


def test_a_checkpoint_taken_beside_a_writer_is_a_prefix_of_its_batches(
    kind: Kind, state: StorageBackend, tmp_path: Path
) -> None:
    put(state, (b"%06d" % 0, b""), family="a")
    put(state, (b"%06d" % 0, b""), family="b")
    worker = threading.Thread(target=state.checkpoint, args=(tmp_path / "copy",))
    worker.start()
    for number in range(1, 2000):
        batch = state.batch()
        for family in ("a", "b"):
            batch.put(family, b"%06d" % number, b"v" * 100)
        state.write(batch)
    worker.join()
    copy = kind.open_checkpoint(tmp_path / "copy")
    keys = list(copy.keys("a"))
    assert keys == [b"%06d" % number for number in range(len(keys))]
    assert keys == list(copy.keys("b"))
    copy.close()


def test_approximate_size_is_exact_for_few_rows(state: StorageBackend) -> None:
    put(state, *ABC)
    assert state.approximate_size("a", b"b", None) == 4
    assert state.approximate_size("b", b"", None) == 0


def test_statistics_count_syncs_and_written_bytes(backend: Backend) -> None:
    before = backend.statistics()
    put(backend, (b"key", b"v" * 1000))
    backend.sync()
    backend.sync()
    statistics = backend.statistics()
    assert statistics.sync_count - before.sync_count == 2
    assert 1003 <= statistics.write_bytes - before.write_bytes <= 1100
    assert statistics.disk_bytes >= 1003


def test_statistics_tell_what_waits_in_memory(state: StorageBackend) -> None:
    put(state, (b"key", b"v" * 1000))
    assert state.statistics().memtable_bytes >= 1003


def test_close_is_idempotent(backend: Backend) -> None:
    backend.close()
    backend.close()


@pytest.mark.parametrize("reverse", [False, True])
def test_iterations_over_one_snapshot_do_not_disturb_each_other(
    state: StorageBackend, reverse: bool
) -> None:
    put(state, *ABC)
    snapshot = state.snapshot()
    put(state, (b"aa", b"later"))
    seen = []
    for key, _ in snapshot.iterate("a", reverse=reverse):
        inner = list(snapshot.iterate("a", b"b", reverse=not reverse))
        seen.append((key, len(inner)))
    keys = [key for key, _ in (ABC[::-1] if reverse else ABC)]
    assert seen == [(key, 2) for key in keys]
    snapshot.close()


def test_bounds_outlive_the_bytes_that_gave_them(backend: Backend) -> None:
    put(backend, *((b"/registry/%09d" % number, b"") for number in range(300)))
    for number in range(300):
        key = b"/registry/%09d" % number
        iterators = [backend.iterate("a", key, key + b"\0"), backend.keys("a", key, key + b"\0")]
        junk = [b"\xff" * length for length in range(8, 64)] * 3
        assert [len(list(rows)) for rows in iterators] == [1, 1]
        del junk


def test_a_checkpoint_takes_the_place_of_a_backend_that_is_in_use(
    state: StorageBackend, tmp_path: Path
) -> None:
    put(state, (b"k", b"old"))
    state.sync()
    state.checkpoint(tmp_path / "copy")
    put(state, (b"k", b"new"), (b"l", b"new"))
    view, rows = state.snapshot(), state.iterate("a")
    state.reopen(tmp_path / "copy")
    assert list(state.iterate("a")) == [(b"k", b"old")]
    assert view.get("a", b"k") == b"new" and len(list(rows)) == 2
    view.close()
    put(state, (b"m", b"later"))
    state.sync()
    assert [key for key, _ in state.iterate("a")] == [b"k", b"m"]
    state.compact()


# ── scrubbing ───────────────────────────────────────────────────────────────


def test_scrubbing_goes_on_where_it_stopped_and_ends(backend: Backend) -> None:
    put(backend, *((b"%03d" % number, b"v" * 97) for number in range(100)))
    at: bytes | None = b""
    steps = 0
    while at is not None:
        at = backend.scrub("a", at, 1000)
        steps += 1
        assert steps <= 11
    assert steps in (1, 11), "ten rows a step, and the end; at once where no disk holds them"
    assert backend.scrub("b", b"", 1000) is None
