"""Keeps one connection to a peer open: dial, handshake, watch, and dial again.

    WAITING   ──►  DIALLING  ──►  UP
       ▲  refused, denied, lost  │
       └─────────────────────────┘      at once after UP, else after a jittered, growing pause

Rules: nothing waits for a connection; what is sent while there is none is
dropped by the caller. A connection that is silent although pinged is half-open
and is given up. Whether a peer is dead is not decided here: `refused` tells
that its port was closed.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Protocol

from chainfire.config.urls import Url
from chainfire.errors import ConfigError
from chainfire.node import handshake
from chainfire.node.frames import BadFrame, framed
from chainfire.node.handshake import Channel, Denial, Hello
from chainfire.node.link import Link, Reader
from chainfire.node.peertls import PeerTls
from chainfire.node.roster import ROSTER_BYTES_MAX, Roster, decode_roster, encode_ask
from chainfire.node.status import ROUND_TRIP_BOUNDS_SECONDS, Times

CONNECT_SECONDS_MAX = 2.0
HANDSHAKE_SECONDS_MAX = 5.0
# Without an answer to a ping and without any byte taken off our hands. A bulk connection may have
# megabytes on their way, with the ping behind them.
SILENCE_SECONDS_MAX = {Channel.URGENT: 4.0, Channel.BULK: 10.0}
BACKOFF_SECONDS_FIRST = 0.05
BACKOFF_SECONDS_MAX = 1.0
DENIED_SECONDS = 2.0  # it takes an operator, or a membership change on its way


class State(Enum):
    WAITING = "waiting"
    DIALLING = "dialling"
    UP = "up"
    CLOSED = "closed"


class PeerDenied(Exception):
    """The peer does not speak with us, or is not who we were looking for."""

    def __init__(self, denial: Denial, *, by_us: bool) -> None:
        super().__init__(denial.text)
        self.denial = denial
        self.by_us = by_us


class DialerOwner(Protocol):
    """What a dialer asks and tells; the transport."""

    @property
    def hello(self) -> Hello: ...

    async def admit(self, expected: int, theirs: Hello) -> Denial | None:
        """Judge the one who answered, and remember it."""
        ...

    def up(self, peer: int, hello: Hello) -> None: ...

    def lost(self, peer: int, channel: Channel, reason: Exception | None) -> None:
        """A connection that was up is closed."""
        ...

    def refused(self, peer: int) -> None:
        """Nobody listens at the peer's addresses."""
        ...

    def denied(self, peer: int, exc: PeerDenied) -> None: ...

    def failed(self, peer: int, reason: Exception) -> None:
        """Dialling did not work for another reason."""
        ...


async def dial(
    owner: DialerOwner, peer: int, url: Url, channel: Channel, tls: PeerTls | None
) -> tuple[Link, Hello]:
    """A link whose handshake is done, read by nobody yet, and the peer's hello.

    Raises PeerDenied, BadFrame, OSError (ConnectionRefusedError among them) or TimeoutError.
    """
    async with asyncio.timeout(CONNECT_SECONDS_MAX):
        link = await _connect(url, tls, handshake.HELLO_BYTES_MAX)
    try:
        reader = Reader(link)
        mine = replace(owner.hello, to=peer, channel=channel)
        link.write(framed(handshake.encode_hello(handshake.HELLO, mine)))
        body = await reader.next(HANDSHAKE_SECONDS_MAX)
        if body[0] == handshake.DENIED:
            raise PeerDenied(handshake.decode_denial(body), by_us=False)
        theirs = handshake.decode_hello(handshake.WELCOME, body)
        async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
            denial = await owner.admit(peer, theirs)
        if denial is not None:
            raise PeerDenied(denial, by_us=True)
    except BaseException as exc:
        link.fail(exc if isinstance(exc, Exception) else ConnectionAbortedError())
        raise
    return link, theirs


async def _connect(url: Url, tls: PeerTls | None, body_bytes_max: int) -> Link:
    loop = asyncio.get_running_loop()

    def make() -> Link:
        return Link(_too_early, body_bytes_max)

    context = _context(url, tls)
    if url.is_unix:
        _, link = await loop.create_unix_connection(make, url.path, ssl=context)
    else:
        _, link = await loop.create_connection(make, url.host, url.port, ssl=context)
    return link


async def dial_any(
    owner: DialerOwner, peer: int, urls: Sequence[Url], channel: Channel, tls: PeerTls | None
) -> tuple[Link, Hello]:
    """`dial` to each URL in turn; refused only if all are."""
    failure: Exception | None = None
    for url in urls:
        try:
            return await dial(owner, peer, url, channel, tls)
        except PeerDenied:
            raise
        except (OSError, TimeoutError, BadFrame) as exc:
            if failure is None or not isinstance(exc, ConnectionRefusedError):
                failure = exc
    raise failure or ConnectionAbortedError(f"member {peer:x} has no peer URLs")


