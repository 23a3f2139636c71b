"""Random messages of any type, made from its descriptor: valid ones, odd ones, impossible ones.

Names, ids and numbers come from small pools, so that calls meet each other's keys, leases and
watches; `Facts` lets the numbers follow the store. Everything comes from one `random.Random`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.compat.differential.generate import KEYS, LEASES, VALUES

NUMBERS = (0, 0, 0, 1, 1, 2, 3, 7, 100, -1, -2, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
TEXTS = ("", "a", "m1", "http://127.0.0.1:1", "unix://x", "://", "\u20ac", "v3.5.0", "x" * 300)
DEEP = 4  # transactions in transactions
MANY = 6  # of a repeated field


@dataclass(slots=True)
class Facts:
    """What the generator may know of the store it talks to."""

    revision: int = 1
    members: list[int] = field(default_factory=list)
    leases: list[int] = field(default_factory=lambda: list(LEASES))


class Messages:
    def __init__(self, rng: random.Random, facts: Facts) -> None:
        self._rng = rng
        self._facts = facts

    def fill(self, message: Any, depth: int = 0) -> Any:
        """Give some of its fields values, and return it."""
        descriptor: Descriptor = message.DESCRIPTOR
        taken: set[str] = set()
        for one in self._rng.sample(list(descriptor.fields), len(descriptor.fields)):
            union = one.containing_oneof
            if union is not None:
                if union.name in taken:
                    continue
                taken.add(union.name)
            elif self._rng.random() < 0.55:
                continue
            self._set(message, one, depth)
        return message

    def damaged(self, body: bytes) -> bytes:
        """The bytes of a message with some changed, cut or put in."""
        rng, data = self._rng, bytearray(body)
        for _ in range(rng.randint(1, 4)):
            at = rng.randint(0, len(data))
            match rng.randrange(3):
                case 0:
                    data[at : at + 1] = rng.randbytes(1)
                case 1:
                    del data[at : at + rng.randint(1, 8)]
                case _:
                    data[at:at] = rng.randbytes(rng.randint(1, 8))
        return bytes(data)

    def _set(self, message: Any, one: FieldDescriptor, depth: int) -> None:
        count = self._rng.randint(0, MANY)
        if one.message_type is not None and one.message_type.GetOptions().map_entry:
            return  # none of the requests has one that means anything
        if one.type == FieldDescriptor.TYPE_MESSAGE:
            if depth >= DEEP:
                return
            if one.is_repeated:
                for _ in range(count):
                    self.fill(getattr(message, one.name).add(), depth + 1)
            else:
                child = getattr(message, one.name)
                child.SetInParent()
                self.fill(child, depth + 1)
        elif one.is_repeated:
            getattr(message, one.name).extend(self._value(one) for _ in range(count))
        else:
            setattr(message, one.name, self._value(one))

    def _value(self, one: FieldDescriptor) -> Any:
        rng = self._rng
        match one.cpp_type:
            case FieldDescriptor.CPPTYPE_BOOL:
                return rng.random() < 0.5
            case FieldDescriptor.CPPTYPE_ENUM:
                assert one.enum_type is not None
                known = [value.number for value in one.enum_type.values]
                return rng.choice([*known, *known, 77])
            case FieldDescriptor.CPPTYPE_STRING:
                is_text = one.type == FieldDescriptor.TYPE_STRING
                return rng.choice(TEXTS) if is_text else self._bytes()
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return rng.choice((0.0, 1.5, -1.0, float("inf"), float("nan")))
            case _:
                return self._number(one)

    def _bytes(self) -> bytes:
        rng = self._rng
        if rng.random() < 0.01:
            return rng.randbytes(rng.choice((300, 5_000, 70_000)))
        return rng.choice(KEYS if rng.random() < 0.8 else VALUES)

    def _number(self, one: FieldDescriptor) -> int:
        rng, facts = self._rng, self._facts
        pool: tuple[int, ...] | list[int] = NUMBERS
        if one.name in ("lease", "ID") and rng.random() < 0.8:
            pool = facts.leases
        elif one.name == "targetID" and facts.members:
            pool = facts.members
        elif "rev" in one.name and rng.random() < 0.7:
            pool = (0, max(0, facts.revision - rng.randint(0, 200)), facts.revision + 1)
        elif one.name == "TTL" and rng.random() < 0.8:
            pool = (1, 2, 5, 60)
        number = rng.choice(pool)
        bits = 32 if one.cpp_type in _SHORT else 64
        if one.cpp_type in _UNSIGNED:
            return number % (1 << bits)
        return (number + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


_UNSIGNED = (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
_SHORT = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32)
