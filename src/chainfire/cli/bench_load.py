"""What `chainfire bench` sends: requests as templates with holes for key numbers and values.

A key is the prefix and a number in decimal, padded with zeros to the size that was asked for, so
that all requests of a kind have the same length and a number can be written into a copy. A lease's
id begins with bits that no two runs share.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from google.protobuf.message import Message

from chainfire.client.calls import (
    Consistency,
    delete_call,
    delete_request,
    get_request,
    put_call,
    put_request,
    range_call,
    txn_call,
)
from chainfire.client.leasing import grant_call, keep_alive_call
from chainfire.errors import InvalidArgument
from chainfire.proto import kv_pb2, watch_pb2

DIGITS_MAX: Final = 20
# Stand for what is written into each copy; a prefix holds printable characters only.
_NUMBER, _END, _VALUE = b"\x00", b"\x7f", b"\x01"
# Where an answer that did something differs from one that did nothing (kv.proto, lease.proto).
_KVS, _DELETED, _SUCCEEDED, _ID, _KEPT_TTL = 2, 2, 2, 2, 3
STAMP_BYTES: Final = 8  # of a watched value: the put's number (native/src/load/audience)
LEASES_MAX: Final = 1 << 28  # four groups of a varint are written into each copy
_GROUPS: Final = b"\x80" * 4


@dataclass(frozen=True, slots=True)
class Template:
    """One kind of request; offsets count in `message`."""

    name: str
    path: str
    message: bytes
    keys: tuple[tuple[int, int], ...] = ()  # (offset, added to the key's number)
    groups: int | None = None  # where a lease's number goes
    is_stream: bool = False  # messages on a stream, each answered by one
    noise: tuple[int, int] | None = None  # begin and end of the value
    expects: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What keys, values and leases look like. `span`: keys that one range reads.

    Leases have ids from `lease_base` on, whose lowest 28 bits are 0. `is_leased`: puts are attached
    to the first of them.
    """

    keys: int
    key_size: int
    value_size: int
    prefix: str
    span: int = 1
    consistency: Consistency = Consistency.LINEARIZABLE
    reads_percent: int = 80
    ttl_seconds: int = 600
    lease_base: int = 1 << 55
    is_leased: bool = False

    @property
    def digits(self) -> int:
        return min(self.key_size - len(self.prefix.encode()), DIGITS_MAX)

    def check(self) -> None:
        """Raises InvalidArgument."""
        if not self.prefix.isprintable():
            raise InvalidArgument("--prefix must be printable characters")
        if self.span > self.keys:
            raise InvalidArgument(f"--span {self.span} is more than the {self.keys} keys there are")
        needed = len(str(self.keys + self.span - 1))
        if self.digits < needed:
            room = len(self.prefix.encode()) + needed
            raise InvalidArgument(
                f"--key-size {self.key_size} is too small for the prefix and {self.keys} keys: "
                f"at least {room}, or a shorter --prefix"
            )

    def key(self, digit: bytes) -> bytes:
        prefix = self.prefix.encode()
        return prefix.ljust(self.key_size - self.digits, b"0") + digit * self.digits

    def put(self) -> kv_pb2.PutRequest:
        lease = self.lease_base if self.is_leased else 0
        return put_request(self.key(_NUMBER), _VALUE * self.value_size, lease=lease)


def put(shape: Shape) -> list[Template]:
    request = shape.put()
    return [_template("put", put_call(request).path, request, shape)]


def range_(shape: Shape) -> list[Template]:
    end = shape.key(_END) if shape.span > 1 else b""
    request = get_request(shape.key(_NUMBER), end, consistency=shape.consistency)
    return [_template("range", range_call(request).path, request, shape, expects=_KVS)]


def txn(shape: Shape) -> list[Template]:
    """One compare that holds for a key that exists, and one put."""
    key = shape.key(_NUMBER)
    exists = kv_pb2.Compare(
        result=kv_pb2.Compare.GREATER, target=kv_pb2.Compare.VERSION, key=key, version=0
    )
    write = kv_pb2.RequestOp(request_put=shape.put())
    request = kv_pb2.TxnRequest(compare=[exists], success=[write])
    return [_template("txn", txn_call(request).path, request, shape, expects=_SUCCEEDED)]


def mixed(shape: Shape) -> list[Template]:
    weights = (shape.reads_percent, 100 - shape.reads_percent)
    both = zip((*range_(shape), *put(shape)), weights, strict=True)
    return [replace(template, weight=weight) for template, weight in both if weight]


def delete(shape: Shape) -> list[Template]:
    request = delete_request(shape.key(_NUMBER))
    return [_template("delete", delete_call(request).path, request, shape, expects=_DELETED)]


# ── leases ──────────────────────────────────────────────────────────────────


def lease_grant(shape: Shape) -> list[Template]:
    """Leases whose ids the server chooses."""
    call = grant_call(shape.ttl_seconds, 0)
    return [Template("grant", call.path, call.request.SerializeToString(), expects=_ID)]


def keepalive(shape: Shape) -> list[Template]:
    call = keep_alive_call(shape.lease_base)
    message = call.request.SerializeToString()
    groups = message.index(_GROUPS)
    return [
        Template("keepalive", call.path, message, groups=groups, is_stream=True, expects=_KEPT_TTL)
    ]


def leases(shape: Shape) -> list[Template]:
    """The leases that `keepalive` keeps."""
    call = grant_call(shape.ttl_seconds, shape.lease_base)
    message = call.request.SerializeToString()
    return [Template("grant", call.path, message, groups=message.index(_GROUPS), expects=_ID)]


def new_lease_base() -> int:
    """Ids that an earlier run has hardly granted. As long in bytes as any other."""
    return 1 << 55 | random.getrandbits(27) << 28


# ── watchers ────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Watchers of all that is put, spread over streams, and these over connections."""

    watchers: int
    streams: int
    connections: int


WATCH_PATH: Final = "/etcdserverpb.Watch/Watch"


def watch_request(shape: Shape) -> bytes:
    """Makes a watcher of the one key, or of all keys as a range."""
    create = watch_pb2.WatchCreateRequest(key=shape.key(b"0"))
    if shape.keys > 1:
        create.range_end = shape.key(b":")  # behind all digits
    return watch_pb2.WatchRequest(create_request=create).SerializeToString()


WORKLOADS: Final[dict[str, Callable[[Shape], Sequence[Template]]]] = {
    "put": put,
    "range": range_,
    "txn": txn,
    "mixed": mixed,
    "delete": delete,
    "watch": put,
    "lease-grant": lease_grant,
    "keepalive": keepalive,
}
# What is written once before a run.
FILLS: Final[dict[str, Callable[[Shape], Sequence[Template]]]] = {"keepalive": leases}
WRITES: Final = frozenset({"put", "txn", "delete"})  # each answer of these is a new revision


def _template(
    name: str, path: str, request: Message, shape: Shape, *, expects: int = 0
) -> Template:
    message = request.SerializeToString()
    holes = [
        (match.start(), added)
        for digit, added in ((_NUMBER, 0), (_END, shape.span))
        for match in re.finditer(re.escape(shape.key(digit)), message)
    ]
    before = shape.key_size - shape.digits
    noise = None
    if shape.value_size and _VALUE * shape.value_size in message:
        begin = message.rindex(_VALUE * shape.value_size)  # its length, in front, may be \x01 too
        noise = (begin, begin + shape.value_size)
    keys = tuple((offset + before, added) for offset, added in holes)
    assert keys, "a request without a key"
    return Template(name, path, message, keys, noise=noise, expects=expects)
