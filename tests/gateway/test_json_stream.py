"""Streams of the JSON gateway over a scripted ASGI connection, with a handler of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from chainfire.api.call import Stream
from chainfire.api.services import Services
from chainfire.api.table import Kind
from chainfire.errors import Code, LeaseNotFound
from chainfire.gateway.json_stream import JsonStream
from chainfire.gateway.routes import ROUTES
from chainfire.proto.watch_pb2 import WatchRequest, WatchResponse
from tests.api.fake_node import Api

Handler = Callable[[Services, Stream], Awaitable[None]]
CREATE = b'{"create_request":{"key":"Zm9v"}}'


class Connection:
    """What the client sends, piece by piece, and what it gets."""

    def __init__(self, *pieces: bytes, ends: bool = True) -> None:
        self.arriving: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.status = 0
        self.chunks: list[str] = []
        for i, piece in enumerate(pieces):
            self.send(piece, more=not ends or i + 1 < len(pieces))
        if not pieces and ends:
            self.send(b"", more=False)

    def send(self, body: bytes, *, more: bool) -> None:
        self.arriving.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self.arriving.put_nowait({"type": "http.disconnect"})

    async def take(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["body"]:
            self.chunks.append(message["body"].decode())


def stream_of(
    handler: Handler, connection: Connection, *headers: tuple[bytes, bytes]
) -> tuple[JsonStream, Api]:
    api = Api()
    route = ROUTES["/v3/watch"]
    route = replace(route, method=replace(route.method, stream=handler))
    assert route.method.kind is Kind.BIDI
    scope = {"headers": list(headers), "client": ("127.0.0.1", 9)}
    return JsonStream(api.services, route, scope, connection.arriving.get, connection.take), api


def run(handler: Handler, connection: Connection, *headers: tuple[bytes, bytes]) -> Api:
    stream, api = stream_of(handler, connection, *headers)

    async def serve() -> None:
        async with asyncio.timeout(10):
            await stream.serve()

    asyncio.run(serve())
    return api


async def echo(_: Services, stream: Stream) -> None:
    """Answers with the number of the request, and once more when they end."""
    number = 0
    async for body in stream:
        WatchRequest.FromString(body)
        number += 1
        await stream.send(WatchResponse(watch_id=number).SerializeToString())
    await stream.send(WatchResponse(created=True).SerializeToString())


def handled(api: Api) -> list[int]:
    return api.services.counters.method("/etcdserverpb.Watch/Watch").handled


def test_every_request_of_the_body_is_heard_and_every_message_is_a_chunk() -> None:
    connection = Connection(CREATE[:10], CREATE[10:] + CREATE, b' {"progress_request":{}}\n')
    api = run(echo, connection)
    assert connection.status == 200
    assert connection.chunks == [
        '{"result":{"watch_id":"1"}}\n',
        '{"result":{"watch_id":"2"}}\n',
        '{"result":{"watch_id":"3"}}\n',
        '{"result":{"created":true}}\n',
    ]
    counters = api.services.counters.method("/etcdserverpb.Watch/Watch")
    assert (counters.received_messages, counters.sent_messages, handled(api)[0]) == (3, 4, 1)


def test_an_empty_body_is_a_stream_without_requests() -> None:
    connection = Connection()
    run(echo, connection)
    assert connection.chunks == ['{"result":{"created":true}}\n']


def test_a_bad_first_request_is_refused_and_a_later_one_ends_the_requests() -> None:
    connection = Connection(b"{bad")
    api = run(echo, connection)
    assert connection.status == 400
    assert json.loads(connection.chunks[0])["code"] == 3
    assert handled(api)[Code.INVALID_ARGUMENT] == 1
    connection = Connection(CREATE + b"{bad")
    run(echo, connection)
    assert connection.chunks[1:] == ['{"result":{"created":true}}\n']


def test_an_error_after_the_first_message_is_the_last_line() -> None:
    async def fails(_: Services, stream: Stream) -> None:
        await stream.send(b"")
        raise LeaseNotFound

    connection = Connection(CREATE)
    run(fails, connection)
    assert connection.status == 200
    assert connection.chunks[0] == '{"result":{}}\n'
    assert json.loads(connection.chunks[1])["error"] == {
        "grpc_code": 5,
        "http_code": 404,
        "message": "etcdserver: requested lease not found",
        "http_status": "Not Found",
        "code": 5,
        "details": [],
    }


def test_a_deadline_ends_a_stream() -> None:
    async def waits(_: Services, stream: Stream) -> None:
        await asyncio.get_running_loop().create_future()

    connection = Connection(CREATE)
    api = run(waits, connection, (b"grpc-timeout", b"10m"))
    assert connection.status == 504
    assert handled(api)[Code.DEADLINE_EXCEEDED] == 1


@pytest.mark.parametrize("how", ["leaves", "is cancelled"])
def test_a_client_that_goes_ends_the_handler(how: str) -> None:
    ended = []

    begun = asyncio.Event()

    async def waits(_: Services, stream: Stream) -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(True)

    async def go() -> Api:
        connection = Connection(CREATE, ends=False)
        stream, api = stream_of(waits, connection)
        serving = asyncio.create_task(stream.serve())
        await begun.wait()
        if how == "leaves":
            connection.leave()
        else:
            serving.cancel()
        await asyncio.wait((serving,), timeout=10)
        assert serving.done()
        assert connection.chunks == []
        return api

    api = asyncio.run(go())
    assert ended == [True]
    assert handled(api)[Code.CANCELLED] == 1


def test_a_member_that_stops_says_so() -> None:
    async def go() -> Connection:
        sent = asyncio.Event()

        async def sends_and_waits(_: Services, stream: Stream) -> None:
            await stream.send(b"")
            sent.set()
            await asyncio.get_running_loop().create_future()

        connection = Connection(CREATE, ends=False)
        stream, _ = stream_of(sends_and_waits, connection)
        serving = asyncio.create_task(stream.serve())
        await sent.wait()
        stream.stop()
        async with asyncio.timeout(10):
            await serving
        return connection

    last = json.loads(asyncio.run(go()).chunks[-1])
    assert last["error"]["message"] == "etcdserver: server stopped"


def test_events_are_data_lines() -> None:
    connection = Connection(CREATE)
    run(echo, connection, (b"accept", b"text/event-stream"))
    assert connection.chunks[0] == 'data: {"result":{"watch_id":"1"}}\n\n'
