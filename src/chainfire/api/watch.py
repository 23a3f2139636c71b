"""The Watch service: a session per stream over the member's hub (chainfire.watch).

The handler reads requests; what is told leaves through the stream's outlet
without a task of its own. A client that has half-closed is told on, as in etcd.
"""

from __future__ import annotations

import asyncio

from chainfire.api.call import Stream
from chainfire.api.maintenance import decode
from chainfire.api.reads import wait_until
from chainfire.api.services import Services
from chainfire.proto.kv_pb2 import SERIALIZABLE
from chainfire.proto.watch_pb2 import WatchRequest
from chainfire.watch.session import Session


async def watch(services: Services, stream: Stream) -> None:
    """Until the client or the member goes."""
    session = Session(services.watches, stream)
    stream.tell(session)
    services.rounds.begin()
    try:
        async for body in stream:
            # A put may be answered before it is applied: to who made it, "now" is behind it.
            await wait_until(services.node, SERIALIZABLE)
            session.request(decode(WatchRequest, body))
            if stream.room <= 0:  # answers count: nobody may ask for more than he reads
                await stream.has_room()
        await asyncio.get_running_loop().create_future()
    finally:
        services.rounds.end()
        session.close()
