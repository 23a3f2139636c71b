"""What clients did and saw, as plain data: the record that every checker judges.

Rules of this file: no protobuf, no behaviour. Times are integers of any one
clock that all clients share. A response of None means that the outcome is
unknown: the request was carried out once, at any time after its call, or never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

NEVER: Final = 1 << 62  # when an unknown outcome returned


class Violation(AssertionError):
    """A promise was broken. The text says which, and what was seen."""


class Kv(NamedTuple):
    """One version of a key."""

    key: bytes
    value: bytes
    create: int
    mod: int
    version: int
    lease: int = 0


# ── requests ────────────────────────────────────────────────────────────────


class Level(IntEnum):
    LINEARIZABLE = 0
    SERIALIZABLE = 1
    LOCAL = 2


class Put(NamedTuple):
    """`value` is written by no other request of the history: it tells who wrote it."""

    key: bytes
    value: bytes
    lease: int = 0
    want_prev: bool = False


class Delete(NamedTuple):
    key: bytes
    end: bytes = b""  # exclusive; empty: the one key
    want_prev: bool = False


class Range(NamedTuple):
    key: bytes
    end: bytes = b""
    revision: int = 0
    limit: int = 0
    level: int = Level.LINEARIZABLE
    min_revision: int = 0


class Compare(NamedTuple):
    key: bytes
    target: str  # "mod", "create", "version", "value"
    sign: str  # "=", "!", ">", "<"
    operand: int | bytes


class Txn(NamedTuple):
    compares: tuple[Compare, ...]
    success: tuple[Put | Delete | Range, ...]
    failure: tuple[Put | Delete | Range, ...] = ()


class Compact(NamedTuple):
    revision: int


Request = Put | Delete | Range | Txn | Compact


# ── responses ───────────────────────────────────────────────────────────────


class PutDone(NamedTuple):
    revision: int
    prev: Kv | None = None


class DeleteDone(NamedTuple):
    revision: int
    deleted: int
    prevs: tuple[Kv, ...] = ()


class RangeDone(NamedTuple):
    revision: int  # the header's: the newest when it was read
    rows: tuple[Kv, ...]
    more: bool
    total: int


class TxnDone(NamedTuple):
    revision: int
    succeeded: bool
    results: tuple[PutDone | DeleteDone | RangeDone, ...]


class CompactDone(NamedTuple):
    revision: int  # the header's


class Refused(NamedTuple):
    """The request has left no trace and never will; `why` is the error's class."""

    why: str


Response = PutDone | DeleteDone | RangeDone | TxnDone | CompactDone | Refused


@dataclass(slots=True, eq=False)
class Operation:
    client: int
    member: int
    session: int  # answers of one session never go back in revisions, at whatever level
    call: int
    request: Request
    ret: int = NEVER
    response: Response | None = None


# ── what really happened ────────────────────────────────────────────────────


class Change(NamedTuple):
    kv: Kv  # of a delete: key and mod only
    deleted: bool = False


class Revision(NamedTuple):
    """All changes of one main revision, in order."""

    main: int
    changes: tuple[Change, ...]
    by_lease: bool = False  # the end of a lease made them


# ── watches ─────────────────────────────────────────────────────────────────


class Event(NamedTuple):
    kv: Kv
    deleted: bool = False
    prev: Kv | None = None


class WatchResponse(NamedTuple):
    at: int
    revision: int  # the header's
    events: tuple[Event, ...] = ()
    compacted: int = 0  # cancelled: what was asked for is compacted to here

    @property
    def is_progress(self) -> bool:
        return not self.events and not self.compacted


@dataclass(slots=True, eq=False)
class Watch:
    client: int
    member: int
    key: bytes
    end: bytes  # exclusive; empty: the one key
    start: int  # revision asked for; 0: from the moment of creation on
    created: int = 0  # the header's revision in the answer to the creation
    no_puts: bool = False
    no_deletes: bool = False
    want_prev: bool = False
    responses: list[WatchResponse] = field(default_factory=list)


# ── leases ──────────────────────────────────────────────────────────────────


@dataclass(slots=True, eq=False)
class LeaseCall:
    """A grant or a renewal (`ttl` > 0, granted by the answer), or a revoke (`ttl` = 0)."""

    lease: int
    call: int
    ret: int = NEVER
    ttl: int = 0  # in the unit of the times; 0: revoked by a client
    ok: bool | None = None  # None: unknown; False: the lease was not there
    renews: bool = False


@dataclass(slots=True)
class History:
    operations: list[Operation] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)
    leases: list[LeaseCall] = field(default_factory=list)


def covers(key: bytes, end: bytes, other: bytes) -> bool:
    """Whether `other` is in [key, end), or is the one key. An end of one zero byte has no bound."""
    if not end:
        return other == key
    return key <= other and (end == b"\0" or other < end)


def writes(request: Request) -> Sequence[Put | Delete]:
    """The writes that the request may carry out, on whichever branch."""
    if isinstance(request, Put | Delete):
        return (request,)
    if isinstance(request, Txn):
        both = (*request.success, *request.failure)
        return [op for op in both if isinstance(op, Put | Delete)]
    return ()
