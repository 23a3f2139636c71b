"""The only module of the client that knows gRPC: one channel to one endpoint.

Every failure leaves as a `Failure` that says whether the server can have seen
the request. It cannot, as long as no connection stood: that is looked at first,
with a deadline of its own, so that a silent host does not use up the call's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
from grpc.aio import EOF  # type: ignore[attr-defined]

from chainfire.client.endpoints import target, uses_tls
from chainfire.client.faults import Failure
from chainfire.client.tls import Tls
from chainfire.errors import Code

Write = Callable[[bytes], Awaitable[None]]

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 10_000),  # above the 5 s that etcd's servers tolerate
    ("grpc.keepalive_timeout_ms", 6_000),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)
# gRPC says this, and only this, of calls that never found a connection (client_channel.cc).
_NEVER_SENT = ("failed to connect to all addresses", "DNS resolution failed", "no address")
_SERVERS_WORDS = ("etcdserver: ", "mutex: ", "election: ")  # texts that name a class of errors
_SETTLED = (
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)


class Channel:
    def __init__(self, endpoint: str, tls: Tls | None = None) -> None:
        self.endpoint = endpoint
        if uses_tls(endpoint, has_tls=tls is not None):
            credentials = _credentials(tls or Tls())
            self._channel = grpc.aio.secure_channel(target(endpoint), credentials, _OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(target(endpoint), options=_OPTIONS)
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}

    async def unary(self, path: str, request: bytes, deadline: float, dial_seconds: float) -> bytes:
        """One attempt, until the deadline (time.monotonic). Raises Failure."""
        await self._connect(min(dial_seconds, deadline - time.monotonic()))
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(path, None, None)
        try:
            return await method(request, timeout=max(0.0, deadline - time.monotonic()))
        except grpc.aio.AioRpcError as exc:
            raise _failure(exc, self.endpoint) from exc

    async def stream(
        self, path: str, request: bytes, dial_seconds: float
    ) -> AsyncGenerator[bytes, None]:
        """Replies one after another, for as long as they come. Raises Failure."""
        await self._connect(dial_seconds)
        method = self._channel.unary_stream(path, None, None)
        try:
            async for reply in method(request):
                yield reply
        except grpc.aio.AioRpcError as exc:
            raise _failure(exc, self.endpoint) from exc

    async def open_stream(
        self, path: str, request: bytes, dial_seconds: float, on_open: Callable[[Write], None]
    ) -> AsyncGenerator[bytes, None]:
        """The answers to one request of a stream that stays open, and to what is written later.

        `on_open` is given what writes. Raises Failure.
        """
        await self._connect(dial_seconds)
        call: Any = self._channel.stream_stream(path, None, None)  # its stubs want an iterator
        call = call()

        async def write(message: bytes) -> None:
            """To nobody, once the stream is over: who reads hears of that."""
            with suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
                await call.write(message)

        try:
            await call.write(request)
            on_open(write)
            while (body := await call.read()) is not EOF:
                yield body
            if await call.code() is not grpc.StatusCode.OK:
                code, text = await call.code(), await call.details()
                raise Failure(Code(code.value[0]), f"{self.endpoint}: {text}", sent=True)
        except grpc.aio.AioRpcError as exc:
            raise _failure(exc, self.endpoint) from exc
        finally:
            call.cancel()

    async def _connect(self, seconds: float) -> None:
        """Until it stands or has failed; then a call ends at once, with gRPC's reason."""
        state = self._channel.get_state(try_to_connect=True)
        try:
            async with asyncio.timeout(seconds):
                while state not in _SETTLED:
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        except TimeoutError:
            text = f"no connection to {self.endpoint} within {seconds:.1f} s"
            raise Failure(Code.UNAVAILABLE, text, sent=False) from None

    async def aclose(self) -> None:
        await self._channel.close(None)


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=tls.ca, private_key=tls.key, certificate_chain=tls.cert
    )


def _failure(exc: grpc.aio.AioRpcError, endpoint: str) -> Failure:
    code, text = Code(exc.code().value[0]), exc.details() or ""
    sent = not (code is Code.UNAVAILABLE and text.startswith(_NEVER_SENT))
    if not sent or not text.startswith(_SERVERS_WORDS):
        text = f"{endpoint}: {text}"
    return Failure(code, text, sent=sent)
