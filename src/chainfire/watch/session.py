"""One stream's side of the Watch protocol: requests in, answers in etcd's words.

    create     the answer with the watcher's id leaves before anything it is told
    cancel     the last answer of its id; for an unknown id there is none
    progress   one answer for the whole stream, if all its watchers are live; else none

A create that is refused is answered under id -1, and the stream goes on.
"""

from __future__ import annotations

from chainfire.errors import Compacted
from chainfire.proto.watch_pb2 import WatchCreateRequest, WatchRange, WatchRequest
from chainfire.watch.event import Flags
from chainfire.watch.groups import Outlet, Permit, Span, WatchStream, span_of, united
from chainfire.watch.hub import Hub
from chainfire.watch.responses import (
    canceled_fields,
    created_fields,
    progress_fields,
    refused_fields,
)

RANGES_MAX = 1000  # of one watcher
FIRST_KEY = b"\0"  # what an empty key means here, as in etcd

EMPTY_RANGE = "mvcc: watcher range is empty"
DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"
COMPACTED = Compacted.text.removeprefix("etcdserver: ")
TOO_MANY_RANGES = f"chainfire: more than {RANGES_MAX} ranges in one watch"
INITIAL_IN_THE_PAST = "chainfire: send_initial begins now: start_revision must be 0"

_NO = {WatchCreateRequest.NOPUT: Flags.NO_PUT, WatchCreateRequest.NODELETE: Flags.NO_DELETE}


class Session:
    """Of one stream, from its begin on; owes a `close` when that ends."""

    def __init__(
        self, hub: Hub, outlet: Outlet, *, keyspace: int = 0, permit: Permit | None = None
    ) -> None:
        self._hub = hub
        self._outlet = outlet
        self._keyspace = keyspace
        self._stream = WatchStream(outlet, permit=permit)
        self._next_id = 0
        hub.open(self._stream)

    def close(self) -> None:
        """Nobody is told anything more."""
        self._hub.close(self._stream)

    def room_again(self) -> None:
        """The outlet has room after it had none."""
        self._hub.unblock(self._stream)

    def no_room(self) -> None:
        """The outlet has filled up by what a caster gave it."""
        self._hub.block(self._stream)

    def request(self, request: WatchRequest) -> None:
        """What the client says next. Answers go to the outlet; an empty message has none."""
        match request.WhichOneof("request_union"):
            case "create_request":
                self._create(request.create_request)
            case "cancel_request":
                self._cancel(request.cancel_request.watch_id)
            case "progress_request":
                if self._hub.is_live(self._stream):
                    self._answer(progress_fields())

    def _answer(self, fields: bytes) -> None:
        self._outlet.post(self._hub.header(self._hub.revision) + fields)

    # ── create ──────────────────────────────────────────────────────────────

    def _create(self, request: WatchCreateRequest) -> None:
        spans, reason = self._spans(request)
        if not reason:
            reason = self._refusal(request, spans)
        if reason:
            self._answer(refused_fields(reason))
            return
        hub = self._hub
        watch_id = request.watch_id or self._new_id()
        flags = _flags(request)
        watcher = hub.add(self._stream, watch_id, spans, flags, request.start_revision)
        self._answer(created_fields(watch_id))
        initial = None
        if request.send_initial:
            initial = hub.initial(spans, flags)
        hub.begin(watcher, initial)

    def _spans(self, request: WatchCreateRequest) -> tuple[tuple[Span, ...], str]:
        """What is watched, and why not."""
        if len(request.ranges) >= RANGES_MAX:
            return (), TOO_MANY_RANGES
        found: list[Span] = []
        first = WatchRange(key=request.key, range_end=request.range_end)
        for item in (first, *request.ranges):
            span = span_of(self._keyspace, item.key or FIRST_KEY, item.range_end)
            if span is None:
                return (), EMPTY_RANGE
            found.append(span)
        return united(found), ""

    def _refusal(self, request: WatchCreateRequest, spans: tuple[Span, ...]) -> str:
        """In etcd's order."""
        permit = self._stream.permit
        if permit is not None and (reason := permit(spans)):
            return reason
        if request.start_revision < 0:
            return COMPACTED
        if request.send_initial and request.start_revision:
            return INITIAL_IN_THE_PAST
        if request.watch_id and self._is_taken(request.watch_id):
            return DUPLICATE_ID
        return ""

    def _is_taken(self, watch_id: int) -> bool:
        stream = self._stream
        return watch_id in stream.watchers or watch_id in stream.ended

    def _new_id(self) -> int:
        """The next one counted up that nobody has chosen: none is given twice."""
        while self._is_taken(self._next_id):
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    # ── cancel ──────────────────────────────────────────────────────────────

    def _cancel(self, watch_id: int) -> None:
        if self._is_taken(watch_id):
            watcher = self._stream.watchers.get(watch_id)
            if watcher is not None:
                self._hub.cancel(watcher)
            self._stream.ended.discard(watch_id)
            self._answer(canceled_fields(watch_id))


def _flags(request: WatchCreateRequest) -> int:
    flags = 0
    for wanted, flag in (
        (request.prev_kv, Flags.PREV_KV),
        (request.keys_only, Flags.KEYS_ONLY),
        (request.reasons, Flags.REASONS),
        (request.fragment, Flags.FRAGMENT),
        (request.progress_notify, Flags.PROGRESS),
    ):
        if wanted:
            flags |= flag
    for unwanted in request.filters:
        flags |= _NO.get(unwanted, 0)
    return flags
