"""What one turn of the driver asks of the shell: plain data, carried out in order of the fields."""

from __future__ import annotations

from dataclasses import dataclass

from chainfire.errors import RequestError
from chainfire.node.frames import Frame
from chainfire.node.reads import ReadPending
from chainfire.raft.messages import Message
from chainfire.types import Pending, Result


@dataclass(slots=True, init=False)
class Answer:
    """Somebody to be told something. Never changed; not frozen, as types.Entry."""

    pending: Pending
    result: Result | RequestError

    def __init__(self, pending: Pending, result: Result | RequestError) -> None:
        self.pending = pending
        self.result = result


@dataclass(slots=True, init=False)
class Effects:
    """Gathered by the driver's parts between two turns; `take` hands it out and begins anew."""

    frames: dict[int, list[Frame]]  # to other members, in order
    snapshots: list[Message]  # to be sent; each one reported once
    sync: int | None  # make the log durable, then call synced() with this number
    answers: list[Answer]
    reads: list[ReadPending]  # the store may be read
    stalled: bool  # storage asked to wait: come back soon
    more: bool  # the turn was cut short: take another one at once
    told: bool  # and that only so that answers leave, and syncs begin, before an apply
    remind_after: float  # call `remind` in so many seconds; 0: do not (`commits`, `readgate`)
    installed: bool  # a snapshot took the place of the whole state

    def __init__(
        self,
        frames: dict[int, list[Frame]] | None = None,
        snapshots: list[Message] | None = None,
        sync: int | None = None,
        answers: list[Answer] | None = None,
        reads: list[ReadPending] | None = None,
        stalled: bool = False,
        more: bool = False,
        told: bool = False,
        remind_after: float = 0.0,
        installed: bool = False,
    ) -> None:
        self.frames = {} if frames is None else frames
        self.snapshots = [] if snapshots is None else snapshots
        self.sync = sync
        self.answers = [] if answers is None else answers
        self.reads = [] if reads is None else reads
        self.stalled = stalled
        self.more = more
        self.told = told
        self.remind_after = remind_after
        self.installed = installed

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
