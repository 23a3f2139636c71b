"""Serves an ASGI application by uvicorn, on sockets of ours, inside our loop, without signals.

The native door needs none of this: it brings HTTP to the application itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence

import uvicorn

from chainfire.gateway.asgi import Application
from chainfire.gateway.http_connection import HEAD_BYTES_MAX, IDLE_SECONDS_MAX, HttpConnection
from chainfire.gateway.listen import addresses, bind
from chainfire.gateway.tls import Certificates


class HttpServer:
    """Serves an application on every URL of `listen`. Create on the loop, `start`, `aclose`.

    With certificates all of its URLs are https://, without none is.
    """

    def __init__(
        self,
        application: Application,
        listen: Sequence[str],
        certificates: Certificates | None = None,
    ) -> None:
        """Raises ConfigError."""
        self._addresses = addresses(listen, certificates)
        self._certificates = certificates
        self._application = application
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None
        self.ports: list[int] = []  # as bound, in the order of `listen`; a socket's is 0

    async def start(self) -> None:
        """Return when requests are taken. Raises ConfigError naming the URL that cannot be had."""
        with contextlib.ExitStack() as opened_so_far:
            sockets = [opened_so_far.enter_context(bind(each)) for each in self._addresses]
            opened_so_far.pop_all()  # uvicorn closes them
        self.ports = [
            0 if opened.family == socket.AF_UNIX else opened.getsockname()[1] for opened in sockets
        ]
        config = uvicorn.Config(
            self._application,
            http=HttpConnection,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
            timeout_keep_alive=IDLE_SECONDS_MAX,
            ws="auto",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        if self._certificates is not None:
            config.load()  # it would overwrite what follows
            config.ssl = self._certificates.server_context()
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve(sockets), name="http")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait((ready, self._task), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task

    async def aclose(self) -> None:
        """Finish what is being answered, then stop. Idempotent."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._server = self._task = None


class _Uvicorn(uvicorn.Server):
    """uvicorn inside a program of ours: it says when it serves and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
