"""The Watch handler without a door."""

from __future__ import annotations

import asyncio

from chainfire.api.watch import watch
from chainfire.proto.kv_pb2 import PutRequest
from chainfire.proto.watch_pb2 import WatchCreateRequest, WatchRequest, WatchResponse
from tests.api.fake_node import Api
from tests.api.streams import ProbeStream


def test_a_watch_that_begins_now_is_not_told_of_what_was_answered_before() -> None:
    async def scene() -> None:
        api = Api()
        api.node.held = True  # the put is answered to its caller, and not applied yet
        api.start("/etcdserverpb.KV/Put", PutRequest(key=b"k"))
        request = WatchRequest(create_request=WatchCreateRequest(key=b"k"))
        stream = ProbeStream([request.SerializeToString()])
        watching = asyncio.ensure_future(watch(api.services, stream))
        await asyncio.sleep(0)
        assert not stream.sent
        api.node.release()
        for _ in range(3):
            await asyncio.sleep(0)
        watching.cancel()
        (created,) = (WatchResponse.FromString(body) for body in stream.sent)
        assert created.created and created.header.revision == 2

    asyncio.run(scene())
