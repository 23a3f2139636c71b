"""The border between the shell and the transport: what each may ask of the other.

Rules of this file: contracts only. All of it is called on the event loop's
thread. The shell never waits for a peer, the transport never decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from chainfire.errors import Corrupt
from chainfire.node.frames import Frame
from chainfire.node.handshake import Denial, Hello, Met
from chainfire.node.roster import Roster
from chainfire.node.status import TransportStatistics
from chainfire.raft.messages import Message


class PeerHandler(Protocol):
    """What the shell hears. No call comes from within a call to the transport."""

    def received(self, sender: int, frames: Sequence[Frame]) -> None:
        """All that one read has brought, in order."""
        ...

    def connected(self, peer: int, hello: Hello, *, welcomed: bool) -> None:
        """A handshake is complete, once per connection; `hello` is the peer's.

        `welcomed`: we dialled, and the peer has stored our incarnation and
        start number and never met us under another incarnation.
        """
        ...

    def denied(self, peer: int, denial: Denial) -> None:
        """The peer does not speak with us; asked again later. FATAL_REASONS do not mend."""
        ...

    @property
    def hears_leader(self) -> bool:
        """Somebody leads: this member, or one that was heard within the election timeout."""
        ...

    def applied(self, peer: int) -> int:
        """The highest index that this peer is known to have applied, in whatever life; 0: none."""
        ...

    def unreachable(self, peer: int) -> None:
        """Something for this peer was dropped: it is not connected, or too much waits for it."""
        ...

    def gone(self, peer: int) -> None:
        """Its process has ended: closed and the reconnect refused, or met in a later start."""
        ...

    def snapshot_received(self, message: Message, path: Path) -> None:
        """The files are durable in a staged state directory, which is the shell's from now on.

        `message` is the SNAPSHOT for Raft; nothing is switched yet.
        """
        ...

    def damaged(self, error: Corrupt) -> None:
        """What was to be sent is not what was written."""
        ...

    def snapshot_sent(self, peer: int, arrived: bool) -> None:
        """How a `send_snapshot` ended; exactly one for each."""
        ...


class PeerRegistry(Protocol):
    """What this member remembers of ids, durably."""

    def met(self, member_id: int) -> Met | None:
        """None: never."""
        ...

    async def meet(self, member_id: int, met: Met) -> None:
        """Returns when it is stored durably; replaces what was remembered of the id."""
        ...

    def was_removed(self, member_id: int) -> bool:
        """Whether a membership change has removed this id."""
        ...

    def roster(self, cluster_id: int) -> Roster:
        """The members as far as known here."""
        ...


class PeerTransport(Protocol):
    """What the shell asks of the transport."""

    def set_peers(self, peers: Mapping[int, Sequence[str]]) -> None:
        """The other members and their peer URLs; who is not named is not spoken with any more."""
        ...

    def send(self, to: int, frames: Sequence[Frame]) -> None:
        """Never blocks. What cannot leave is dropped, and `unreachable` tells."""
        ...

    def send_snapshot(self, to: int, message: Message) -> None:
        """Make a checkpoint and send it; the SNAPSHOT arrives with the checkpoint's own position.

        `snapshot_sent` tells how it ended.
        """
        ...

    def made_good(self, log_end: int) -> None:
        """This member holds what it had lost, its log reaches so far: connections are made anew to
        say it."""
        ...

    def statistics(self) -> TransportStatistics: ...
    async def aclose(self) -> None: ...
