"""What there is when a watch begins (`send_initial`), before what changes: read at one revision.

The rows are read in chunks that pin nothing, so that a slow client holds up
nobody; a compaction that overtakes the revision ends the watch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from chainfire.mvcc import rows
from chainfire.mvcc.ranges import FROM_KEY, after_keyspace
from chainfire.mvcc.store import Mvcc
from chainfire.mvcc.stream import stream_steps
from chainfire.proto.kv_pb2 import RangeRequest
from chainfire.proto.watch_pb2 import WatchResponse
from chainfire.watch.event import Event, Flags
from chainfire.watch.groups import Span

CHUNK_BYTES = 256 * 1024
_PART = WatchResponse(initial=True).SerializeToString()
_END = WatchResponse(initial_complete=True).SerializeToString()


class Source(Protocol):
    """Where changes and rows are read; the store may be replaced by a snapshot's."""

    @property
    def store(self) -> Mvcc: ...


class Initial:
    """One watcher's initial state, as far as it was not told yet."""

    def __init__(
        self, source: Source, spans: Sequence[Span], flags: int, revision: int, header: bytes
    ) -> None:
        self._source = source
        self._keys_only = bool(flags & Flags.KEYS_ONLY)
        self._revision = revision
        self._header = header
        # Bodies of responses, None where others may have a turn. Raises Compacted.
        self.responses = self._responses(spans)

    def _responses(self, spans: Sequence[Span]) -> Iterator[bytes | None]:
        for span in spans:
            for found in self._rows(span):
                yield self._body(found) if found else None
        yield self._header + _END

    def _body(self, found: Sequence[bytes]) -> bytes:
        fields = [Event(0, rows.PUT, 0, b"", row, None).encoded(0) for row in found]
        return b"".join((self._header, _PART, *fields))

    def _rows(self, span: Span) -> Iterator[Sequence[bytes] | None]:
        keyspace, request = _request(span)
        request.revision, request.keys_only = self._revision, self._keys_only
        store = self._source.store
        result = yield from stream_steps(
            store.view, store, keyspace, request, chunk_bytes=CHUNK_BYTES
        )
        yield result.rows or None


def _request(span: Span) -> tuple[int, RangeRequest]:
    size = rows.KEYSPACE_BYTES
    lower = span if isinstance(span, bytes) else span[0]
    space = lower[:size]
    request = RangeRequest(key=lower[size:])
    if not isinstance(span, bytes):
        upper = span[1]
        request.range_end = FROM_KEY if upper == after_keyspace(space) else upper[size:]
    return int.from_bytes(space), request
