"""Sessions, locks and elections for code that blocks: sessions.py on the sync client's loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from chainfire.client.keys import Text
from chainfire.client.leasing import Held
from chainfire.client.sessions import Leadership, Lock, Session

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class SyncSession:
    """As `Session`, which documents each method. Its lease is kept alive by the client's thread."""

    def __init__(self, session: Session, run: Run) -> None:
        self._session = session
        self._run = run

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        self._run(self._session.open())

    def close(self) -> None:
        self._run(self._session.aclose())

    @property
    def lease(self) -> int:
        return self._session.lease

    @property
    def is_lost(self) -> bool:
        return self._session.is_lost

    def until_lost(self) -> None:
        self._run(self._session.until_lost())

    def lock(self, name: Text) -> SyncLock:
        return SyncLock(self._session.lock(name), self._run)

    def elect(self, name: Text, value: Text = b"") -> SyncLeadership:
        return SyncLeadership(self._session.elect(name, value), self._run)


class SyncLock:
    """As `Lock`."""

    def __init__(self, lock: Lock, run: Run) -> None:
        self._lock = lock
        self._run = run

    def __enter__(self) -> Held:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(self) -> Held:
        held: Held = self._run(self._lock.acquire())
        return held

    def release(self) -> None:
        self._run(self._lock.release())


class SyncLeadership:
    """As `Leadership`."""

    def __init__(self, leadership: Leadership, run: Run) -> None:
        self._leadership = leadership
        self._run = run

    def __enter__(self) -> Self:
        self.campaign()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.resign()

    def campaign(self) -> Held:
        held: Held = self._run(self._leadership.campaign())
        return held

    @property
    def held(self) -> Held:
        return self._leadership.held

    def proclaim(self, value: Text) -> None:
        self._run(self._leadership.proclaim(value))

    def resign(self) -> None:
        self._run(self._leadership.resign())
