"""Answers that clients have not read yet, for doors whose answers wait in this process's memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

UNREAD_BYTES_MAX: Final = 256 << 20  # over all clients; then no more long answers are made
LARGE_BYTES_MIN: Final = 64 << 10  # smaller ones are not worth counting one by one


class Unread:
    """The bytes of one door's answers that are on their way."""

    def __init__(self) -> None:
        self.bytes = 0

    def has_room(self) -> bool:
        """As `Call.has_room`, for all clients together."""
        return self.bytes <= UNREAD_BYTES_MAX

    def sent(self, size: int) -> None:
        """An answer of that size was handed over; `taken` follows."""
        self.bytes += size

    def taken(self, size: int) -> None:
        self.bytes -= size

    @contextmanager
    def sending(self, size: int) -> Iterator[None]:
        """While it lasts, an answer of that size is on its way."""
        self.sent(size)
        try:
            yield
        finally:
            self.taken(size)
