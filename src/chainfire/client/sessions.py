"""A lease that is kept alive, and what hangs on it: locks and elections.

    async with client.session(ttl=10) as session:
        async with session.lock("backup") as held:
            ...                                     # held.revision is the fencing token
        async with session.elect("board", "me") as leadership:
            await leadership.proclaim("still me")

A session is lost when its lease is gone or could not be renewed in time. Who
holds a lock then does so no longer, whatever the code in between believes: look
at `session.is_lost`, or let what is guarded check the token.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from chainfire.client import leasing
from chainfire.client.calls import Call, R_co
from chainfire.client.faults import ClientError
from chainfire.client.keys import Text
from chainfire.client.leasing import Held
from chainfire.errors import ChainfireError, LeaseNotFound, SessionExpired
from chainfire.proto import election_pb2

TTL_SECONDS = 60.0
RENEWALS_PER_TTL = 3  # as etcd's client
WAIT_SECONDS_MAX = 30 * 24 * 3600.0  # of one request for a lock; gRPC wants a number


class Caller(Protocol):
    """What a session needs of a client."""

    async def call(self, call: Call[R_co], *, within: float | None = None) -> R_co: ...


class Session:
    """Use `async with`: it grants a lease, keeps it alive, and revokes it in the end."""

    def __init__(self, client: Caller, ttl_seconds: float) -> None:
        self._client = client
        self._asked_seconds = ttl_seconds
        self._ttl_seconds = 0.0
        self._keeping: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self.lease = 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def open(self) -> None:
        assert self._keeping is None, "opened twice"
        call = leasing.grant_call(self._asked_seconds, 0)
        asked_at = asyncio.get_running_loop().time()
        granted = leasing.lease_of(await self._client.call(call))
        self.lease, self._ttl_seconds = granted.id, granted.ttl_seconds
        self._keeping = asyncio.create_task(self._keep(asked_at + granted.ttl_seconds))

    async def aclose(self) -> None:
        """Revoke the lease, and with it all keys of the session. A second call does nothing."""
        keeping, self._keeping = self._keeping, None
        if keeping is None:
            return
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        was_lost = self.is_lost
        self._lost.set()
        if not was_lost:
            with suppress(LeaseNotFound, ClientError):  # it ends by itself, then
                await self._client.call(leasing.revoke_call(self.lease))

    @property
    def is_lost(self) -> bool:
        """Whether the lease is gone, or must be feared to be."""
        return self._lost.is_set()

    async def until_lost(self) -> None:
        await self._lost.wait()

    def lock(self, name: Text) -> Lock:
        """`async with`: from the moment in which it is had."""
        return Lock(self, self._client, name)

    def elect(self, name: Text, value: Text = b"") -> Leadership:
        """`async with`: from the election on, until it is resigned."""
        return Leadership(self, self._client, name, value)

    async def hold(self, call: Call[R_co]) -> R_co:
        """A call that may wait for long, as long as the session lives. Raises SessionExpired."""
        if self.is_lost:
            raise SessionExpired
        waiting = asyncio.ensure_future(self._client.call(call, within=WAIT_SECONDS_MAX))
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait((waiting, lost), return_when=asyncio.FIRST_COMPLETED)
            if self.is_lost:
                raise SessionExpired
            return waiting.result()
        finally:
            for task in (waiting, lost):
                task.cancel()
            await asyncio.gather(waiting, lost, return_exceptions=True)

    async def _keep(self, until: float) -> None:
        """Renew, until a renewal says that the lease is gone, or none has come in time.

        `until`: counted from before the request, since the lease may have begun then.
        """
        now = asyncio.get_running_loop().time
        pause = self._ttl_seconds / RENEWALS_PER_TTL
        try:
            while True:
                await asyncio.sleep(min(pause, max(0.0, until - now())))
                asked_at = now()
                if asked_at >= until:
                    return
                try:
                    call = leasing.keep_alive_call(self.lease)
                    reply = await self._client.call(call, within=until - asked_at)
                except ChainfireError:
                    pause = self._ttl_seconds / RENEWALS_PER_TTL / 4  # sooner than usual
                    continue
                kept = leasing.kept_seconds(reply)
                if not kept:
                    return
                until, pause = asked_at + kept, kept / RENEWALS_PER_TTL
        finally:
            if self._keeping is not None:  # not closed: lost
                self._lost.set()


class Lock:
    """One hold of a lock. The same session has it once."""

    def __init__(self, session: Session, client: Caller, name: Text) -> None:
        self._session = session
        self._client = client
        self._name = name
        self._held: Held | None = None

    async def __aenter__(self) -> Held:
        return await self.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.release()

    async def acquire(self) -> Held:
        """Wait until it is had. Raises SessionExpired; who is cancelled leaves no key behind."""
        session = self._session
        reply = await session.hold(leasing.lock_call(self._name, session.lease))
        # etcd tells no creation; there the header is the nearest thing.
        self._held = Held(reply.key, reply.revision or reply.header.revision, session.lease)
        return self._held

    async def release(self) -> None:
        """A second call does nothing."""
        held, self._held = self._held, None
        if held is not None:
            await self._client.call(leasing.unlock_call(held.key))


class Leadership:
    """One candidacy in an election, and the office once it is won."""

    def __init__(self, session: Session, client: Caller, name: Text, value: Text) -> None:
        self._session = session
        self._client = client
        self._name = name
        self._value = value
        self._leader: election_pb2.LeaderKey | None = None

    async def __aenter__(self) -> Self:
        await self.campaign()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.resign()

    async def campaign(self) -> Held:
        """Wait until elected. Raises SessionExpired; who is cancelled leaves no key behind."""
        session = self._session
        call = leasing.campaign_call(self._name, session.lease, self._value)
        self._leader = (await session.hold(call)).leader
        return self.held

    @property
    def held(self) -> Held:
        assert self._leader is not None, "not elected"
        return Held(self._leader.key, self._leader.rev, self._leader.lease)

    async def proclaim(self, value: Text) -> None:
        """Change the value that the leader stands for. Raises NotElected when it does not lead."""
        assert self._leader is not None, "not elected"
        await self._client.call(leasing.proclaim_call(self._leader, value))

    async def resign(self) -> None:
        """A second call does nothing."""
        leader, self._leader = self._leader, None
        if leader is not None:
            await self._client.call(leasing.resign_call(leader))
