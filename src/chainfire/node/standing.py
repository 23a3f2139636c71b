"""What a member may do in the cluster: all, follow without a vote, or nothing yet. Pure.

    WAITING     nothing is heard of the others, time stands still (`admission`)
    LOST        the same, and it has lost what it had acknowledged
    FOLLOWING   it has lost what it had acknowledged, and catches up: it takes what
                a leader sends and says what it holds now; it does not vote, nor stand;
                every read is a linearizable one, or it might show less than before
    FULL        all of it

A FOLLOWING member asks for a read index, as a linearizable read does. What it
had acknowledged and lost can have been committed only with the leader of its
term or an earlier one knowing of it; so once it has applied everything up to
an index that a leader, confirmed by a quorum, has named after the loss was
known there, it holds all that can ever have been committed with its help, and
is as good as any other.

    A, B, C. A leads, commits e with C, answers, and dies. C loses e. B lacks it.
    C without data is asked for its vote by B: granted, e would be gone.

So nobody but A can lead until C has e again. A vote that C gave and forgot is
never given twice: it goes on in the newest term that it, or a quorum's worth
of others, knows of, with its vote of that term used up (`RawNode.renounce`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from chainfire.errors import RequestError
from chainfire.node.frames import Frame
from chainfire.node.reads import ReadPending
from chainfire.raft.messages import Message, MessageType
from chainfire.raft.rawnode import RawNode

_ASKS_FOR_A_VOTE = frozenset({MessageType.VOTE, MessageType.PRE_VOTE})


class Stage(Enum):
    WAITING = "waiting"
    LOST = "lost"
    FOLLOWING = "following"
    FULL = "full"


class Standing:
    def __init__(self, raft: RawNode, stage: Stage) -> None:
        self._raft = raft
        self.stage = stage
        self._barrier: _Barrier | None = None
        raft.bar(stage is not Stage.FULL)

    @property
    def is_waiting(self) -> bool:
        return self.stage in (Stage.WAITING, Stage.LOST)

    @property
    def has_lost_data(self) -> bool:
        return self.stage in (Stage.LOST, Stage.FOLLOWING)

    @property
    def has_caught_up(self) -> bool:
        """A FOLLOWING member holds all that it can have acknowledged."""
        return self._barrier is not None and self._barrier.passed

    def heard(self, frames: Iterable[Frame]) -> Iterable[Frame]:
        """What may be acted on of what another member sends."""
        if self.stage is Stage.FULL:
            return frames
        if self.is_waiting:
            return ()
        return [f for f in frames if type(f) is not Message or f.type not in _ASKS_FOR_A_VOTE]

    def become_following(self, term: int) -> None:
        """`term`: the newest one that a vote of the past can have been for."""
        assert self.stage is Stage.LOST, self.stage
        self._raft.renounce(term)
        self.stage = Stage.FOLLOWING

    def become_full(self) -> None:
        self.stage = Stage.FULL
        self._barrier = None

    def tick(self, read: Callable[[ReadPending], bool], *, is_fit: bool) -> None:
        """`read` asks for a linearizable read; True: it may be made at once.

        `is_fit` to lead, as far as it does not depend on its stage.
        """
        self._raft.bar(self.stage is not Stage.FULL or not is_fit)
        if self.stage is Stage.FOLLOWING and (self._barrier is None or self._barrier.was_refused):
            self._barrier = _Barrier()
            if read(self._barrier):
                self._barrier.ready()


class _Barrier:
    """A ReadPending; whatever it is refused with, another one is asked for."""

    def __init__(self) -> None:
        self.passed = False
        self.was_refused = False

    @property
    def finished(self) -> bool:
        return False

    def ready(self) -> None:
        self.passed = True

    def refused(self, error: RequestError) -> None:
        self.was_refused = True