async def ask_roster(url: Url, tls: PeerTls | None) -> Roster:
    """The members, as the one knows them that is reached there.

    Raises BadFrame, OSError or TimeoutError.
    """
    async with asyncio.timeout(CONNECT_SECONDS_MAX):
        link = await _connect(url, tls, ROSTER_BYTES_MAX)
    try:
        link.write(framed(encode_ask()))
        return decode_roster(await Reader(link).next(HANDSHAKE_SECONDS_MAX))
    finally:
        link.close()


class Dialer:
    """One channel to one peer. Make it on the loop, `aclose` it."""

    def __init__(
        self,
        owner: DialerOwner,
        peer: int,
        channel: Channel,
        urls: Sequence[Url],
        tls: PeerTls | None,
        body_bytes_max: int,
    ) -> None:
        self.peer = peer
        self.channel = channel
        self.urls = tuple(urls)  # looked at when it is dialled next
        self.state = State.WAITING
        self.link: Link | None = None  # set while UP
        self.round_trips = Times(ROUND_TRIP_BOUNDS_SECONDS)  # of pings
        self.sent_bytes = 0  # over closed links; add the open one's
        self._owner = owner
        self._tls = tls
        self._body_bytes_max = body_bytes_max
        self._pings = 0
        self._pinged_at = 0.0
        self._progress_at = 0.0
        self._left_bytes = 0  # how much of what was sent has left this process
        self._again = asyncio.Event()  # cuts a pause short
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def sent_bytes_total(self) -> int:
        return self.sent_bytes + (self.link.sent_bytes if self.link is not None else 0)

    def hurry(self) -> None:
        """The peer has shown that it lives: dial now, if nothing is under way."""
        self._again.set()

    def redial(self) -> None:
        """What our hello said has changed: say it anew."""
        if self.link is not None:
            self.link.fail(ConnectionAbortedError("dialled anew, with other facts"))

    async def aclose(self) -> None:
        self.state = State.CLOSED
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self.link is not None:
            self.link.close()

    def watch(self, now: float) -> None:
        """Called about once a second: ping, and give up what is silent."""
        link = self.link
        if link is None:
            return
        left_bytes = link.sent_bytes - link.waiting_bytes
        if left_bytes != self._left_bytes or link.heard_at > self._progress_at:
            self._left_bytes, self._progress_at = left_bytes, now
        if self._pinged_at <= link.heard_at:
            self._pinged_at = self._progress_at = now
            self._pings += 1
            link.write(framed(handshake.encode_ping(handshake.PING, self._pings)))
        elif now - self._progress_at > SILENCE_SECONDS_MAX[self.channel]:
            link.fail(TimeoutError(f"no answer for {now - link.heard_at:.1f} s"))

    # ── the loop of its life ────────────────────────────────────────────────

    async def _run(self) -> None:
        backoff = 0.0
        while True:
            if backoff:
                await self._pause(backoff)
            self.state = State.DIALLING
            try:
                link, hello = await dial_any(
                    self._owner, self.peer, self.urls, self.channel, self._tls
                )
            except ConnectionRefusedError:
                self._owner.refused(self.peer)
                backoff = _longer(backoff)
            except PeerDenied as exc:
                self._owner.denied(self.peer, exc)
                backoff = DENIED_SECONDS
            except (OSError, TimeoutError, BadFrame, ConfigError) as exc:
                self._owner.failed(self.peer, exc)
                backoff = _longer(backoff)
            else:
                backoff = 0.0
                await self._stay_up(link, hello)

    async def _stay_up(self, link: Link, hello: Hello) -> None:
        link.consume = self._heard
        link.allow(self._body_bytes_max)
        self._pings, self._pinged_at, self._left_bytes = 0, 0.0, 0
        self.link, self.state = link, State.UP
        self._owner.up(self.peer, hello)
        reason: Exception | None = None
        try:
            reason = await asyncio.shield(link.closed)
        finally:
            self.link = None
            self.sent_bytes += link.sent_bytes
            link.close()
        self.state = State.WAITING
        self._owner.lost(self.peer, self.channel, reason)

    def _heard(self, bodies: list[bytes]) -> None:
        for body in bodies:
            if body[0] != handshake.PONG:
                raise BadFrame(f"an answer of kind {body[0]} on a connection that we send on")
            if handshake.decode_ping(body) == self._pings:
                now = asyncio.get_running_loop().time()
                self.round_trips.observe(now - self._pinged_at)

    async def _pause(self, seconds: float) -> None:
        self.state = State.WAITING
        self._again.clear()
        try:
            # Jitter: members that lost each other together do not dial in step.
            async with asyncio.timeout(seconds * random.uniform(0.5, 1.0)):
                await self._again.wait()
        except TimeoutError:
            return


def _context(url: Url, tls: PeerTls | None) -> ssl.SSLContext | None:
    if not url.is_tls:
        return None
    if tls is None:
        raise ConfigError(f"{url}: TLS needs peer-cert-file or peer-trusted-ca-file")
    return tls.client()


def _longer(backoff: float) -> float:
    return min(BACKOFF_SECONDS_MAX, max(BACKOFF_SECONDS_FIRST, 2 * backoff))


def _too_early(_: list[bytes]) -> None:
    raise BadFrame("bytes before the hello")
