"""Comparisons and operations of a transaction, to be written as one reads them. Pure.

await client.txn(
    [version("job") == 0],
    [Put("job", "mine")],
    [Get("job")],
)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chainfire.client.calls import delete_request, get_request, put_request, txn_request
from chainfire.client.keys import Text, to_bytes
from chainfire.proto import kv_pb2

_FIELDS = {
    kv_pb2.Compare.VERSION: "version",
    kv_pb2.Compare.CREATE: "create_revision",
    kv_pb2.Compare.MOD: "mod_revision",
    kv_pb2.Compare.VALUE: "value",
    kv_pb2.Compare.LEASE: "lease",
}


class Target:
    """One side of a comparison; comparing it with a number (or a value) builds the condition."""

    def __init__(
        self, target: kv_pb2.Compare.CompareTarget, key: Text, range_end: Text = b""
    ) -> None:
        self._target = target
        self._key, self._range_end = to_bytes(key), to_bytes(range_end)

    def is_(self, result: kv_pb2.Compare.CompareResult, operand: Text | int) -> kv_pb2.Compare:
        value = operand if isinstance(operand, int) else to_bytes(operand)
        condition = kv_pb2.Compare(
            result=result, target=self._target, key=self._key, range_end=self._range_end
        )
        setattr(condition, _FIELDS[self._target], value)
        return condition

    def __eq__(self, operand: Text | int) -> kv_pb2.Compare:  # type: ignore[override]
        return self.is_(kv_pb2.Compare.EQUAL, operand)

    def __ne__(self, operand: Text | int) -> kv_pb2.Compare:  # type: ignore[override]
        return self.is_(kv_pb2.Compare.NOT_EQUAL, operand)

    def __gt__(self, operand: Text | int) -> kv_pb2.Compare:
        return self.is_(kv_pb2.Compare.GREATER, operand)

    def __lt__(self, operand: Text | int) -> kv_pb2.Compare:
        return self.is_(kv_pb2.Compare.LESS, operand)

    __hash__ = None  # type: ignore[assignment]


def version(key: Text, range_end: Text = b"") -> Target:
    return Target(kv_pb2.Compare.VERSION, key, range_end)


def create_revision(key: Text, range_end: Text = b"") -> Target:
    return Target(kv_pb2.Compare.CREATE, key, range_end)


def mod_revision(key: Text, range_end: Text = b"") -> Target:
    return Target(kv_pb2.Compare.MOD, key, range_end)


def value(key: Text, range_end: Text = b"") -> Target:
    return Target(kv_pb2.Compare.VALUE, key, range_end)


def lease(key: Text, range_end: Text = b"") -> Target:
    return Target(kv_pb2.Compare.LEASE, key, range_end)


@dataclass(frozen=True, slots=True)
class Put:
    key: Text
    value: Text
    lease: int = 0
    previous: bool = False

    def request(self) -> kv_pb2.RequestOp:
        put = put_request(self.key, self.value, lease=self.lease, previous=self.previous)
        return kv_pb2.RequestOp(request_put=put)


@dataclass(frozen=True, slots=True)
class Get:
    key: Text
    range_end: bytes = b""
    limit: int = 0

    def request(self) -> kv_pb2.RequestOp:
        read = get_request(self.key, self.range_end, limit=self.limit)
        return kv_pb2.RequestOp(request_range=read)


@dataclass(frozen=True, slots=True)
class Delete:
    key: Text
    range_end: bytes = b""
    previous: bool = False

    def request(self) -> kv_pb2.RequestOp:
        delete = delete_request(self.key, self.range_end, previous=self.previous)
        return kv_pb2.RequestOp(request_delete_range=delete)


@dataclass(frozen=True, slots=True)
class Txn:
    """A transaction inside a transaction."""

    compare: Sequence[kv_pb2.Compare] = ()
    success: Sequence[Op] = ()
    failure: Sequence[Op] = ()

    def message(self) -> kv_pb2.TxnRequest:
        success = [op.request() for op in self.success]
        return txn_request(self.compare, success, [op.request() for op in self.failure])

    def request(self) -> kv_pb2.RequestOp:
        return kv_pb2.RequestOp(request_txn=self.message())


Op = Put | Get | Delete | Txn
