"""Snapshots between members: who sends, who receives, how far it is.

Nothing is stored for it; a checkpoint of `state/` is made when a
follower needs one. Sends share one pace, so that they do not crowd out what
members say to each other meanwhile. One is received at a time, the newest:
who offers another has given the one before up, or leads instead of its sender.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from chainfire.errors import Corrupt, StorageError
from chainfire.node import receiving, sending
from chainfire.node.dialer import PeerDenied
from chainfire.node.frames import BadFrame
from chainfire.node.handshake import Hello
from chainfire.node.link import Link, Reader
from chainfire.node.receiving import Look, ReceivingPlace
from chainfire.node.sending import Checkpoint, CheckpointPlace, NotTaken, Pace, Progress, Verify
from chainfire.node.status import (
    SNAPSHOT_BOUNDS_SECONDS,
    SnapshotStatistics,
    Times,
    TransferCounts,
    TransferStatistics,
)
from chainfire.node.transfer import BODY_BYTES_MAX, Outcome
from chainfire.raft.messages import Message
from chainfire.storage.backend import StorageBackend

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0
ABANDONED_SECONDS = 600.0  # what came of a snapshot that nobody goes on with is removed after it

_ENDINGS = (NotTaken, PeerDenied, BadFrame, StorageError, OSError, TimeoutError)


class SnapshotPlace(CheckpointPlace, ReceivingPlace, Protocol):
    """What is needed of `storage.datadir.DataDir`."""


class Snapshots:
    """Make it on the loop, `aclose` it. It closes no backend."""

    def __init__(
        self,
        place: SnapshotPlace,
        backend: StorageBackend,
        look: Look,
        verify: Verify,
        *,
        bytes_per_second: int,
    ) -> None:
        """`look` reads where a state directory stands, `verify` every row of a checkpoint.

        `bytes_per_second` bounds all sends.
        """
        self._place = place
        self._backend = backend
        self._look = look
        self._verify = verify
        self._loop = asyncio.get_running_loop()
        self._pace = Pace(bytes_per_second)
        self._sending: dict[int, Progress] = {}
        self._receiving: Progress | None = None
        self._taking: asyncio.Task[None] | None = None
        self._sent: dict[int, _Counts] = defaultdict(_Counts)  # by peer
        self._received: dict[int, _Counts] = defaultdict(_Counts)
        self._abandoned = self._loop.call_later(ABANDONED_SECONDS, self._remove_abandoned)

    async def aclose(self) -> None:
        self._abandoned.cancel()
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)

    def statistics(self) -> SnapshotStatistics:
        return SnapshotStatistics(
            sending=tuple(_frozen(p) for _, p in sorted(self._sending.items())),
            receiving=_frozen(self._receiving) if self._receiving is not None else None,
            sent=tuple(counts.frozen(peer) for peer, counts in sorted(self._sent.items())),
            received=tuple(counts.frozen(peer) for peer, counts in sorted(self._received.items())),
        )

    # ── sending ─────────────────────────────────────────────────────────────

    async def send(self, peer: int, message: Message, dial: Callable[[], Awaitable[Link]]) -> bool:
        """Whether it arrived. One at a time for each peer.

        Raises Corrupt: what this member holds is damaged, and nothing of it was sent.
        """
        if peer in self._sending:
            return False
        progress = self._sending[peer] = Progress(peer)
        started = self._loop.time()
        try:
            async with Checkpoint(self._place, self._backend) as checkpoint:
                await self._verify(checkpoint.path)
                link = await dial()
                try:
                    link.allow(BODY_BYTES_MAX)
                    note = _Notes("sending snapshot", progress)
                    await sending.send(link, message, checkpoint, self._pace, progress, note)
                finally:
                    link.close()
        except _ENDINGS as exc:
            self._sent[peer].failures += 1
            log.warning("snapshot not sent", extra=_facts(progress) | {"detail": _text(exc)})
            if isinstance(exc, Corrupt):
                raise
            return False
        finally:
            del self._sending[peer]
        seconds = self._loop.time() - started
        self._sent[peer].times.observe(seconds)
        log.info("sent snapshot", extra=_facts(progress) | {"took_ms": round(seconds * 1000)})
        return True

    # ── receiving ───────────────────────────────────────────────────────────

    def take(self, link: Link, hello: Hello, hand_over: Callable[[Message, Path], None]) -> None:
        """Receive on this connection; `hand_over` gets what is staged in the end."""
        before = self._taking
        if before is not None:
            before.cancel()
        reader = Reader(link)  # at once: it reads from now on
        self._taking = self._loop.create_task(
            self._take(link, reader, hello.sender, hand_over, before)
        )

    async def _take(
        self,
        link: Link,
        reader: Reader,
        peer: int,
        hand_over: Callable[[Message, Path], None],
        before: asyncio.Task[None] | None,
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._abandoned.cancel()
        progress = self._receiving = Progress(peer)
        started = self._loop.time()
        try:
            link.allow(BODY_BYTES_MAX)
            note = _Notes("receiving snapshot", progress)
            message, path = await receiving.receive(
                link, reader, self._place, self._look, progress, note
            )
        except asyncio.CancelledError:
            link.close()
            raise
        except (receiving.Refused, *_ENDINGS) as exc:
            self._received[peer].failures += 1
            receiving.answer(link, Outcome(arrived=False, text=_text(exc)))
            log.warning("snapshot not received", extra=_facts(progress) | {"detail": _text(exc)})
            self._abandoned = self._loop.call_later(ABANDONED_SECONDS, self._remove_abandoned)
            return
        finally:
            self._receiving = None
        seconds = self._loop.time() - started
        self._received[peer].times.observe(seconds)
        assert message.snapshot is not None
        log.info(
            "received snapshot",
            extra=_facts(progress)
            | {"index": message.snapshot.index, "took_ms": round(seconds * 1000)},
        )
        hand_over(message, path)
        receiving.answer(link, Outcome(arrived=True))

    def _remove_abandoned(self) -> None:
        self._loop.run_in_executor(
            None, lambda: shutil.rmtree(self._place.receiving_path, ignore_errors=True)
        )


class _Counts:
    """Of one peer, in one direction."""

    def __init__(self) -> None:
        self.failures = 0
        self.times = Times(SNAPSHOT_BOUNDS_SECONDS)

    def frozen(self, peer: int) -> TransferCounts:
        return TransferCounts(peer, self.failures, self.times.frozen())


class _Notes:
    """Says how far it is, from time to time."""

    def __init__(self, verb: str, progress: Progress) -> None:
        self._verb = verb
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._last = 0.0  # the first one at once

    def __call__(self) -> None:
        now = self._loop.time()
        if now - self._last >= LOG_SECONDS:
            self._last = now
            log.info(self._verb, extra=_facts(self._progress))


def _facts(progress: Progress) -> dict[str, object]:
    return {
        "peer": f"{progress.peer:x}",
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
    }


def _frozen(progress: Progress) -> TransferStatistics:
    return TransferStatistics(progress.peer, progress.bytes_total, progress.bytes_done)


def _text(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__
