"""The sync face: the async client on a loop of its own thread, method by method.

One implementation, two faces: what blocks here is awaited there. May be used
from several threads, and from within a running event loop's thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from chainfire.client.calls import Call, Consistency, R_co
from chainfire.client.client import DIAL_TIMEOUT_SECONDS, TIMEOUT_SECONDS, Client, connect
from chainfire.client.endpoints import DEFAULT
from chainfire.client.keys import Text
from chainfire.client.leasing import Lease, LeaseStatus
from chainfire.client.sessions import TTL_SECONDS
from chainfire.client.syncsessions import SyncSession
from chainfire.client.tls import Tls
from chainfire.client.txn import Op
from chainfire.client.values import (
    CasOutcome,
    Changes,
    DeleteOutcome,
    KeyValue,
    MemberStatus,
    Page,
    PutOutcome,
    TxnOutcome,
)
from chainfire.client.watching import Watch
from chainfire.proto import kv_pb2

T = TypeVar("T")


def connect_sync(
    endpoints: str | Sequence[str] = DEFAULT,
    *,
    timeout: float = TIMEOUT_SECONDS,
    dial_timeout: float = DIAL_TIMEOUT_SECONDS,
    tls: Tls | None = None,
) -> SyncClient:
    """A client to be used with `with`. Otherwise as `connect`."""
    return SyncClient(connect(endpoints, timeout=timeout, dial_timeout=dial_timeout, tls=tls))


class SyncClient:
    """As `Client`, which documents each method."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="chainfire-client", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """A second call does nothing."""
        if self._loop.is_closed():
            return
        self._run(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self._client.endpoints

    def put(self, key: Text, value: Text, *, lease: int = 0, previous: bool = False) -> PutOutcome:
        return self._run(self._client.put(key, value, lease=lease, previous=previous))

    def get(
        self,
        key: Text,
        *,
        revision: int = 0,
        consistency: Consistency = Consistency.LINEARIZABLE,
        min_revision: int = 0,
    ) -> KeyValue | None:
        return self._run(
            self._client.get(
                key, revision=revision, consistency=consistency, min_revision=min_revision
            )
        )

    def get_prefix(
        self,
        prefix: Text,
        *,
        limit: int = 0,
        revision: int = 0,
        consistency: Consistency = Consistency.LINEARIZABLE,
        min_revision: int = 0,
    ) -> Page:
        return self._run(
            self._client.get_prefix(
                prefix,
                limit=limit,
                revision=revision,
                consistency=consistency,
                min_revision=min_revision,
            )
        )

    def scan(self, prefix: Text, *, page_size: int = 500, revision: int = 0) -> Iterator[Page]:
        pages = self._client.scan(prefix, page_size=page_size, revision=revision)

        async def following() -> Page | None:
            return await anext(pages, None)

        while (page := self._run(following())) is not None:
            yield page

    def delete(self, key: Text, *, previous: bool = False) -> DeleteOutcome:
        return self._run(self._client.delete(key, previous=previous))

    def delete_prefix(self, prefix: Text, *, previous: bool = False) -> DeleteOutcome:
        return self._run(self._client.delete_prefix(prefix, previous=previous))

    def cas(
        self,
        key: Text,
        value: Text,
        *,
        expect: KeyValue | None = None,
        expect_version: int | None = None,
        expect_revision: int | None = None,
        expect_value: Text | None = None,
        expect_absent: bool = False,
        lease: int = 0,
    ) -> CasOutcome:
        return self._run(
            self._client.cas(
                key,
                value,
                expect=expect,
                expect_version=expect_version,
                expect_revision=expect_revision,
                expect_value=expect_value,
                expect_absent=expect_absent,
                lease=lease,
            )
        )

    def txn(
        self,
        compare: Sequence[kv_pb2.Compare],
        success: Sequence[Op] = (),
        failure: Sequence[Op] = (),
    ) -> TxnOutcome:
        return self._run(self._client.txn(compare, success, failure))

    def watch(
        self,
        key: Text,
        *,
        start_revision: int = 0,
        previous: bool = False,
        progress: bool = False,
    ) -> SyncWatch:
        return SyncWatch(
            self._client.watch(
                key, start_revision=start_revision, previous=previous, progress=progress
            ),
            self._run,
        )

    def watch_prefix(
        self,
        prefix: Text,
        *,
        start_revision: int = 0,
        previous: bool = False,
        progress: bool = False,
    ) -> SyncWatch:
        return SyncWatch(
            self._client.watch_prefix(
                prefix, start_revision=start_revision, previous=previous, progress=progress
            ),
            self._run,
        )

    def watch_range(
        self,
        key: Text,
        range_end: bytes,
        *,
        start_revision: int = 0,
        previous: bool = False,
        progress: bool = False,
    ) -> SyncWatch:
        return SyncWatch(
            self._client.watch_range(
                key, range_end, start_revision=start_revision, previous=previous, progress=progress
            ),
            self._run,
        )

    def compact(self, revision: int, *, physical: bool = False) -> None:
        self._run(self._client.compact(revision, physical=physical))

    def grant(self, ttl: float, *, lease: int = 0) -> Lease:
        return self._run(self._client.grant(ttl, lease=lease))

    def revoke(self, lease: int) -> None:
        self._run(self._client.revoke(lease))

    def keep_alive(self, lease: int) -> float:
        return self._run(self._client.keep_alive(lease))

    def lease_status(self, lease: int, *, keys: bool = False) -> LeaseStatus:
        return self._run(self._client.lease_status(lease, keys=keys))

    def leases(self) -> tuple[int, ...]:
        return self._run(self._client.leases())

    def session(self, ttl: float = TTL_SECONDS) -> SyncSession:
        return SyncSession(self._client.session(ttl), self._run)

    def leader(self, name: Text) -> KeyValue | None:
        return self._run(self._client.leader(name))

    def observe(self, name: Text) -> Iterator[KeyValue]:
        """Blocks between the leaders. Close it, or let it go, from the thread that reads it."""
        leaders = self._client.observe(name)

        async def following() -> KeyValue:
            return await anext(leaders)

        try:
            while True:
                yield self._run(following())
        finally:
            self._run(leaders.aclose())

    def status(self, endpoint: str = "") -> MemberStatus:
        return self._run(self._client.status(endpoint))

    def call(self, call: Call[R_co]) -> R_co:
        return self._run(self._client.call(call))

    def call_at(self, endpoint: str, call: Call[R_co]) -> R_co:
        return self._run(self._client.call_at(endpoint, call))

    def stream_at(self, endpoint: str, call: Call[R_co]) -> Iterator[R_co]:
        replies = self._client.stream_at(endpoint, call)

        async def following() -> R_co | None:
            return await anext(replies, None)

        while (reply := self._run(following())) is not None:
            yield reply

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C: the call must not go on behind the caller's back
            raise


class SyncWatch:
    """As `Watch`: `with client.watch(key) as watch: for changes in watch: …`"""

    def __init__(self, watch: Watch, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._watch = watch
        self._run = run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._run(self._watch.aclose())

    def request_progress(self) -> None:
        self._run(self._watch.request_progress())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Changes:
        """Blocks. What `Watch` raises; close it from the thread that reads it."""
        changes: Changes = self._run(self._watch.__anext__())
        return changes
