"""Clients that hold leases with keys under faults: granted, kept for a while, revoked or let go."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import grpc

from chainfire.proto import lease_pb2 as pb
from chainfire.sim.history import NEVER, LeaseCall, Put, PutDone
from tests.cluster.judging import LEASE_KEYS, NS

if TYPE_CHECKING:
    from tests.cluster.scene import Scene

SERVICE = "/etcdserverpb.Lease/"
ASK_SECONDS = 2.0
NOT_FOUND = "etcdserver: requested lease not found"


class Lessee:
    """One lease after the other."""

    def __init__(self, scene: Scene, number: int) -> None:
        self._scene = scene
        self._number = number
        self._dice = random.Random(1000 + number)
        self._granted = 0

    async def run(self) -> None:
        while not self._scene.is_ending:
            self._granted += 1
            await self._hold((self._number + 1) << 32 | self._granted)
            await asyncio.sleep(0.01)

    async def _hold(self, lease: int) -> None:
        dice, ttl = self._dice, self._dice.choice((2, 2, 3, 4))
        call = self._note(lease, ttl)
        request = pb.LeaseGrantRequest(ID=lease, TTL=ttl)
        await self._answered(call, "LeaseGrant", request, pb.LeaseGrantResponse)
        for number in range(dice.randint(1, 3)):
            await self._put(lease, number)
        for _ in range(dice.choice((0, 0, 1, 3))):
            await asyncio.sleep(ttl * dice.uniform(0.1, 0.6))
            await self._keep_alive(lease, ttl)
            if dice.random() < 0.3:
                await self._put(lease, 0)
        if dice.random() < 0.2:
            call = self._note(lease, 0)
            revoke = pb.LeaseRevokeRequest(ID=lease)
            await self._answered(call, "LeaseRevoke", revoke, pb.LeaseRevokeResponse)

    def _note(self, lease: int, ttl: int, *, renews: bool = False) -> LeaseCall:
        call = LeaseCall(lease, time.monotonic_ns(), ttl=ttl * NS, renews=renews)
        self._scene.record.lease_calls.append(call)
        return call

    async def _answered(self, call: LeaseCall, method: str, request: Any, reply: Any) -> None:
        channel = self._scene.any_channel(self._dice)
        ask = channel.unary_unary(SERVICE + method)
        try:
            answer = reply.FromString(await ask(request.SerializeToString(), timeout=ASK_SECONDS))
        except grpc.aio.AioRpcError as error:
            if error.details() == NOT_FOUND:
                call.ok = False
            return
        call.ret, call.ok = time.monotonic_ns(), True
        if call.ttl:
            call.ttl = answer.TTL * NS
        self._scene.acknowledged()

    async def _put(self, lease: int, number: int) -> None:
        key = b"%s%x/%d" % (LEASE_KEYS, lease, number)
        put = Put(key, self._scene.value(), lease)
        answer = await self._scene.carry_out(self._number + 100, put, self._dice)
        if isinstance(answer, PutDone):
            self._scene.acknowledged()

    async def _keep_alive(self, lease: int, ttl: int) -> None:
        """On a stream of its own."""
        call = self._note(lease, ttl, renews=True)
        stream = self._scene.any_channel(self._dice).stream_stream(SERVICE + "LeaseKeepAlive")(
            timeout=ASK_SECONDS, metadata=(("hasleader", "true"),)
        )
        try:
            await stream.write(pb.LeaseKeepAliveRequest(ID=lease).SerializeToString())
            body = await stream.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return
        finally:
            stream.cancel()
        if body is grpc.aio.EOF:
            return
        answer = pb.LeaseKeepAliveResponse.FromString(body)
        call.ok = answer.TTL > 0
        call.ret = time.monotonic_ns() if call.ok else NEVER
        if call.ok:
            call.ttl = answer.TTL * NS
