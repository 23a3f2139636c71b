"""Answers as text, in etcdctl's formats: simple, fields, json. Pure: replies in, lines out.

Lines are bytes, because keys and values are: what the store holds is printed
unchanged unless --hex asks otherwise.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from chainfire.cli.go_text import quote
from chainfire.proto import kv_pb2

KvReply = (
    kv_pb2.RangeResponse | kv_pb2.PutResponse | kv_pb2.DeleteRangeResponse | kv_pb2.TxnResponse
)


def write(lines: Iterable[bytes]) -> None:
    out = sys.stdout.buffer
    for line in lines:
        out.write(line + b"\n")


def reply_of(op: kv_pb2.ResponseOp) -> KvReply:
    kind = op.WhichOneof("response")
    assert kind is not None, "an operation without an answer"
    reply: KvReply = getattr(op, kind)
    return reply


def text_of(data: bytes, *, hex: bool) -> bytes:
    """A key or a value, as it is or as `\\x..`."""
    return b"".join(b"\\x%02x" % byte for byte in data) if hex else data


class Simple:
    """What people read: `key` and `value` on lines of their own, `OK`, counts."""

    def __init__(self, *, hex: bool = False, values_only: bool = False) -> None:
        self._hex, self._values_only = hex, values_only

    def lines(self, reply: KvReply) -> Iterator[bytes]:
        match reply:
            case kv_pb2.RangeResponse():
                yield from self._kvs(reply.kvs)
            case kv_pb2.PutResponse():
                yield b"OK"
                if reply.HasField("prev_kv"):
                    yield from self._kvs([reply.prev_kv])
            case kv_pb2.DeleteRangeResponse():
                yield b"%d" % reply.deleted
                yield from self._kvs(reply.prev_kvs)
            case kv_pb2.TxnResponse():
                yield b"SUCCESS" if reply.succeeded else b"FAILURE"
                for op in reply.responses:
                    yield b""
                    yield from self.lines(reply_of(op))

    def _kvs(self, kvs: Iterable[kv_pb2.KeyValue]) -> Iterator[bytes]:
        for kv in kvs:
            if not self._values_only:
                yield self._text(kv.key)
            yield self._text(kv.value)

    def _text(self, data: bytes) -> bytes:
        return text_of(data, hex=self._hex)


class Fields:
    """`"Name" : value`, one fact per line."""

    def __init__(self, *, hex: bool = False) -> None:
        self._hex = hex

    def lines(self, reply: KvReply) -> Iterator[bytes]:
        yield from (line.encode() for line in self._lines(reply))

    def _lines(self, reply: KvReply) -> Iterator[str]:
        yield from self.header(reply.header)
        match reply:
            case kv_pb2.RangeResponse():
                for kv in reply.kvs:
                    yield from self._kv("", kv)
                yield f'"More" : {str(reply.more).lower()}'
                yield f'"Count" : {reply.count}'
            case kv_pb2.PutResponse():
                if reply.HasField("prev_kv"):
                    yield from self._kv("Prev", reply.prev_kv)
            case kv_pb2.DeleteRangeResponse():
                yield f'"Deleted" : {reply.deleted}'
                for kv in reply.prev_kvs:
                    yield from self._kv("Prev", kv)
            case kv_pb2.TxnResponse():
                yield f'"Succeeded" : {str(reply.succeeded).lower()}'
                for op in reply.responses:
                    yield from self._lines(reply_of(op))

    def header(self, header: kv_pb2.ResponseHeader) -> Iterator[str]:
        yield f'"ClusterID" : {self.number(header.cluster_id)}'
        yield f'"MemberID" : {self.number(header.member_id)}'
        yield f'"Revision" : {header.revision}'
        yield f'"RaftTerm" : {header.raft_term}'

    def number(self, value: int) -> str:
        return f"{value:x}" if self._hex else str(value)

    def _kv(self, prefix: str, kv: kv_pb2.KeyValue) -> Iterator[str]:
        yield f'"{prefix}Key" : {quote(kv.key)}'
        yield f'"{prefix}CreateRevision" : {kv.create_revision}'
        yield f'"{prefix}ModRevision" : {kv.mod_revision}'
        yield f'"{prefix}Version" : {kv.version}'
        yield f'"{prefix}Value" : {quote(kv.value)}'
        yield f'"{prefix}Lease" : {self.number(kv.lease)}'


class Json:
    """Go's JSON of the reply: bytes in base64, numbers as numbers, empty fields left out.

    --hex changes nothing here, as in etcdctl.
    """

    def lines(self, reply: Message) -> Iterator[bytes]:
        yield self.dump(self.plain(reply))

    @staticmethod
    def dump(value: object) -> bytes:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    def plain(self, message: Message) -> dict[str, Any]:
        return {field.name: self._value(field, value) for field, value in message.ListFields()}

    def _value(self, field: FieldDescriptor, value: Any) -> Any:
        if isinstance(value, Message):
            return self.plain(value)
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if field.message_type is kv_pb2.ResponseOp.DESCRIPTOR:
            return [self._op(op) for op in value]
        if isinstance(value, str | int | float | bool):
            return value
        return [self._value(field, item) for item in value]

    def _op(self, op: kv_pb2.ResponseOp) -> dict[str, Any]:
        """A oneof, as Go's encoder nests it: {"Response":{"ResponsePut":{…}}}."""
        kind = op.WhichOneof("response")
        assert kind is not None, "an operation without an answer"
        name = "".join(word.capitalize() for word in kind.split("_"))
        return {"Response": {name: self.plain(getattr(op, kind))}}


def printer(write_out: str, *, hex: bool, values_only: bool = False) -> Simple | Fields | Json:
    match write_out:
        case "fields":
            return Fields(hex=hex)
        case "json":
            return Json()
        case _:
            return Simple(hex=hex, values_only=values_only)
