"""Keys that stand in line: what the Lock and Election services have in common.

A line is all keys under a name and "/", in the order of their creation; the
first one has what the line is for. A claim's key is called after its lease, as
those of etcd's client recipes are, so that both kinds stand in one line.

A claim waits for the key right before its own, and for its own: who has lost
its key or lease while it waited is never told that it has won (etcd#11456).
Before anybody who waited is told so, its key is looked for once more, by a
linearizable read. A claim that is given up leaves no key that is surely its own.

A session may ask again, through another member, while an earlier call of its waits at one that is
cut off, and is given up there, or heard of, much later. So who finds its key there writes it once
more before it is told that it has won, and who gives up removes only what is as it was left here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from chainfire.api import space
from chainfire.api.awaiting import propose_growth, steps
from chainfire.api.lease import new_id
from chainfire.api.listening import until_deleted
from chainfire.api.reads import wait_until
from chainfire.api.services import NodeFace, Services
from chainfire.command import CommandKind
from chainfire.errors import Compacted, RequestError, RequestTooLarge, SessionExpired
from chainfire.mvcc import rows
from chainfire.mvcc.read import range_steps
from chainfire.proto.command_pb2 import LeaseGrant
from chainfire.proto.kv_pb2 import (
    LINEARIZABLE,
    LOCAL,
    Compare,
    DeleteRangeRequest,
    KeyValue,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from chainfire.proto.lease_pb2 import LeaseRevokeRequest
from chainfire.types import Nobody, RangeResult, Result, TxnResult

_KEYSPACE: Final = 0
LEASE_TTL_MS: Final = 60_000  # of leases that are granted for a call that names none; as etcd
_TXN: Final = int(CommandKind.TXN)
_GRANT: Final = int(CommandKind.LEASE_GRANT)
_REVOKE: Final = int(CommandKind.LEASE_REVOKE)


def line_of(name: bytes) -> tuple[bytes, bytes]:
    """Key and range end of all claims to the name."""
    return name + b"/", name + b"0"


def key_of(name: bytes, lease: int) -> bytes:
    return b"%s/%s" % (name, format(lease, "x").encode())


@dataclass(slots=True, frozen=True)
class Claim:
    """What has come to the head of its line."""

    key: bytes
    create_revision: int  # higher than of all that had it before: the fencing token
    revision: int  # the store's, when it was known to be first


@asynccontextmanager
async def lease_for(services: Services, lease: int) -> AsyncIterator[int]:
    """The lease, or a new one for a call that names none; that one goes if the call fails."""
    if lease:
        yield lease
        return
    node, lease = services.node, new_id()
    body = LeaseGrant(id=lease, ttl_ms=LEASE_TTL_MS).SerializeToString()
    try:
        await propose_growth(node, _GRANT, body)
    except asyncio.CancelledError:
        _revoke(node, lease)  # it comes behind the grant
        raise
    try:
        yield lease
    except BaseException:
        _revoke(node, lease)
        raise


def _revoke(node: NodeFace, lease: int) -> None:
    node.propose(_REVOKE, LeaseRevokeRequest(ID=lease).SerializeToString(), Nobody())


async def claim(
    services: Services, name: bytes, lease: int, value: bytes | None, deadline: float | None
) -> Claim:
    """Stand in line until the key is the first one. Without a value, one that is there stays.

    Raises SessionExpired, LeaseNotFound, and what commands and reads are
    refused with. When it raises, or is cancelled, its key is removed, unless
    it was there before, or may have been, or another call stands there, too.
    """
    entry = _Entry(services, name, key_of(name, lease), lease, value or b"")
    try:
        entered = await entry.result
        assert isinstance(entered, TxnResult)
        created = revision = entered.revision
        is_written = entered.succeeded
        if not is_written:
            mine = _kv_of(entered.results[0])
            assert mine is not None
            created = mine.create_revision
            if value not in (None, mine.value):
                put = PutRequest(key=entry.key, value=value or b"", lease=lease)
                await entry.write(put, created)
                is_written = True
        if not _was_alone(entered):
            revision = await _first(services, name, entry.key, created, deadline)
        if not is_written:
            put = PutRequest(key=entry.key, ignore_value=True, ignore_lease=True)
            revision = await entry.write(put, created)
    except BaseException:
        entry.withdraw()
        raise
    entry.won()
    return Claim(entry.key, created, revision)


def proclamation(key: bytes, created: int, value: bytes, lease: int) -> bytes:
    """A transaction that gives the claim another value, if it is still the one of `created`.

    Lease 0: the one that it has.
    """
    put = PutRequest(key=key, value=value, lease=lease, ignore_lease=not lease)
    return if_created(key, created, RequestOp(request_put=put))


def delete(key: bytes) -> RequestOp:
    return RequestOp(request_delete_range=DeleteRangeRequest(key=key))


def if_created(key: bytes, created: int, op: RequestOp) -> bytes:
    """A TxnRequest that does something to the claim, if it is still the one of `created`."""
    is_it = Compare(key=key, target=Compare.CREATE, create_revision=created)
    return TxnRequest(compare=[is_it], success=[op]).SerializeToString()


async def _first(
    services: Services, name: bytes, key: bytes, created: int, deadline: float | None
) -> int:
    """Wait until no older key is left; the revision at which that was sure."""
    while True:
        ahead = await _right_before(services, name, created)
        if ahead is None:
            break
        with suppress(Compacted):  # this member was far behind: look again
            await until_deleted(services, ahead, key)
        _ensure_there(services.node, key, created)
    await wait_until(services.node, LINEARIZABLE, deadline=deadline)
    _ensure_there(services.node, key, created)
    return services.node.store.revision


async def _right_before(services: Services, name: bytes, created: int) -> bytes | None:
    """The youngest key of the line that is older; None if ours is the oldest.

    One after the other: the first one walks along the line, and the others know (mvcc.lines). A
    thousand that come together, with a few milliseconds each, would keep all else waiting.
    """
    key, range_end = line_of(name)
    request = RangeRequest(
        key=key,
        range_end=range_end,
        sort_target=RangeRequest.CREATE,
        sort_order=RangeRequest.DESCEND,
        max_create_revision=created - 1,
        limit=1,
        keys_only=True,
    )
    async with services.line_walk:
        await wait_until(services.node, LOCAL)
        store = services.node.store
        found = await steps(services.node, range_steps(store.view, store, _KEYSPACE, request))
    return KeyValue.FromString(found.rows[0]).key if found.rows else None


def _ensure_there(node: NodeFace, key: bytes, created: int) -> None:
    row = node.store.get_row(_KEYSPACE, key)
    if row is None or rows.decode(row).create_revision != created:
        raise SessionExpired


def _was_alone(entered: TxnResult) -> bool:
    """Whether nobody stood in line before."""
    first = entered.results[0]
    return isinstance(first, TxnResult) and first.succeeded


def _kv_of(result: object) -> KeyValue | None:
    assert isinstance(result, RangeResult), result
    return KeyValue.FromString(result.rows[0]) if result.rows else None


class _Entry:
    """The key on its way into the line; the Pending of its transaction."""

    def __init__(
        self, services: Services, name: bytes, key: bytes, lease: int, value: bytes
    ) -> None:
        """Raises RequestTooLarge."""
        self.key = key
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._node = services.node
        self._places = services.places
        line, range_end = line_of(name)
        # Nobody has a key that was created at 0: the first that is found says no. A walk to the
        # oldest one would be made where the transaction is applied, by every member.
        nobody = Compare(key=line, range_end=range_end, target=Compare.CREATE, create_revision=0)
        was_empty = RequestOp(request_txn=TxnRequest(compare=[nobody]))
        put = RequestOp(request_put=PutRequest(key=key, value=value, lease=lease))
        request = TxnRequest(
            compare=[Compare(key=key, target=Compare.CREATE, create_revision=0)],
            success=[was_empty, put],
            failure=[RequestOp(request_range=RangeRequest(key=key))],
        )
        body = request.SerializeToString()
        if len(body) > services.limits.max_request_bytes:
            raise RequestTooLarge
        self._places.enter(key)
        space.propose_growth(self._node, _TXN, body, self)

    @property
    def finished(self) -> bool:
        return False  # it is withdrawn only once it is known what became of it

    def done(self, result: Result) -> None:
        assert isinstance(result, TxnResult)
        if result.succeeded:  # else it was there before
            self._places.made(self.key, result.revision)
        if self.result.cancelled():  # withdrawn before it was known
            self._leave()
        else:
            self.result.set_result(result)

    def refused(self, error: RequestError) -> None:
        if self.result.cancelled():
            self._leave()
        else:
            self.result.set_exception(error)

    async def write(self, put: PutRequest, created: int) -> int:
        """Write the key once more, if it is still that one; the revision. Raises SessionExpired."""
        body = if_created(self.key, created, RequestOp(request_put=put))
        result = await propose_growth(self._node, _TXN, body)
        assert isinstance(result, TxnResult)
        if not result.succeeded:
            raise SessionExpired
        self._places.written(self.key, result.revision)
        return result.revision

    def won(self) -> None:
        self._places.won(self.key)
        self._places.leave(self.key)

    def withdraw(self) -> None:
        """Remove the key, now or when it is known that it was put.

        Where that stays unknown, the key stays, until its lease ends: it may be of an earlier
        call of the same session, made through another member, and that one may hold it.
        """
        if not self.result.done():
            self.result.cancel()
        elif not self.result.cancelled():
            self._leave()

    def _leave(self) -> None:
        written = self._places.leave(self.key)
        if written:
            as_left = Compare(key=self.key, target=Compare.MOD, mod_revision=written)
            request = TxnRequest(compare=[as_left], success=[delete(self.key)])
            self._node.propose(_TXN, request.SerializeToString(), Nobody())  # as the lease's end
