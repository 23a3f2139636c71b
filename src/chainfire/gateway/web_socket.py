"""Streams over WebSockets, as etcd's gateway has them: one JSON value per message, both ways.

Over ASGI. The stream itself is a `JsonStream`, which reads messages as a
request's body and writes lines, here messages.
"""

from __future__ import annotations

from http import HTTPStatus

from chainfire.gateway.asgi import Message
from chainfire.gateway.json_stream import Receive, Send


async def refuse(receive: Receive, send: Send, status: int) -> None:
    """An HTTP answer in place of a WebSocket."""
    await receive()
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    start = {"type": "websocket.http.response.start", "status": status, "headers": headers}
    await send(start)
    body = f"{HTTPStatus(status).phrase}\n".encode()
    await send({"type": "websocket.http.response.body", "body": body})


class Messages:
    """A WebSocket as `JsonStream` wants it: `receive` a body, `send` lines."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send

    async def accept(self) -> None:
        await self._receive()  # websocket.connect
        await self._send({"type": "websocket.accept"})

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            return {"type": "http.disconnect"}
        text = message.get("text")
        body = message.get("bytes") or b"" if text is None else text.encode()
        return {"type": "http.request", "body": body + b"\n", "more_body": True}

    async def send(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            return
        if body := message["body"]:
            await self._send({"type": "websocket.send", "text": body.decode().rstrip("\n")})
        if not message["more_body"]:
            await self._send({"type": "websocket.close", "code": 1000})
