"""A stream's handler, once its metadata has let it in; never compiled (ARCHITECTURE.md)."""

from __future__ import annotations

from chainfire.api.admission import admitted
from chainfire.api.call import Stream
from chainfire.api.services import Services
from chainfire.api.table import StreamHandler


async def serve(services: Services, handler: StreamHandler, stream: Stream) -> None:
    async with admitted(services, stream.metadata):
        await handler(services, stream)
