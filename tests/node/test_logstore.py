"""The log on disk against a plain list, through appends, conflicts, cuts and re-opening."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.errors import Corrupt
from chainfire.node.logstore import (
    Identity,
    LogMeta,
    LogStore,
    write_identity,
    write_start_number,
)
from chainfire.node.records import RECORD_BYTES_MAX
from chainfire.storage.backend import LOG_FAMILIES
from chainfire.storage.memory import MemoryBackend
from chainfire.types import ConfState, Entry, HardState

CONF = ConfState(voters=(1,))


def new_log(tail_bytes_max: int = 1 << 20) -> tuple[MemoryBackend, LogStore]:
    backend = MemoryBackend(LOG_FAMILIES)
    return backend, LogStore(backend, CONF, tail_bytes_max=tail_bytes_max)


def batch_of(first: int, count: int, term: int, size: int = 3) -> list[Entry]:
    return [Entry(term, i, data=bytes([i % 256]) * size) for i in range(first, first + count)]


def test_golden_rows_of_raft_meta() -> None:
    backend, log = new_log()
    batch = backend.batch()
    write_identity(batch, Identity(1, 2, 3))
    write_start_number(batch, 4)
    backend.write(batch)
    log.append(batch_of(1, 5, 1), HardState(1, 2, 3))
    log.note_state_durable(4)
    log.truncate_front(2)
    log.begin_install(7, 6, "state-000002")
    rows = {key: value.hex() for key, value in backend.iterate("raft_meta")}
    word = "{:016x}".format
    assert rows == {
        b"identity": "01" + word(1) + word(2) + word(3),
        b"start_number": "01" + word(4),
        b"hard_state": "01" + word(1) + word(2) + word(3),
        b"state_durable": "01" + word(4),
        b"truncated": "01" + word(2) + word(1),
        b"installing": "01" + word(7) + word(6) + b"state-000002".hex(),
    }
    meta = LogMeta.read(backend)
    assert (meta.identity, meta.start_number) == (Identity(1, 2, 3), 4)


def test_the_tail_in_memory_is_bounded_and_older_entries_come_from_disk() -> None:
    _, log = new_log(tail_bytes_max=1000)
    for first in range(1, 1001, 10):
        log.append(batch_of(first, 10, 1, size=50), None)
    assert len(log._tail) <= 41
    assert log.entries(1, 1001, 1 << 30) == batch_of(1, 1000, 1, size=50)


def test_entries_are_cut_by_bytes_but_never_empty() -> None:
    _, log = new_log()
    log.append(batch_of(1, 5, 1, size=10), None)
    assert log.entries(1, 6, 0) == batch_of(1, 1, 1, size=10)
    assert log.entries(1, 6, 25) == batch_of(1, 2, 1, size=10)


def test_a_hole_in_the_log_is_noticed_when_opening() -> None:
    backend, log = new_log()
    for first in (1, 4, 7):
        log.append(batch_of(first, 3, 1), None)
    batch = backend.batch()
    batch.delete("raft_logs", (4).to_bytes(8, "big"))
    backend.write(batch)
    with pytest.raises(Corrupt, match="misses entries 4 to 6"):
        LogStore(backend, CONF)


def test_indexes_outside_the_log_are_lookup_errors() -> None:
    _, log = new_log()
    log.append(batch_of(1, 5, 2), None)
    log.note_state_durable(5)
    log.truncate_front(3)
    assert (log.first_index(), log.term(3), log.term(5)) == (4, 2, 2)
    for call in (lambda: log.term(2), lambda: log.term(6), lambda: log.entries(3, 5, 100)):
        with pytest.raises(LookupError):
            call()


def test_a_turn_of_large_entries_is_stored_in_records_of_bounded_size() -> None:
    backend, log = new_log(tail_bytes_max=0)
    large = batch_of(1, 12, 1, size=RECORD_BYTES_MAX // 4)
    giant = batch_of(13, 2, 1, size=2 * RECORD_BYTES_MAX)
    log.append([*large, *giant], None)
    firsts = [int.from_bytes(key, "big") for key, _ in backend.iterate("raft_logs")]
    assert firsts == [1, 5, 9, 13, 14]
    assert log.entries(6, 7, 0) == large[5:6]
    again = LogStore(backend, CONF)
    assert again.entries(1, 15, 1 << 30) == [*large, *giant]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 6), st.booleans()),
        st.tuples(st.just("conflict"), st.integers(0, 8), st.integers(1, 4)),
        st.tuples(st.just("cut"), st.integers(0, 10), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=150)
@given(steps, st.integers(0, 200))
def test_the_log_behaves_like_a_list(script: list[tuple[str, int, int]], tail_max: int) -> None:
    backend, log = new_log(tail_max)
    model: list[Entry] = []  # all entries ever kept, from index 1
    cut, term = 0, 1
    for verb, a, b in script:
        if verb == "append":
            term += bool(b)
            new = batch_of(len(model) + 1, a, term)
        elif verb == "conflict":
            term += 1
            new = batch_of(max(cut + 1, len(model) + 1 - a), b, term)
        else:
            new = []
        if new:
            model[new[0].index - 1 :] = new
            log.append(new, HardState(term, 0, 0))
        elif verb == "cut":
            cut = min(len(model), cut + a)
            log.note_state_durable(max(cut, log.state_durable))
            log.truncate_front(cut)
        else:
            log = LogStore(backend, CONF, tail_bytes_max=tail_max)
        assert (log.first_index(), log.last_index()) == (cut + 1, len(model))
        assert log.entries(cut + 1, len(model) + 1, 1 << 30) == model[cut:]
        for entry in model[cut:]:
            assert log.term(entry.index) == entry.term
        if cut:
            assert log.term(cut) == model[cut - 1].term
