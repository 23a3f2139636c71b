"""Streams over WebSockets, by both doors."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Self

import pytest

pytest.importorskip("wsproto", reason="wsproto is not installed")

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from chainfire.gateway.access import Access
from tests.gateway.doors import HAS_NATIVE, HttpDoor

KINDS = ["uvicorn", pytest.param("direct", marks=pytest.mark.skipif(not HAS_NATIVE, reason="no"))]
WATCH = '{"create_request":{"key":"Zm9v"}}'


@pytest.fixture(scope="module", params=KINDS)
def door(request: pytest.FixtureRequest) -> Iterator[HttpDoor]:
    door = HttpDoor("http://127.0.0.1:0", kind=request.param)
    yield door
    door.close()


class Client:
    """A WebSocket's other side."""

    def __init__(self, port: int, path: str, **headers: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._frames = WSConnection(ConnectionType.CLIENT)
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.send(Request(host="a", target=path, extra_headers=extra))
        self.answer = self.next()

    def send(self, event: Event) -> None:
        self._socket.sendall(self._frames.send(event))

    def send_raw(self, data: bytes) -> None:
        self._socket.sendall(data)

    def next(self) -> Event:
        while True:
            for event in self._frames.events():
                return event
            data = self._socket.recv(65536)
            self._frames.receive_data(data or None)

    def next_json(self) -> Any:
        text = ""
        while True:
            event = self.next()
            assert isinstance(event, TextMessage), event
            text += event.data
            if event.message_finished:
                return json.loads(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@pytest.fixture
def client(door: HttpDoor) -> Iterator[Client]:
    with Client(door.port, "/v3/watch") as client:
        assert isinstance(client.answer, AcceptConnection)
        yield client


@pytest.mark.parametrize("kind", [TextMessage, BytesMessage])
def test_a_watch_takes_and_gives_one_json_per_message(
    door: HttpDoor, client: Client, kind: type[Message[Any]]
) -> None:
    client.send(kind(data=WATCH if kind is TextMessage else WATCH.encode()))
    assert client.next_json()["result"]["created"] is True
    client.send(kind(data=WATCH if kind is TextMessage else WATCH.encode()))
    assert client.next_json()["result"]["watch_id"] == "1"


def test_a_message_may_come_in_frames_and_between_pings(client: Client) -> None:
    client.send(TextMessage(data=WATCH[:7], message_finished=False))
    client.send(Ping(payload=b"x"))
    client.send(TextMessage(data=WATCH[7:]))
    assert client.next() == Pong(payload=b"x")
    assert client.next_json()["result"]["created"] is True


def test_who_closes_is_answered_and_ends_the_stream(door: HttpDoor, client: Client) -> None:
    client.send(TextMessage(data=WATCH))
    client.next_json()
    client.send(CloseConnection(code=1000))
    assert isinstance(client.next(), CloseConnection)


def test_an_error_is_the_last_message(client: Client) -> None:
    client.send(TextMessage(data='{"create_request":5}'))
    assert client.next_json()["error"]
    assert isinstance(client.next(), CloseConnection)


def test_a_message_without_end_is_refused(client: Client) -> None:
    part = TextMessage(data="x" * 1024 * 1024, message_finished=False)
    with suppress(ConnectionError):  # it may be closed before all of it is sent
        for _ in range(20):
            client.send(part)
    answer = client.next()
    assert isinstance(answer, CloseConnection)
    assert answer.code == 1009


def test_broken_frames_end_the_connection(client: Client) -> None:
    client.send_raw(b"\xff\xff\xff\xff")
    assert isinstance(client.next(), CloseConnection)


@pytest.mark.parametrize("path", ["/v3/kv/range", "/nope"])
def test_only_streams_have_web_sockets(door: HttpDoor, path: str) -> None:
    with Client(door.port, path) as client:
        assert isinstance(client.answer, RejectConnection)
        assert client.answer.status_code == 404
        refusal = client.next()
        assert isinstance(refusal, RejectData)
        assert refusal.data == b"Not Found\n"


def test_a_path_of_old_clients_has_them_too(door: HttpDoor) -> None:
    with Client(door.port, "/v3beta/watch") as client:
        assert isinstance(client.answer, AcceptConnection)


@pytest.mark.skipif(not HAS_NATIVE, reason="no native door")
def test_a_request_with_a_body_opens_none() -> None:
    from chainfire.gateway.asgi import RequestHead
    from chainfire.gateway.native_websocket import is_asked_for

    upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    headers = [(n.encode(), v.encode()) for n, v in (upgrade | {"sec-websocket-key": "k"}).items()]
    assert is_asked_for(RequestHead("GET", "/", "1.1", headers, None, is_tls=False))
    headers.append((b"content-length", b"2"))
    assert not is_asked_for(RequestHead("GET", "/", "1.1", headers, None, is_tls=False))


def test_pages_of_other_origins_get_none() -> None:
    door = HttpDoor("http://127.0.0.1:0", access=Access(["http://ours"]))
    try:
        with Client(door.port, "/v3/watch", Origin="http://theirs") as client:
            assert isinstance(client.answer, RejectConnection)
            assert client.answer.status_code == 403
        with Client(door.port, "/v3/watch", Origin="http://ours") as client:
            assert isinstance(client.answer, AcceptConnection)
    finally:
        door.close()
