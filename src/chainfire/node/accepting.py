"""The door for members: who dialled us, hello first, then frames.

    fresh ──hello──► judging ──welcome──► open        one per (member, channel), the newest
      └── 5 s, noise, ask ─┴──denied──► closed        who asks for the members gets them first

Rules: a stranger costs a bounded number of connections and bytes. While a
hello is judged, which may wait for a disk, nothing more is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

from chainfire.node import handshake
from chainfire.node.crowd import gives_way, host_of
from chainfire.node.frames import BadFrame, framed
from chainfire.node.handshake import Channel, Denial, Hello, Reason
from chainfire.node.link import Certificate, Link, address_of
from chainfire.node.roster import ASK, Roster, encode_roster, ensure_ask

HELLO_SECONDS_MAX = 5.0
FRESH_MAX = 64  # connections that have not been let in yet; then one gives way (`node.crowd`)
PONG_BYTES_MAX = 64 << 10  # waiting for somebody who pings and does not read
SILENCE_SECONDS_MAX = 15.0  # whoever dialled pings once a second
SPEAKS_SECONDS = 3.0  # heard so lately: its process runs


class AcceptingOwner(Protocol):
    """What the door asks and tells; the transport."""

    @property
    def hello(self) -> Hello: ...

    def roster(self) -> Roster: ...

    def refusal(self, certificate: Certificate | None) -> str | None:
        """Why who shows this certificate is not listened to, whatever he says."""
        ...

    async def admit(self, expected: int, theirs: Hello) -> Denial | None: ...

    def let_in(self, hello: Hello) -> None: ...

    def turned_away(self, address: str, hello: Hello | None, reason: str) -> None: ...

    def take_snapshot(self, link: Link, hello: Hello) -> None:
        """The connection was dialled to send one; it is the owner's from now on."""
        ...

    def received(self, sender: int, bodies: list[bytes]) -> None: ...


