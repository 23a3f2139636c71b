"""The Raft log on disk: entries, hard state and the few facts beside them, in `log/`.

Implements the reader that the Raft core asks for. Writes are readable at once
and durable only after the backend's `sync`; the driver decides when that is.
The newest entries are kept in memory, bounded in bytes, because apply and
followers read them right after they were written.

Invariant: truncated <= last_index, and every index in (truncated, last_index]
is stored. A hole found while opening is damage, never guessed over.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chainfire.errors import Corrupt, UnknownFormat
from chainfire.node import records
from chainfire.raft.messages import Snapshot
from chainfire.storage.backend import LogBackend, Reader, WriteBatch
from chainfire.types import ConfState, Entry, HardState

_INDEX = struct.Struct(">Q")
_U64 = struct.Struct(">BQ")
_PAIR = struct.Struct(">BQQ")
_TRIPLE = struct.Struct(">BQQQ")
_META_FORMAT = 1


def _read(reader: Reader, key: bytes, layout: struct.Struct) -> tuple[int, ...] | None:
    row = reader.get("raft_meta", key)
    if row is None:
        return None
    if row[:1] != bytes([_META_FORMAT]):
        raise UnknownFormat(f"raft_meta row {key.decode()} has format {row[:1].hex()}")
    if len(row) != layout.size:
        raise Corrupt(f"raft_meta row {key.decode()} has {len(row)} bytes, not {layout.size}")
    return tuple(layout.unpack(row)[1:])


@dataclass(slots=True, frozen=True)
class Identity:
    """Whose directory this is; written once, when it is made."""

    cluster_id: int
    member_id: int
    incarnation: int  # random, per data directory


@dataclass(slots=True, frozen=True)
class Installing:
    """A snapshot on its way in: where it stands, and the state directory that holds it."""

    index: int
    term: int
    directory: str


@dataclass(slots=True, frozen=True)
class LogMeta:
    """The single facts of `raft_meta`; identity is None in a directory that was never used."""

    identity: Identity | None
    hard_state: HardState
    start_number: int
    truncated_index: int
    truncated_term: int
    state_durable: int
    installing: Installing | None = None  # a snapshot took the state's place, or was about to

    @classmethod
    def none(cls) -> LogMeta:
        """Of a log that does not exist yet."""
        return cls(None, HardState(), 0, 0, 0, 0)

    @classmethod
    def read(cls, reader: Reader) -> LogMeta:
        """Raises UnknownFormat or Corrupt."""
        identity = _read(reader, b"identity", _TRIPLE)
        (start_number,) = _read(reader, b"start_number", _U64) or (0,)
        truncated_index, truncated_term = _read(reader, b"truncated", _PAIR) or (0, 0)
        (state_durable,) = _read(reader, b"state_durable", _U64) or (0,)
        return cls(
            Identity(*identity) if identity else None,
            HardState(*(_read(reader, b"hard_state", _TRIPLE) or (0, 0, 0))),
            start_number,
            truncated_index,
            truncated_term,
            state_durable,
            _read_installing(reader),
        )


def _read_installing(reader: Reader) -> Installing | None:
    row = reader.get("raft_meta", b"installing")
    if row is None:
        return None
    if row[:1] != bytes([_META_FORMAT]):
        raise UnknownFormat(f"raft_meta row installing has format {row[:1].hex()}")
    try:
        _, index, term = _PAIR.unpack_from(row)
        return Installing(index, term, row[_PAIR.size :].decode("ascii"))
    except (struct.error, UnicodeDecodeError) as exc:
        raise Corrupt(f"raft_meta row installing cannot be read: {exc}") from exc


class LogStore:
    """The log of one member. Opened on the thread that writes; `tail_bytes_max` bounds memory."""

    def __init__(
        self, backend: LogBackend, conf_state: ConfState, *, tail_bytes_max: int = 32 << 20
    ) -> None:
        self._backend = backend
        self._conf_state = conf_state
        self._tail_bytes_max = tail_bytes_max
        self.record_cache = records.RecordCache()  # shared with what is sent and received
        # What a member that the log cannot catch up is sent; the driver knows.
        self.newest_state: Callable[[], Snapshot | None] = lambda: None
        meta = LogMeta.read(backend)
        self.hard_state = meta.hard_state
        self.state_durable = meta.state_durable
        self._truncated = meta.truncated_index
        self._last = meta.truncated_index
        # (first index, term) of each run of entries of one term, the truncated one first
        self._runs: list[tuple[int, int]] = [(meta.truncated_index, meta.truncated_term)]
        self._tail: list[Entry] = []  # the newest entries, ending at _last
        self._tail_bytes = 0
        self._load()

    # ── what Raft reads ─────────────────────────────────────────────────────

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self.hard_state, self._conf_state

    def first_index(self) -> int:
        return self._truncated + 1

    @property
    def tail_first_index(self) -> int:
        """The first of the newest entries, those that are kept in memory; bounded in bytes."""
        return self._last + 1 - len(self._tail)

    def last_index(self) -> int:
        return self._last

    def term(self, index: int) -> int:
        """Term of the entry at `index`, the truncated border included.

        Raises LookupError when the index is truncated away or not yet there.
        """
        if not self._truncated <= index <= self._last:
            raise LookupError(f"index {index} not in [{self._truncated}, {self._last}]")
        first, newest = self._runs[-1]
        if index >= first:
            return newest
        return self._runs[bisect_right(self._runs, index, key=lambda run: run[0]) - 1][1]

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        """Entries with low <= index < high, cut after `bytes_max` of data but never empty."""
        if not self._truncated < low <= high <= self._last + 1:
            raise LookupError(f"[{low}, {high}) not in ({self._truncated}, {self._last}]")
        tail_first = self._last + 1 - len(self._tail)
        if low >= tail_first:
            found = self._tail[low - tail_first : high - tail_first]
        else:
            found = self._stored(low, high, bytes_max)
        return _limited(found, bytes_max)

    def snapshot(self) -> Snapshot | None:
        """Where the machine stands: nothing is stored, the files are made when it is sent."""
        return self.newest_state()

    # ── writing ─────────────────────────────────────────────────────────────

    def append(self, entries: Sequence[Entry], hard_state: HardState | None) -> None:
        """Write entries and hard state in one batch; a conflicting suffix is replaced.

        Readable at once, durable after the backend's next sync. Raises what
        `LogBackend.write` raises, with nothing changed.
        """
        rows = self.record_cache.encode(entries)
        if len(rows) == 1 and hard_state is None and entries[0].index == self._last + 1:
            self._backend.write_row("raft_logs", _INDEX.pack(self._last + 1), rows[0])
            self._remember(entries)
            return
        batch = self._backend.batch()
        if entries:
            first = entries[0].index
            assert self._truncated < first <= self._last + 1, (self._truncated, first, self._last)
            if first <= self._last:
                self._cut_suffix(batch, first)
            for record in rows:
                batch.put("raft_logs", _INDEX.pack(first), record)
                first = records.first_index_after(record, first)
        if hard_state is not None:
            write_hard_state(batch, hard_state)
        self._backend.write(batch)
        if hard_state is not None:
            self.hard_state = hard_state
        if entries:
            if entries[0].index <= self._last:
                self._forget_suffix(entries[0].index)
            self._remember(entries)

    def note_state_durable(self, applied_index: int) -> None:
        """Record that `state/` holds this index durably; the front may be cut up to it."""
        assert applied_index >= self.state_durable, (applied_index, self.state_durable)
        batch = self._backend.batch()
        write_state_durable(batch, applied_index)
        self._backend.write(batch)
        self.state_durable = applied_index

    def truncate_front(self, index: int) -> None:
        """Forget the entries up to and including `index`; the record that holds it stays whole."""
        assert index <= self.state_durable, (index, self.state_durable)
        if index <= self._truncated:
            return
        term = self.term(index)
        batch = self._backend.batch()
        write_truncated(batch, index, term)
        holder = self._record_with(index + 1) if index < self._last else self._last + 1
        batch.delete_range("raft_logs", _INDEX.pack(0), _INDEX.pack(holder))
        self._backend.write(batch)
        self._truncated = index
        keep = bisect_right(self._runs, index, key=lambda run: run[0])
        self._runs[:keep] = [(index, term)]
        surplus = len(self._tail) - (self._last - index)
        if surplus > 0:
            self._drop_tail(surplus)

    # ── a snapshot in the place of everything ───────────────────────────────

    def begin_install(self, index: int, term: int, directory: str) -> None:
        """Record, durably, that this state directory is about to take over; see `installing`."""
        batch = self._backend.batch()
        row = _PAIR.pack(_META_FORMAT, index, term) + directory.encode("ascii")
        batch.put("raft_meta", b"installing", row)
        self._backend.write(batch)
        self._backend.sync()

    def finish_install(self, index: int, term: int, hard_state: HardState) -> None:
        """The log begins behind the snapshot. Durable after the backend's next sync."""
        batch = self._backend.batch()
        write_installed(batch, index, term)
        write_hard_state(batch, hard_state)
        self._backend.write(batch)
        self.hard_state = hard_state
        self.state_durable = self._truncated = self._last = index
        self._runs = [(index, term)]
        self._tail, self._tail_bytes = [], 0

    # ── inside ──────────────────────────────────────────────────────────────

    def _load(self) -> None:
        # What was cut off the front may still have to be walked over: begin behind it.
        lower = _INDEX.pack(_record_over(self._backend, self._truncated + 1) or 0)
        for key, record in self._backend.iterate("raft_logs", lower):
            (first,) = _INDEX.unpack(key)
            entries = records.decode(first, record)
            if entries[-1].index <= self._truncated:
                continue
            if first > self._last + 1:
                raise Corrupt(f"the log misses entries {self._last + 1} to {first - 1}")
            self._remember(entries[self._last + 1 - first :])

    def _remember(self, entries: Sequence[Entry]) -> None:
        term = self._runs[-1][1]
        if entries[-1].term != term or entries[0].term != term:
            for entry in entries:
                if entry.term != self._runs[-1][1]:
                    self._runs.append((entry.index, entry.term))
        self._tail.extend(entries)
        self._tail_bytes += records.data_bytes(entries)
        self._last = entries[-1].index
        if self._tail_bytes > 2 * self._tail_bytes_max:
            self._shrink_tail()

    def _shrink_tail(self) -> None:
        """Halve the tail at once, so that the cost per entry stays constant."""
        drop, weight = 0, self._tail_bytes
        while weight > self._tail_bytes_max and drop < len(self._tail) - 1:
            weight -= len(self._tail[drop].data)
            drop += 1
        self._drop_tail(drop)

    def _drop_tail(self, count: int) -> None:
        self._tail_bytes -= records.data_bytes(self._tail[:count])
        del self._tail[:count]

    def _cut_suffix(self, batch: WriteBatch, first: int) -> None:
        """Stage the removal of all entries from `first` on, the record over the cut rewritten."""
        holder = self._record_with(first)
        batch.delete_range("raft_logs", _INDEX.pack(holder), _INDEX.pack(self._last + 1))
        if holder < first:
            record = self._backend.get("raft_logs", _INDEX.pack(holder))
            assert record is not None, holder
            kept = records.decode(holder, record)[: first - holder]
            batch.put("raft_logs", _INDEX.pack(holder), records.encode(kept))

    def _forget_suffix(self, first: int) -> None:
        self._runs = [run for run in self._runs if run[0] < first] or self._runs[:1]
        surplus = self._last + 1 - first
        keep = max(0, len(self._tail) - surplus)
        self._tail_bytes -= records.data_bytes(self._tail[keep:])
        del self._tail[keep:]
        self._last = first - 1

    def _record_with(self, index: int) -> int:
        """First index of the record that holds `index`."""
        first = _record_over(self._backend, index)
        if first is None:
            raise Corrupt(f"the log misses entry {index}")
        return first

    def _stored(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        found: list[Entry] = []
        weight = 0
        start = _INDEX.pack(self._record_with(low))
        for key, record in self._backend.iterate("raft_logs", start, _INDEX.pack(high)):
            for entry in records.decode(_INDEX.unpack(key)[0], record):
                if low <= entry.index < high:
                    found.append(entry)
                    weight += len(entry.data)
            if weight > bytes_max:
                break
        return found


def write_identity(batch: WriteBatch, identity: Identity) -> None:
    batch.put(
        "raft_meta",
        b"identity",
        _TRIPLE.pack(_META_FORMAT, identity.cluster_id, identity.member_id, identity.incarnation),
    )


def write_start_number(batch: WriteBatch, start_number: int) -> None:
    batch.put("raft_meta", b"start_number", _U64.pack(_META_FORMAT, start_number))


def write_state_durable(batch: WriteBatch, applied_index: int) -> None:
    batch.put("raft_meta", b"state_durable", _U64.pack(_META_FORMAT, applied_index))


def write_hard_state(batch: WriteBatch, state: HardState) -> None:
    row = _TRIPLE.pack(_META_FORMAT, state.term, state.vote, state.commit)
    batch.put("raft_meta", b"hard_state", row)


def _record_over(reader: Reader, index: int) -> int | None:
    """First index of the last record that does not begin behind `index`."""
    for key, _ in reader.iterate("raft_logs", upper=_INDEX.pack(index + 1), reverse=True):
        return int(_INDEX.unpack(key)[0])
    return None


def _limited(entries: list[Entry], bytes_max: int) -> list[Entry]:
    weight = 0
    for count, entry in enumerate(entries):
        weight += len(entry.data)
        if weight > bytes_max and count:
            return entries[:count]
    return entries


def write_truncated(batch: WriteBatch, index: int, term: int) -> None:
    """The log begins behind this entry; rows of those before it may still be there."""
    batch.put("raft_meta", b"truncated", _PAIR.pack(_META_FORMAT, index, term))


def write_empty_log(batch: WriteBatch, index: int, term: int) -> None:
    """The entries of a log that begins behind `index`, for a member that gives its own log up."""
    batch.delete_range("raft_logs", _INDEX.pack(0), b"\xff" * (_INDEX.size + 1))
    write_truncated(batch, index, term)


def write_installed(batch: WriteBatch, index: int, term: int) -> None:
    """A log that begins behind an installed snapshot."""
    write_empty_log(batch, index, term)
    write_state_durable(batch, index)
    batch.delete("raft_meta", b"installing")


def write_not_installing(batch: WriteBatch) -> None:
    batch.delete("raft_meta", b"installing")


def drop_conf_changes(backend: LogBackend, applied_index: int) -> int:
    """Make membership changes behind `applied_index` empty entries, durably; how many they were.

    For a member that goes on alone, whatever its cluster had in mind.
    """
    batch, dropped = backend.batch(), 0
    for key, record in backend.iterate("raft_logs"):
        entries = records.decode(_INDEX.unpack(key)[0], record)
        changes = [e for e in entries if e.type and e.index > applied_index]
        if changes:
            kept = [Entry(e.term, e.index) if e in changes else e for e in entries]
            batch.put("raft_logs", key, records.encode(kept))
            dropped += len(changes)
    if dropped:
        backend.write(batch)
        backend.sync()
    return dropped


def first_position(reader: Reader, meta: LogMeta) -> int:
    """First index of the first record; the one behind the truncated border if there is none."""
    for key in reader.keys("raft_logs"):
        return int(_INDEX.unpack(key)[0])
    return meta.truncated_index + 1


def last_position(reader: Reader, meta: LogMeta) -> tuple[int, int]:
    """(index, term) of the last entry; the truncated border's if there is none."""
    for key, record in reader.iterate("raft_logs", reverse=True):
        last = records.decode(_INDEX.unpack(key)[0], record)[-1]
        return last.index, last.term
    return meta.truncated_index, meta.truncated_term


def stored_term(reader: Reader, index: int) -> int | None:
    """The term of one stored entry; None if no record holds it."""
    upper = _INDEX.pack(index + 1)
    for key, record in reader.iterate("raft_logs", upper=upper, reverse=True):
        first: int = _INDEX.unpack(key)[0]
        entries: list[Entry] = records.decode(first, record)
        if index - first < len(entries):
            return entries[index - first].term
        break
    return None
