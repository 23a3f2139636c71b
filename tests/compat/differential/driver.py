"""One process per server that sends chunks of requests, so that both servers are driven at once.

A write waits for all calls before it and everything after waits for the write: the order of
changes is the order of the list. Reads between two writes run at the same time.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Self

import grpc

from tests.compat.differential.calls import METHODS, Answer, Request

READS_AT_ONCE = 16
CALL_SECONDS = 30.0
UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class ServerGone(Exception):
    """The server stopped answering; `position` is the request that it did not answer."""

    def __init__(self, position: int, text: str) -> None:
        super().__init__(position, text)
        self.position = position
        self.text = text


class Driver:
    """Sends from a process of its own: `begin(chunk)`, then `finish()`."""

    def __init__(self, target: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, target), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, requests: Sequence[Request]) -> None:
        self._pipe.send([(r.method, r.body, r.is_read) for r in requests])

    def finish(self) -> list[Answer]:
        """The answers in order. Raises ServerGone."""
        result = self._pipe.recv()
        if isinstance(result, ServerGone):
            raise result
        return [Answer(*fields) for fields in result]

    def run(self, requests: Sequence[Request]) -> list[Answer]:
        self.begin(requests)
        return self.finish()

    def close(self) -> None:
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(pipe: Connection, target: str) -> None:
    with grpc.insecure_channel(target, options=OPTIONS) as channel:
        calls = {name: channel.unary_unary(method.path) for name, method in METHODS.items()}
        while True:
            try:
                chunk = pipe.recv()
            except (EOFError, KeyboardInterrupt):
                return
            try:
                pipe.send(_send_all(calls, chunk))
            except ServerGone as gone:
                pipe.send(gone)
            except (BrokenPipeError, KeyboardInterrupt):
                return


def _send_all(
    calls: dict[str, Any], chunk: list[tuple[str, bytes, bool]]
) -> list[tuple[int, str, bytes]]:
    answers: list[tuple[int, str, bytes]] = []
    reads: list[Any] = []
    for method, body, is_read in chunk:
        if is_read:
            reads.append(calls[method].future(body, timeout=CALL_SECONDS))
            if len(reads) < READS_AT_ONCE:
                continue
        answers += [_answer(read.result, len(answers) + i) for i, read in enumerate(reads)]
        reads.clear()
        if not is_read:
            call = partial(calls[method], body, timeout=CALL_SECONDS)
            answers.append(_answer(call, len(answers)))
    answers += [_answer(read.result, len(answers) + i) for i, read in enumerate(reads)]
    return answers


def _answer(result: Any, position: int) -> tuple[int, str, bytes]:
    try:
        return 0, "", result()
    except grpc.RpcError as error:
        code, text = error.code(), error.details() or ""
        if code in UNREACHABLE and not text.startswith("etcdserver:"):
            raise ServerGone(position, f"{code.name}: {text}") from None
        return code.value[0], text, b""
