"""What `chainfire bench` sends: requests as templates with holes for key numbers and values. Pure.

A key is the prefix and a number in decimal, padded with zeros to the size that was asked for, so
that all requests of a kind have the same length and a number can be written into a copy.
"""

from __future__ import annotations

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
from chainfire.errors import InvalidArgument
from chainfire.proto import kv_pb2

DIGITS_MAX: Final = 20
# Stand for what is written into each copy; a prefix holds printable characters only.
_NUMBER, _END, _VALUE = b"\x00", b"\x7f", b"\x01"
# Where an answer that did something differs from one that did nothing (kv.proto).
_KVS, _DELETED, _SUCCEEDED = 2, 2, 2


@dataclass(frozen=True, slots=True)
class Template:
    """One kind of request; offsets count in `message`."""

    name: str
    path: str
    message: bytes
    keys: tuple[tuple[int, int], ...]  # (offset, added to the key's number)
    noise: tuple[int, int] | None = None  # begin and end of the value
    expects: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What keys and values look like. `span`: keys that one range reads."""

    keys: int
    key_size: int
    value_size: int
    prefix: str
    span: int = 1
    consistency: Consistency = Consistency.LINEARIZABLE
    reads_percent: int = 80

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


def put(shape: Shape) -> list[Template]:
    request = put_request(shape.key(_NUMBER), _VALUE * shape.value_size)
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
    write = kv_pb2.RequestOp(request_put=put_request(key, _VALUE * shape.value_size))
    request = kv_pb2.TxnRequest(compare=[exists], success=[write])
    return [_template("txn", txn_call(request).path, request, shape, expects=_SUCCEEDED)]


def mixed(shape: Shape) -> list[Template]:
    weights = (shape.reads_percent, 100 - shape.reads_percent)
    both = zip((*range_(shape), *put(shape)), weights, strict=True)
    return [replace(template, weight=weight) for template, weight in both if weight]


def delete(shape: Shape) -> list[Template]:
    request = delete_request(shape.key(_NUMBER))
    return [_template("delete", delete_call(request).path, request, shape, expects=_DELETED)]


WORKLOADS: Final[dict[str, Callable[[Shape], Sequence[Template]]]] = {
    "put": put,
    "range": range_,
    "txn": txn,
    "mixed": mixed,
    "delete": delete,
}
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
    return Template(name, path, message, keys, noise, expects)
