"""A frozen view of a RocksBackend. The binding's rules are in `rocks`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import rocksdict

from chainfire.storage.backend import keys_of


class RocksSnapshot:
    """One frozen view per family: a snapshot for `get`, a pinned cursor for the rest.

    All iterations over a family share its cursor: whoever finds that another
    one has moved it, moves it back to where it was.
    """

    def __init__(
        self,
        families: Mapping[str, rocksdict.Rdict],
        check: Callable[[rocksdict.RdictIter], None],
        failed: Callable[[Exception], Exception],
    ) -> None:
        """`check` is owed at the end of every loop; `failed` says what an error means."""
        self._check = check
        self._failed = failed
        self._views = {name: family.snapshot() for name, family in families.items()}
        self._cursors = {name: family.iter() for name, family in families.items()}
        self._users: dict[str, object] = {}  # family: the iteration that moved its cursor last

    def get(self, family: str, key: bytes) -> bytes | None:
        view = self._views[family]
        try:
            value: bytes = view[key]
        except Exception as exc:
            if str(exc) == "key not found":
                return None
            raise self._failed(exc) from exc
        return value

    def iterate(
        self, family: str, lower: bytes = b"", upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._cursors[family]
        if reverse:
            return self._rows_backward(family, cursor, lower, upper)
        return self._rows_forward(family, cursor, lower, upper)

    def keys(self, family: str, lower: bytes = b"", upper: bytes | None = None) -> Iterator[bytes]:
        return keys_of(self.iterate(family, lower, upper))

    def close(self) -> None:
        self._views.clear()
        self._cursors.clear()

    def _rows_forward(
        self, family: str, cursor: rocksdict.RdictIter, lower: bytes, upper: bytes | None
    ) -> Iterator[tuple[bytes, bytes]]:
        user = self._users[family] = object()
        cursor.seek(lower)
        while cursor.valid():
            key = cursor.key()
            if upper is not None and key >= upper:
                return
            yield key, cursor.value()
            if self._users[family] is not user:
                self._users[family] = user
                cursor.seek(key)
            cursor.next()
        self._check(cursor)

    def _rows_backward(
        self, family: str, cursor: rocksdict.RdictIter, lower: bytes, upper: bytes | None
    ) -> Iterator[tuple[bytes, bytes]]:
        user = self._users[family] = object()
        if upper is None:
            cursor.seek_to_last()
        else:
            cursor.seek_for_prev(upper)
            if cursor.valid() and cursor.key() == upper:
                cursor.prev()
        while cursor.valid():
            key = cursor.key()
            if key < lower:
                return
            yield key, cursor.value()
            if self._users[family] is not user:
                self._users[family] = user
                cursor.seek(key)
            cursor.prev()
        self._check(cursor)