class Accepting:
    """Make it on the loop. `knock` is a protocol factory for servers."""

    def __init__(self, owner: AcceptingOwner, body_bytes_max: int) -> None:
        self._owner = owner
        self._body_bytes_max = body_bytes_max
        self._loop = asyncio.get_running_loop()
        self._fresh: dict[Link, tuple[float, str]] = {}  # since when, from which host; oldest first
        self._open: dict[tuple[int, Channel], Link] = {}
        self._lives: dict[int, int] = {}  # whose life's connections are open
        self._judging: dict[asyncio.Task[None], Link] = {}
        self._is_closed = False
        self._received_bytes: dict[int, int] = {}  # over closed links

    def knock(self) -> asyncio.Protocol:
        return _Knock(self.make)

    def make(self, address: str) -> Link:
        """A link for a connection from there."""
        link = Link(lambda bodies: self._on_hello(link, bodies), handshake.HELLO_BYTES_MAX)
        self._fresh[link] = self._loop.time(), host_of(address)
        link.closed.add_done_callback(lambda done: self._fresh_closed(link, done.result()))
        if self._is_closed:  # accepted a moment before the port was
            link.fail(ConnectionAbortedError("this member stops"))
        if len(self._fresh) > FRESH_MAX:
            place = gives_way([host for _, host in self._fresh.values()])
            given_up = list(self._fresh)[place]
            del self._fresh[given_up]
            given_up.fail(TimeoutError("too many connections wait to be let in"))
        return link

    def received_bytes(self, member: int) -> int:
        links = [link for (id, _), link in self._open.items() if id == member]
        return self._received_bytes.get(member, 0) + sum(link.received_bytes for link in links)

    def speaks(self, member: int, life: int) -> bool:
        """Whether that life of the member has a connection on which it was heard a moment ago."""
        if self._lives.get(member) != life:
            return False
        since = self._loop.time() - SPEAKS_SECONDS
        links = [link for (id, _), link in self._open.items() if id == member]
        return any(link.is_open and link.heard_at > since for link in links)

    def drop(self, member: int) -> None:
        """Close what this member has open."""
        for key in [key for key in self._open if key[0] == member]:
            self._open.pop(key).fail(ConnectionAbortedError("no member any more"))
        self._received_bytes.pop(member, None)
        self._lives.pop(member, None)

    def watch(self, now: float) -> None:
        """Called about once a second: give up who says nothing."""
        for link, (since, _) in list(self._fresh.items()):
            if now - since > HELLO_SECONDS_MAX:
                del self._fresh[link]
                self._owner.turned_away(link.address, None, "it did not say who it is")
                link.fail(TimeoutError("no hello"))
        for link in list(self._open.values()):
            if now - link.heard_at > SILENCE_SECONDS_MAX:
                link.fail(TimeoutError("silent"))

    async def aclose(self) -> None:
        self._is_closed = True
        judging = dict(self._judging)
        for link in [*self._fresh, *judging.values(), *self._open.values()]:
            link.fail(ConnectionAbortedError("this member stops"))
        for task in judging:
            task.cancel()
        await asyncio.gather(*judging, return_exceptions=True)

    # ── one connection ──────────────────────────────────────────────────────

    def _on_hello(self, link: Link, bodies: list[bytes]) -> None:
        if link not in self._fresh:  # given up a moment ago
            return
        refusal = self._owner.refusal(link.certificate)
        if refusal is not None:
            del self._fresh[link]
            self._owner.turned_away(link.address, None, refusal)
            link.fail(ConnectionRefusedError(refusal))
            return
        if bodies[0][0] == ASK:
            ensure_ask(bodies[0])
            link.write(framed(encode_roster(self._owner.roster())))
            link.close()
            return
        hello = handshake.decode_hello(handshake.HELLO, bodies[0])
        if len(bodies) > 1:
            raise BadFrame("frames before the welcome")
        del self._fresh[link]
        link.pause()
        link.consume = _nothing_yet
        task = self._loop.create_task(self._judge(link, hello))
        self._judging[task] = link
        task.add_done_callback(self._judging.pop)

    async def _judge(self, link: Link, hello: Hello) -> None:
        try:
            async with asyncio.timeout(HELLO_SECONDS_MAX):
                denial = await self._owner.admit(0, hello)
        except TimeoutError:
            denial = Denial(Reason.BUSY, "its disk is slow: what was met could not be stored")
        if denial is not None:
            link.write(framed(handshake.encode_denial(denial)))
            link.close()
            self._owner.turned_away(link.address, hello, denial.text)
            return
        mine = replace(self._owner.hello, to=hello.sender, channel=hello.channel)
        if not link.write(framed(handshake.encode_hello(handshake.WELCOME, mine))):
            return
        link.allow(self._body_bytes_max)
        if hello.channel is Channel.SNAPSHOT:
            self._owner.take_snapshot(link, hello)
        else:
            self._open_for(link, hello)
        link.resume()

    def _open_for(self, link: Link, hello: Hello) -> None:
        sender, key = hello.sender, (hello.sender, hello.channel)
        if self._lives.get(sender) != hello.life:  # what an earlier life said is over
            self._lives[sender] = hello.life
            for channel in Channel:
                before = self._open.get((sender, channel))
                if before is not None:
                    self._closed((sender, channel), before)
                    before.fail(ConnectionAbortedError("its process has ended"))
        old = self._open.get(key)
        if old is not None:  # it dialled anew, so it has given that one up
            self._closed(key, old)
            old.fail(ConnectionAbortedError("replaced by a newer connection"))
        self._open[key] = link
        link.consume = partial(self._heard, link, sender)
        link.closed.add_done_callback(lambda _: self._closed(key, link))
        self._owner.let_in(hello)

    def _heard(self, link: Link, sender: int, bodies: list[bytes]) -> None:
        found = []
        for body in bodies:
            if body[0] == handshake.PING:
                number = handshake.decode_ping(body)
                link.write(framed(handshake.encode_ping(handshake.PONG, number)), PONG_BYTES_MAX)
            else:
                found.append(body)
        if found and link.is_open:
            self._owner.received(sender, found)

    def _closed(self, key: tuple[int, Channel], link: Link) -> None:
        if self._open.get(key) is link:
            del self._open[key]
            total = self._received_bytes.get(key[0], 0)
            self._received_bytes[key[0]] = total + link.received_bytes

    def _fresh_closed(self, link: Link, reason: Exception | None) -> None:
        if self._fresh.pop(link, None) is not None and isinstance(reason, BadFrame):
            self._owner.turned_away(
                link.address,
                None,
                f"{reason}: no Chainfire member; clients belong to the client URLs",
            )


class _Knock(asyncio.Protocol):
    """Of a connection of which is not known yet where it comes from."""

    def __init__(self, make: Callable[[str], Link]) -> None:
        self._make = make

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        link = self._make(address_of(transport))
        transport.set_protocol(link)
        link.connection_made(transport)


def _nothing_yet(_: list[bytes]) -> None:
    raise BadFrame("frames before the welcome")
