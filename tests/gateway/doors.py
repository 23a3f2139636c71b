"""A door over a fake node on a loop of its own thread, so that tests use blocking clients."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

import grpc

from chainfire.gateway.access import Access
from chainfire.gateway.grpc_python import GrpcServer
from chainfire.gateway.http import HttpApp
from chainfire.gateway.http_server import HttpServer
from chainfire.gateway.settings import GrpcSettings
from chainfire.proto.kv_pb2 import PutRequest, RangeRequest
from chainfire.proto.maintenance_pb2 import AlarmRequest, AlarmType
from tests.api.fake_node import Api
from tests.test_metrics import metrics_of

try:
    from chainfire.gateway import grpc_native
    from chainfire.gateway.native_json import direct_routes
except ImportError:  # the wheel is not installed
    _native: ModuleType | None = None
else:
    _native = grpc_native

T = TypeVar("T")
HAS_NATIVE = _native is not None
KINDS = ("grpcio", "native")


class LoopThread:
    """An event loop that runs until `close`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return self.run(call())

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class GrpcDoor:
    """A door of either kind over `api`, and a channel to it."""

    def __init__(
        self,
        api: Api | None = None,
        *listen: str,
        settings: GrpcSettings | None = None,
        kind: str = "grpcio",
        **options: Any,
    ) -> None:
        self.kind = kind
        self.api = api or Api()
        self.thread = LoopThread()
        urls = listen or ("http://127.0.0.1:0",)

        async def start() -> Any:
            made = GrpcServer if kind == "grpcio" else _native.NativeServer  # type: ignore[union-attr]
            server = made(self.api.services, urls, settings, **options)
            await server.start()
            return server

        try:
            self.server = self.thread.run(start())
        except BaseException:
            self.thread.close()
            raise
        self.port: int = self.server.ports[0]
        self.target = f"127.0.0.1:{self.port}"
        self.channel = grpc.insecure_channel(self.target)

    def connect(self) -> socket.socket:
        """A connection on which nothing is said yet."""
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def unary(self, path: str, body: bytes, **options: Any) -> bytes:
        options.setdefault("timeout", 10)
        reply: bytes = self.channel.unary_unary(path)(body, **options)
        return reply

    def stop(self, grace_seconds: float = 5.0) -> None:
        self.thread.run(self.server.aclose(grace_seconds))

    def close(self) -> None:
        self.channel.close()
        self.stop(0)
        self.thread.close()


class HttpDoor:
    """The HTTP application over a fake member, by uvicorn or by the native door.

    "direct": by the native door, unary calls past ASGI, as a member serves them.
    """

    def __init__(
        self,
        *listen: str,
        kind: str = "uvicorn",
        access: Access | None = None,
        with_gateway: bool = True,
    ) -> None:
        self.api = Api()
        self.levels: list[str] = []  # as set by PUT /config/local/log
        self.thread = LoopThread()
        urls = listen or ("http://127.0.0.1:0",)

        async def start() -> Any:
            services = self.api.services
            self.app = HttpApp(
                services,
                metrics_of(self.api),
                self.levels.append,
                access,
                with_gateway=with_gateway,
            )
            if kind == "uvicorn":
                server: Any = HttpServer(self.app, urls)
            else:
                options = {"direct": direct_routes(Access())} if kind == "direct" else {}
                made = _native.NativeServer  # type: ignore[union-attr]
                server = made(services, urls, application=lambda: self.app, **options)
            await server.start()
            return server

        try:
            self.server = self.thread.run(start())
        except BaseException:
            self.thread.close()
            raise
        self.port: int = self.server.ports[0]

    def connect(self) -> socket.socket:
        """A connection on which nothing is said yet."""
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: str | bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, str, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            sent = body.encode() if isinstance(body, str) else body
            connection.request(method, path, sent, headers or {})
            reply = connection.getresponse()
            return reply.status, reply.read().decode(), reply.headers
        finally:
            connection.close()

    def post(self, path: str, body: str, **headers: str) -> tuple[int, str]:
        """With `_` for `-` in headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask(path, "POST", body, named)[:2]

    @contextmanager
    def over_a_fresh_member(self) -> Iterator[HttpDoor]:
        """The same server, for a while over another member, without a past."""
        fresh, services = Api(), self.api.services
        before = services.node, services.counters
        services.node, services.counters = fresh.services.node, fresh.services.counters
        self.api.node = fresh.node
        yield self
        services.node, services.counters = before

    def alarm(self, alarm: AlarmType) -> None:
        request = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=1, alarm=alarm)
        self.thread.call(lambda: self.api.do("Maintenance.Alarm", request))

    def close(self) -> None:
        self.thread.call(self.app.stop)
        self.thread.run(self.server.aclose())
        self.thread.close()


def fill(door: GrpcDoor, rows: int, row_bytes: int) -> None:
    """Put the keys row0000, row0001, …; `EVERY_ROW` asks for them."""
    for n in range(rows):
        put = PutRequest(key=b"row%04d" % n, value=bytes(row_bytes))
        door.unary("/etcdserverpb.KV/Put", put.SerializeToString())


EVERY_ROW = RangeRequest(key=b"row", range_end=b"rox").SerializeToString()


def rest(client: socket.socket) -> bytes:
    """All that comes until the server closes."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def status_of(work: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """The status that the call ends with."""
    try:
        result = work()
        if hasattr(result, "__iter__") and not isinstance(result, bytes):
            for _ in result:
                pass
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""
