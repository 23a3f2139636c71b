"""The async client: what one asks a cluster for, over several endpoints.

What a request looks like is in calls.py and txn.py, when it may be repeated in
faults.py, the wire in transport.py; here they are put together.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self

from google.protobuf.message import DecodeError

from chainfire.client import calls, leasing, values
from chainfire.client.calls import Call, Consistency, Expectation, R_co
from chainfire.client.endpoints import DEFAULT, parse_endpoints
from chainfire.client.faults import Attempts, Failure, error_of
from chainfire.client.keys import Text, prefix_range
from chainfire.client.leasing import Lease, LeaseStatus
from chainfire.client.sessions import TTL_SECONDS, Session
from chainfire.client.tls import Tls
from chainfire.client.transport import Channel
from chainfire.client.txn import Op, Txn
from chainfire.client.values import (
    CasOutcome,
    DeleteOutcome,
    KeyValue,
    MemberStatus,
    Page,
    PutOutcome,
    TxnOutcome,
)
from chainfire.client.watching import Place, Watch
from chainfire.errors import Code, NobodyElected
from chainfire.proto import kv_pb2
from chainfire.proto.election_pb2 import LeaderResponse

TIMEOUT_SECONDS = 5.0
DIAL_TIMEOUT_SECONDS = 2.0
OBSERVE_PAUSE_SECONDS = 0.5


def connect(
    endpoints: str | Sequence[str] = DEFAULT,
    *,
    timeout: float = TIMEOUT_SECONDS,
    dial_timeout: float = DIAL_TIMEOUT_SECONDS,
    tls: Tls | None = None,
) -> Client:
    """A client to be used with `async with`. Connections are made when they are needed.

    `timeout` bounds a whole call, its repetitions included; `dial_timeout` one connection. `tls`
    is for https:// endpoints; without it they are held against the system's authorities.
    """
    return Client(parse_endpoints(endpoints), timeout=timeout, dial_timeout=dial_timeout, tls=tls)


class Client:
    """Keys and values are bytes; str is taken as UTF-8. Errors: errors.py and faults.py."""

    def __init__(
        self,
        endpoints: tuple[str, ...],
        *,
        timeout: float,
        dial_timeout: float,
        tls: Tls | None = None,
    ) -> None:
        self.endpoints = endpoints
        self._tls = tls
        self._timeout, self._dial_timeout = timeout, dial_timeout
        self._channels: dict[str, Channel] = {}
        self._preferred = 0  # the endpoint that answered last

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.aclose()

    # ── keys ────────────────────────────────────────────────────────────────

    async def put(
        self, key: Text, value: Text, *, lease: int = 0, previous: bool = False
    ) -> PutOutcome:
        request = calls.put_request(key, value, lease=lease, previous=previous)
        return values.put_of(await self.call(calls.put_call(request)))

    async def get(
        self,
        key: Text,
        *,
        revision: int = 0,
        consistency: Consistency = Consistency.LINEARIZABLE,
        min_revision: int = 0,
    ) -> KeyValue | None:
        """The key as it is, or as it was at `revision`; None if it does not exist."""
        request = calls.get_request(
            key, revision=revision, consistency=consistency, min_revision=min_revision
        )
        page = values.page_of(await self.call(calls.range_call(request)))
        return page.kvs[0] if page.kvs else None

    async def get_prefix(
        self,
        prefix: Text,
        *,
        limit: int = 0,
        revision: int = 0,
        consistency: Consistency = Consistency.LINEARIZABLE,
        min_revision: int = 0,
    ) -> Page:
        """All keys that start with the prefix, in one answer. `scan` does it in pages."""
        key, range_end = prefix_range(prefix)
        request = calls.get_request(
            key,
            range_end,
            limit=limit,
            revision=revision,
            consistency=consistency,
            min_revision=min_revision,
        )
        return values.page_of(await self.call(calls.range_call(request)))

    async def scan(
        self, prefix: Text, *, page_size: int = 500, revision: int = 0
    ) -> AsyncIterator[Page]:
        """All keys that start with the prefix, page by page, all of one revision.

        Raises Compacted where a compaction overtakes the revision; begin anew then.
        """
        request = calls.scan_request(prefix, page_size=page_size, revision=revision)
        more = True
        while more:
            reply = await self.call(calls.range_call(request))
            page = values.page_of(reply)
            if page.kvs:
                yield page
            more = page.more
            if more:
                calls.next_page(request, reply)

    async def delete(self, key: Text, *, previous: bool = False) -> DeleteOutcome:
        request = calls.delete_request(key, previous=previous)
        return values.delete_of(await self.call(calls.delete_call(request)))

    async def delete_prefix(self, prefix: Text, *, previous: bool = False) -> DeleteOutcome:
        key, range_end = prefix_range(prefix)
        request = calls.delete_request(key, range_end, previous=previous)
        return values.delete_of(await self.call(calls.delete_call(request)))

    async def cas(
        self,
        key: Text,
        value: Text,
        *,
        expect: KeyValue | None = None,
        expect_version: int | None = None,
        expect_revision: int | None = None,
        expect_value: Text | None = None,
        expect_absent: bool = False,
        lease: int = 0,
    ) -> CasOutcome:
        """Put, if the key is as expected; exactly one expectation is given."""
        expected = Expectation(
            kv=expect,
            version=expect_version,
            revision=expect_revision,
            value=expect_value,
            absent=expect_absent,
        )
        request = calls.cas_request(key, value, expected, lease=lease)
        return values.cas_of(await self.call(calls.txn_call(request)))

    async def txn(
        self,
        compare: Sequence[kv_pb2.Compare],
        success: Sequence[Op] = (),
        failure: Sequence[Op] = (),
    ) -> TxnOutcome:
        """If all comparisons hold, the operations of `success`, else those of `failure`."""
        request = Txn(compare, success, failure).message()
        return values.txn_of(await self.call(calls.txn_call(request)))

    # ── watches ─────────────────────────────────────────────────────────────

    def watch(
        self,
        key: Text,
        *,
        start_revision: int = 0,
        previous: bool = False,
        progress: bool = False,
    ) -> Watch:
        """What happens to the key from `start_revision` on, or from now on.

        `async with client.watch(key) as watch: async for changes in watch: …`
        A lost connection is replaced; nothing is lost or told twice. `previous`:
        with the pair before each change; `progress`: with word of progress, where
        nothing changes for long.
        """
        return self.watch_range(
            key, b"", start_revision=start_revision, previous=previous, progress=progress
        )

    def watch_prefix(
        self,
        prefix: Text,
        *,
        start_revision: int = 0,
        previous: bool = False,
        progress: bool = False,
    ) -> Watch:
        """As `watch`, for all keys that start with the prefix."""
        key, range_end = prefix_range(prefix)
        return self.watch_range(
            key, range_end, start_revision=start_revision, previous=previous, progress=progress
        )

    def watch_range(
        self,
        key: Text,
        range_end: bytes,
        *,
        start_revision: int = 0,
        previous: bool = False,
        progress: bool = False,
    ) -> Watch:
        """As `watch`, for the keys from this one up to and without `range_end` (keys.ALL: all)."""
        create = calls.watch_request(
            key, range_end, start_revision=start_revision, previous=previous, progress=progress
        )
        first = self._preferred

        def channel(attempt: int) -> Channel:
            return self._channel(self.endpoints[(first + attempt) % len(self.endpoints)])

        return Watch(Place(create), channel, self._dial_timeout)

    async def compact(self, revision: int, *, physical: bool = False) -> None:
        """Forget history before the revision; `physical` waits until its space is free."""
        await self.call(calls.compact_call(revision, physical=physical))

    # ── leases, locks, elections ────────────────────────────────────────────

    async def grant(self, ttl: float, *, lease: int = 0) -> Lease:
        """A lease of `ttl` seconds, with this id or one that the cluster chooses."""
        return leasing.lease_of(await self.call(leasing.grant_call(ttl, lease)))

    async def revoke(self, lease: int) -> None:
        """End a lease, and delete its keys. Raises LeaseNotFound."""
        await self.call(leasing.revoke_call(lease))

    async def keep_alive(self, lease: int) -> float:
        """Let the TTL begin anew, once; how many seconds it is, or 0: there is no such lease."""
        return leasing.kept_seconds(await self.call(leasing.keep_alive_call(lease)))

    async def lease_status(self, lease: int, *, keys: bool = False) -> LeaseStatus:
        """What is left of it; `keys`: with the keys that are attached to it."""
        reply = await self.call(leasing.status_call(lease, keys=keys))
        return leasing.lease_status_of(reply)

    async def leases(self) -> tuple[int, ...]:
        """The ids of all leases; those that end first come first."""
        reply = await self.call(leasing.leases_call())
        return tuple(status.ID for status in reply.leases)

    def session(self, ttl: float = TTL_SECONDS) -> Session:
        """A lease that is kept alive, for locks and elections: use `async with`."""
        return Session(self, ttl)

    async def leader(self, name: Text) -> KeyValue | None:
        """The key and value of who leads in an election; None if nobody does."""
        try:
            return leasing.leader_of(await self.call(leasing.leader_call(name)))
        except NobodyElected:
            return None

    async def observe(self, name: Text) -> AsyncGenerator[KeyValue, None]:
        """The key and value of each leader of an election, as they come, from the present one on.

        A lost connection is replaced; values that came and went meanwhile are not told.
        """
        told, attempt, request = 0, self._preferred, leasing.observe_request(name)
        while True:
            channel = self._channel(self.endpoints[attempt % len(self.endpoints)])
            try:
                stream = channel.stream(leasing.OBSERVE, request, self._dial_timeout)
                async with aclosing(stream):
                    async for body in stream:
                        leader = leasing.leader_of(LeaderResponse.FromString(body))
                        if leader.mod_revision > told:
                            told = leader.mod_revision
                            yield leader
            except Failure as failure:
                if failure.code is not Code.UNAVAILABLE:
                    raise error_of(failure, is_read=True) from failure
            attempt += 1
            await asyncio.sleep(OBSERVE_PAUSE_SECONDS * (0.5 + random.random()))

    # ── members ─────────────────────────────────────────────────────────────

    async def status(self, endpoint: str = "") -> MemberStatus:
        """The status of the member behind the endpoint; without one, of any that answers."""
        if endpoint:
            reply = await self.call_at(endpoint, calls.status_call())
        else:
            reply = await self.call(calls.status_call())
        return values.status_of(endpoint or self.endpoints[self._preferred], reply)

    # ── the course of a call ────────────────────────────────────────────────

    async def call(self, call: Call[R_co], *, within: float | None = None) -> R_co:
        """Send a request, repeated on other endpoints as far as that is safe.

        `within`: seconds, instead of the client's timeout.
        """
        request = call.request.SerializeToString()
        deadline = time.monotonic() + (self._timeout if within is None else within)
        attempts = Attempts(len(self.endpoints), self._preferred, is_read=call.is_read)
        while True:
            try:
                channel = self._channel(self.endpoints[attempts.endpoint])
                reply = await channel.unary(call.path, request, deadline, self._dial_timeout)
            except Failure as failure:
                pause = attempts.failed(failure, random.random())
                if pause is None or time.monotonic() + pause >= deadline:
                    raise error_of(failure, is_read=call.is_read) from failure
                await asyncio.sleep(pause)
            else:
                self._preferred = attempts.endpoint
                return _decode(call, reply)

    async def call_at(self, endpoint: str, call: Call[R_co]) -> R_co:
        """Send a request to this endpoint, once."""
        channel = self._channel(endpoint)
        request = call.request.SerializeToString()
        deadline = time.monotonic() + self._timeout
        try:
            reply = await channel.unary(call.path, request, deadline, self._dial_timeout)
        except Failure as failure:
            raise error_of(failure, is_read=call.is_read) from failure
        return _decode(call, reply)

    async def stream_at(self, endpoint: str, call: Call[R_co]) -> AsyncIterator[R_co]:
        """Send a request to this endpoint, once; its replies as they come, without a deadline."""
        channel = self._channel(endpoint)
        request = call.request.SerializeToString()
        try:
            async for reply in channel.stream(call.path, request, self._dial_timeout):
                yield _decode(call, reply)
        except Failure as failure:
            raise error_of(failure, is_read=call.is_read) from failure

    def _channel(self, endpoint: str) -> Channel:
        channel = self._channels.get(endpoint)
        if channel is None:
            channel = self._channels[endpoint] = Channel(endpoint, self._tls)
        return channel


def _decode(call: Call[R_co], reply: bytes) -> R_co:
    try:
        return call.reply.FromString(reply)
    except DecodeError as exc:
        failure = Failure(Code.INTERNAL, f"{call.path}: not a reply: {exc}", sent=True)
        raise error_of(failure, is_read=call.is_read) from exc
