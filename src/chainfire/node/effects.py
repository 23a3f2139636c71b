"""What one turn of the driver asks of the shell: plain data, carried out in order of the fields."""

from __future__ import annotations

from dataclasses import dataclass, field

from chainfire.errors import RequestError
from chainfire.node.frames import Frame
from chainfire.node.reads import ReadPending
from chainfire.raft.messages import Message
from chainfire.types import Pending, Result


@dataclass(slots=True)
class Answer:
    """Somebody to be told something. Never changed; not frozen, as types.Entry."""

    pending: Pending
    result: Result | RequestError


@dataclass(slots=True)
class Effects:
    """Gathered by the driver's parts between two turns; `take` hands it out and begins anew."""

    frames: dict[int, list[Frame]] = field(default_factory=dict)  # to other members, in order
    snapshots: list[Message] = field(default_factory=list)  # to be sent; each one reported once
    sync: int | None = None  # make the log durable, then call synced() with this number
    answers: list[Answer] = field(default_factory=list)
    reads: list[ReadPending] = field(default_factory=list)  # the store may be read
    stalled: bool = False  # storage asked to wait: come back soon
    more: bool = False  # the turn was cut short: take another one at once
    told: bool = False  # and that only so that answers leave, and syncs begin, before an apply
    remind_after: float = 0.0  # call `remind` in so many seconds; 0: do not (`commits`, `readgate`)
    installed: bool = False  # a snapshot took the place of the whole state

    def send(self, to: int, frame: Frame) -> None:
        frames = self.frames.get(to)
        if frames is None:
            self.frames[to] = [frame]
        else:
            frames.append(frame)

    def take(self) -> Effects:
        taken = Effects(
            self.frames,
            self.snapshots,
            self.sync,
            self.answers,
            self.reads,
            self.stalled,
            self.more,
            self.told,
            self.remind_after,
            self.installed,
        )
        self.frames, self.snapshots, self.answers, self.reads = {}, [], [], []
        self.sync = None
        self.stalled = self.more = self.told = self.installed = False
        self.remind_after = 0.0
        return taken
