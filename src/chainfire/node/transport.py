"""Connections to all other members: who is let in, what is sent where, who is gone.

Three connections per direction, so that nothing small waits for anything big:

    urgent    elections, heartbeats, read rounds. Their delay is what elections are
              judged by, and a megabyte of entries before them on a slow line would
              look like a dead leader. Separate connections rather than a priority
              within one: what the kernel has taken cannot be overtaken any more.
    bulk      appends, their replies, forwarded commands
    snapshot  one at a time, dialled for it (snapshots.py)

A member sends only on what it dialled, so that two that dial each other at the
same time need not agree on one connection. What has no room, or no connection,
is dropped and reported: Raft sends again, the driver proposes again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from chainfire.config.urls import Url, parse_url
from chainfire.errors import ConfigError, Corrupt
from chainfire.node import frames, handshake
from chainfire.node.accepting import Accepting
from chainfire.node.dialer import Dialer, PeerDenied, dial_any
from chainfire.node.frames import BadFrame, Forward, Frame
from chainfire.node.handshake import Channel, Denial, Hello, Reason
from chainfire.node.link import Certificate, Link
from chainfire.node.peers import PeerHandler, PeerRegistry
from chainfire.node.peertls import PeerTls, PeerTlsFiles
from chainfire.node.records import RecordCache
from chainfire.node.roster import Roster
from chainfire.node.seldom import Seldom
from chainfire.node.snapshots import Snapshots
from chainfire.node.status import PeerStatistics, TransportStatistics
from chainfire.node.tlsdoor import TlsDoor
from chainfire.raft.messages import Message, MessageType

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
# Connections that the loop has not taken yet. Whoever finds this full dials in vain for a second;
# asyncio's 100 are full as soon as somebody knocks so often at once. The kernel may allow less.
BACKLOG = 1024
_APPEND, _APPEND_REPLY = MessageType.APPEND, MessageType.APPEND_REPLY


@dataclass(slots=True, frozen=True, kw_only=True)
class TransportLimits:
    bulk_bytes_max: int = 32 << 20  # waiting for one peer; then appends and forwards are dropped
    urgent_bytes_max: int = 1 << 20
    body_bytes_max: int = frames.FRAME_BYTES_MAX


class _Peer:
    def __init__(self, urgent: Dialer, bulk: Dialer) -> None:
        self.urgent = urgent
        self.bulk = bulk
        self.dropped = 0
        self.disconnects = 0
        self.met_start = 0  # start number of the process we last spoke with; 0: gone, or none yet
        self.is_unreachable = False  # to be told to the handler


class Transport:
    """Make it on the loop; `listen`, `set_peers`, then `send`; `aclose`."""

    def __init__(
        self,
        hello: Hello,
        handler: PeerHandler,
        registry: PeerRegistry,
        cache: RecordCache,
        *,
        snapshots: Snapshots,
        tls: PeerTlsFiles | None = None,
        limits: TransportLimits | None = None,
    ) -> None:
        """It owns `snapshots` from now on. Raises ConfigError for TLS files it cannot use."""
        self.hello = hello
        self._handler = handler
        self._registry = registry
        self._cache = cache
        self._limits = limits or TransportLimits()
        self._loop = asyncio.get_running_loop()
        self._tls = PeerTls(tls) if tls else None
        self._peers: dict[int, _Peer] = {}
        self._admission = asyncio.Lock()  # one at a time: what was met is read and then written
        self._snapshots = snapshots
        self._accepting = Accepting(self, self._limits.body_bytes_max)
        self._servers: list[asyncio.Server] = []
        self._tls_doors: list[TlsDoor] = []
        self._seldom = Seldom(self._loop.time)
        self._ending: set[asyncio.Task[None]] = set()  # dialers of peers that are no more
        self._sending: set[asyncio.Task[None]] = set()  # snapshots
        self._watch_due = self._loop.time() + WATCH_SECONDS
        self._watch_timer = self._loop.call_at(self._watch_due, self._watch)
        self._tell_scheduled = False
        self._closed = False

    # ── life ────────────────────────────────────────────────────────────────

    async def listen(self, urls: Sequence[str]) -> None:
        """Let members in on these. Raises ConfigError naming the URL that cannot be had."""
        for text in urls:
            url = parse_url(text)
            try:
                self._servers.append(await self._serve(url))
            except OSError as exc:
                raise ConfigError(f"cannot listen on {url}: {exc.strerror or exc}") from exc

    async def _serve(self, url: Url) -> asyncio.Server:
        knock: Callable[[], asyncio.Protocol] = self._accepting.knock
        if url.is_tls:
            context = self._tls.server if self._tls is not None else None
            if context is None:
                raise ConfigError(f"{url}: TLS needs peer-cert-file and peer-key-file")
            door = TlsDoor(context, self._accepting.make, self._turned_away_by_tls)
            self._tls_doors.append(door)
            knock = door.knock
        if url.is_unix:
            return await self._loop.create_unix_server(knock, url.path, backlog=BACKLOG)
        host = "127.0.0.1" if url.host == "localhost" else url.host
        return await self._loop.create_server(knock, host, url.port, backlog=BACKLOG)

    async def aclose(self) -> None:
        """Close everything; nothing is heard afterwards. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._watch_timer.cancel()
        for server in self._servers:
            server.close()
        peers = list(self._peers.values())
        self._peers.clear()
        for peer in peers:
            await peer.urgent.aclose()
            await peer.bulk.aclose()
        for door in self._tls_doors:
            await door.aclose()
        await self._accepting.aclose()
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._ending, *self._sending, return_exceptions=True)
        await self._snapshots.aclose()

    def set_peers(self, peers: Mapping[int, Sequence[str]]) -> None:
        """The other members and their peer URLs; who is not named is not spoken with any more."""
        assert self.hello.sender not in peers, "a member is not its own peer"
        for gone in sorted(set(self._peers) - set(peers)):
            peer = self._peers.pop(gone)
            for dialer in (peer.urgent, peer.bulk):
                task = self._loop.create_task(dialer.aclose())
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
            self._accepting.drop(gone)
        for id, texts in sorted(peers.items()):
            urls = [parse_url(text) for text in texts]
            known = self._peers.get(id)
            if known is not None:
                known.urgent.urls = known.bulk.urls = tuple(urls)
            else:
                self._peers[id] = _Peer(
                    self._dialer(id, Channel.URGENT, urls), self._dialer(id, Channel.BULK, urls)
                )

    def made_good(self, log_end: int) -> None:
        """What handshakes say about this member from now on; peers hear it at once."""
        self.hello = replace(self.hello, lost_data=False, log_end=log_end)
        for peer in self._peers.values():
            peer.urgent.redial()
            peer.bulk.redial()

    def _dialer(self, id: int, channel: Channel, urls: Sequence[Url]) -> Dialer:
        return Dialer(self, id, channel, urls, self._tls, self._limits.body_bytes_max)

    # ── sending ─────────────────────────────────────────────────────────────

    def send(self, to: int, frames_: Sequence[Frame]) -> None:
        """Never blocks. What cannot leave is dropped, and `unreachable` tells."""
        peer = self._peers.get(to)
        if peer is None:  # a membership change was faster than this message
            return
        urgent: list[bytes] = []
        bulk: list[bytes] = []
        for frame in frames_:
            if type(frame) is Message:
                kind = frame.type
                takes_bulk = kind is _APPEND or (
                    # One write with the forwarded commands where nothing waits there.
                    kind is _APPEND_REPLY and len(frames_) > 1 and _is_idle(peer.bulk)
                )
            else:
                takes_bulk = type(frame) is Forward
            (bulk if takes_bulk else urgent).append(frames.encode(frame, self._cache))
        if urgent:
            self._write(peer, peer.urgent, urgent, self._limits.urgent_bytes_max)
        if bulk:
            self._write(peer, peer.bulk, bulk, self._limits.bulk_bytes_max)

    def _write(self, peer: _Peer, dialer: Dialer, parts: list[bytes], bytes_max: int) -> None:
        link = dialer.link
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if link is not None and link.write(data, bytes_max):
            return
        peer.dropped += len(parts)
        peer.is_unreachable = True
        if not self._tell_scheduled:
            self._tell_scheduled = True
            self._loop.call_soon(self._tell_unreachable)

    def _tell_unreachable(self) -> None:
        self._tell_scheduled = False
        for id, peer in list(self._peers.items()):
            if peer.is_unreachable:
                peer.is_unreachable = False
                self._handler.unreachable(id)

    def send_snapshot(self, to: int, message: Message) -> None:
        """Make a checkpoint and send it; `snapshot_sent` tells how it ended."""
        assert message.snapshot is not None
        task = self._loop.create_task(self._send_snapshot(to, message))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send_snapshot(self, to: int, message: Message) -> None:
        arrived = False
        if to in self._peers:
            try:
                arrived = await self._snapshots.send(to, message, lambda: self._dial_once(to))
            except Corrupt as exc:
                self._handler.damaged(exc)
        self._handler.snapshot_sent(to, arrived)

    async def _dial_once(self, to: int) -> Link:
        """A connection for one snapshot. Raises what `dial_any` raises."""
        peer = self._peers.get(to)
        if peer is None:
            raise ConnectionAbortedError("no member any more")
        urls = peer.urgent.urls
        return (await dial_any(self, to, urls, Channel.SNAPSHOT, self._tls))[0]

    # ── receiving: what Accepting asks and tells ────────────────────────────

    def received(self, sender: int, bodies: list[bytes]) -> None:
        """Frames of a member that was let in. Raises BadFrame."""
        found: list[Frame] = []
        for body in bodies:
            frame = frames.decode(body, self._cache)
            if type(frame) is Message and (frame.sender != sender or frame.to != self.hello.sender):
                raise BadFrame(f"a message from {frame.sender:x} to {frame.to:x}")
            found.append(frame)
        self._handler.received(sender, found)

    def roster(self) -> Roster:
        """For somebody who wants to join."""
        return self._registry.roster(self.hello.cluster_id)

    def refusal(self, certificate: Certificate | None) -> str | None:
        return None if self._tls is None else self._tls.refusal(certificate)

    async def admit(self, expected: int, theirs: Hello) -> Denial | None:
        """Judge a hello; None when it may be spoken with, and is remembered. Any time may pass."""
        async with self._admission:
            mine = replace(self.hello, to=expected)
            met = self._registry.met(theirs.sender)
            denial = handshake.judge(
                mine,
                theirs,
                is_member=theirs.sender in self._peers,
                was_removed=self._registry.was_removed(theirs.sender),
                is_led=self._handler.hears_leader,
                met=met,
                met_speaks=met is not None and self._accepting.speaks(theirs.sender, met.life),
                applied=self._handler.applied(theirs.sender),
            )
            if denial is not None:
                return denial
            if handshake.is_news(theirs, met):
                await self._registry.meet(theirs.sender, handshake.met_of(theirs))
        if theirs.sender not in self._peers:  # removed while it was stored
            return Denial(Reason.STRANGER, f"member {theirs.sender:x} was removed a moment ago")
        return None

    def let_in(self, hello: Hello) -> None:
        """The peer dialled us and was welcomed."""
        peer = self._peers[hello.sender]
        self._connected(peer, hello, welcomed=False)
        peer.urgent.hurry()
        peer.bulk.hurry()

    def take_snapshot(self, link: Link, hello: Hello) -> None:
        self._snapshots.take(link, hello, self._handler.snapshot_received)

    def turned_away(self, address: str, hello: Hello | None, reason: str) -> None:
        """Somebody at our door was not let in."""
        who = f"{hello.sender:x}" if hello is not None else "unknown"
        if self._seldom.is_due((address.rpartition(":")[0], who)):
            log.warning(
                "refused a connection to the peer port",
                extra={"from": address, "peer": who, "detail": reason},
            )

    def _turned_away_by_tls(self, address: str, reason: str) -> None:
        self.turned_away(address, None, reason)

    # ── what dialers tell ───────────────────────────────────────────────────

    def up(self, peer: int, hello: Hello) -> None:
        known = self._peers.get(peer)
        if known is not None:
            self._connected(known, hello, welcomed=True)

    def _connected(self, peer: _Peer, hello: Hello, *, welcomed: bool) -> None:
        if peer.met_start == 0:
            log.info(
                "peer connected",
                extra={
                    "peer": f"{hello.sender:x}",
                    "start_number": hello.start_number,
                    "version": hello.version,
                },
            )
        elif hello.start_number > peer.met_start:
            self._gone(hello.sender, peer, "it was started again")
        peer.met_start = max(peer.met_start, hello.start_number)
        self._seldom.forget(hello.sender)
        self._handler.connected(hello.sender, hello, welcomed=welcomed)

    def lost(self, peer: int, channel: Channel, reason: Exception | None) -> None:
        known = self._peers.get(peer)
        if known is None:
            return
        known.disconnects += 1
        if self._seldom.is_due((peer, "lost", channel)):
            log.warning(
                "lost a connection to a peer",
                extra={
                    "peer": f"{peer:x}",
                    "channel": channel.name.lower(),
                    "detail": str(reason or "closed by the peer"),
                },
            )

    def refused(self, peer: int) -> None:
        known = self._peers.get(peer)
        if known is not None and known.met_start:
            self._gone(peer, known, "its port refuses connections")
        elif self._seldom.is_due(peer):
            log.info("waiting for a peer: nobody listens there", extra={"peer": f"{peer:x}"})

    def _gone(self, id: int, peer: _Peer, why: str) -> None:
        peer.met_start = 0
        log.info("peer is gone", extra={"peer": f"{id:x}", "detail": why})
        self._handler.gone(id)

    def denied(self, peer: int, exc: PeerDenied) -> None:
        if self._seldom.is_due((peer, exc.denial.reason)):
            log.warning(
                "not speaking with a peer" if exc.by_us else "a peer refuses this member",
                extra={"peer": f"{peer:x}", "detail": exc.denial.text},
            )
        known = self._peers.get(peer)
        if known is None:
            return
        if not exc.by_us:
            self._handler.denied(peer, exc.denial)
        elif exc.denial.reason is Reason.OTHER_INCARNATION and known.met_start:
            self._gone(peer, known, "it came back without its data")

    def failed(self, peer: int, reason: Exception) -> None:
        if self._seldom.is_due(peer):
            log.warning(
                "cannot reach a peer",
                extra={"peer": f"{peer:x}", "detail": str(reason) or type(reason).__name__},
            )

    # ── once a second ───────────────────────────────────────────────────────

    def _watch(self) -> None:
        now = self._loop.time()
        late, self._watch_due = now - self._watch_due, now + WATCH_SECONDS
        self._watch_timer = self._loop.call_at(self._watch_due, self._watch)
        # After a stall of our own, read first what has come meanwhile; judge the next time.
        if late < WATCH_SECONDS:
            for peer in self._peers.values():
                peer.urgent.watch(now)
                peer.bulk.watch(now)
            self._accepting.watch(now)
        if self._tls is not None:
            try:
                self._tls.refresh()
            except ConfigError as exc:
                if self._seldom.is_due("tls"):
                    log.warning("cannot read the peer certificate", extra={"detail": str(exc)})

    def statistics(self) -> TransportStatistics:
        peers = tuple(self._of(id, peer) for id, peer in sorted(self._peers.items()))
        return TransportStatistics(peers, self._snapshots.statistics())

    def _of(self, id: int, peer: _Peer) -> PeerStatistics:
        links = [dialer.link for dialer in (peer.urgent, peer.bulk)]
        return PeerStatistics(
            peer=id,
            is_up=None not in links,
            sent_bytes=peer.urgent.sent_bytes_total + peer.bulk.sent_bytes_total,
            received_bytes=self._accepting.received_bytes(id),
            dropped=peer.dropped,
            disconnects=peer.disconnects,
            waiting_bytes=sum(link.waiting_bytes for link in links if link is not None),
            round_trips=peer.urgent.round_trips.frozen(),
        )


def _is_idle(dialer: Dialer) -> bool:
    link: Link | None = dialer.link
    return link is not None and link.waiting_bytes == 0
