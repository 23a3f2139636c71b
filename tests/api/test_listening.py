"""Waiting for keys inside the member."""

from __future__ import annotations

import asyncio

import pytest

from chainfire.api.listening import EVENTS_MAX, Listening, until_deleted
from chainfire.errors import Compacted, TooManyRequests
from chainfire.proto.kv_pb2 import CompactionRequest, DeleteRangeRequest, PutRequest
from tests.api.fake_node import Api


def put(api: Api, key: bytes) -> None:
    api.do("KV.Put", PutRequest(key=key))


def test_a_key_that_is_gone_is_not_waited_for_and_one_that_goes_wakes() -> None:
    async def scene() -> None:
        api = Api()
        assert await until_deleted(api.services, b"k") == 1
        put(api, b"k")
        waiting = asyncio.ensure_future(until_deleted(api.services, b"k"))
        await asyncio.sleep(0)
        put(api, b"k")
        await asyncio.sleep(0)
        assert not waiting.done()
        api.do("KV.DeleteRange", DeleteRangeRequest(key=b"k"))
        assert await waiting == 4
        assert api.services.watches.statistics().streams == 0

    asyncio.run(scene())


def test_a_cancelled_waiter_leaves_nothing_behind() -> None:
    async def scene() -> None:
        api = Api()
        put(api, b"k")
        waiting = asyncio.ensure_future(until_deleted(api.services, b"k"))
        await asyncio.sleep(0)
        assert api.services.watches.statistics().watchers == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert api.services.watches.statistics().watchers == 0

    asyncio.run(scene())


def test_what_happened_since_a_revision_is_heard_in_order_then_what_happens() -> None:
    async def scene() -> None:
        api = Api()
        for key in (b"a", b"b", b"c"):
            put(api, key)
        with Listening(api.services, b"a", b"c", start_revision=2) as listening:
            assert [event.main for event in await listening.next()] == [2, 3]
            put(api, b"b")
            put(api, b"z")
            assert [event.main for event in await listening.next()] == [5]

    asyncio.run(scene())


def test_a_compacted_start_and_a_listener_that_does_not_listen_are_told() -> None:
    async def scene() -> None:
        api = Api()
        put(api, b"a")
        put(api, b"a")
        api.do("KV.Compact", CompactionRequest(revision=3))
        with (
            Listening(api.services, b"a", start_revision=2) as listening,
            pytest.raises(Compacted),
        ):
            await listening.next()
        with Listening(api.services, b"a") as listening:
            events = listening._events
            put(api, b"a")
            listening.heard(events * (EVENTS_MAX + 1))
            put(api, b"a")
            assert len(listening._events) == EVENTS_MAX + 2
            with pytest.raises(TooManyRequests):
                await listening.next()

    asyncio.run(scene())
