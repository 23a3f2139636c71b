"""The words of a membership change, and their bytes in a log entry.

    format u8 = 1 ‖ transition u8 ‖ count u32 ‖ count × (kind u8 ‖ id u64) ‖ context

Empty data is the change that leaves a joint configuration. The core reads the
change and never the context; that belongs to whoever proposed it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from chainfire.errors import UnknownFormat

_HEAD = struct.Struct(">BBI")
_STEP = struct.Struct(">BQ")
_FORMAT = 1


class ChangeKind(IntEnum):
    ADD_VOTER = 0  # or promote a learner
    REMOVE = 1
    UPDATE = 2  # nothing for Raft; carries a context
    ADD_LEARNER = 3  # or demote a voter


class Transition(IntEnum):
    """Whether the change passes through a joint configuration, and who ends it (thesis §4.3)."""

    AUTO = 0  # joint only if more than one step; left automatically
    JOINT_IMPLICIT = 1  # always joint, left automatically
    JOINT_EXPLICIT = 2  # always joint, left by an empty change


@dataclass(slots=True, frozen=True)
class ChangeStep:
    kind: ChangeKind
    id: int


@dataclass(slots=True, frozen=True)
class ConfChange:
    """All steps take effect at once, when the entry is applied."""

    steps: tuple[ChangeStep, ...] = ()
    transition: Transition = Transition.AUTO
    context: bytes = b""

    @property
    def leaves_joint(self) -> bool:
        return not self.steps and self.transition is Transition.AUTO

    @property
    def enters_joint(self) -> bool:
        return self.transition is not Transition.AUTO or len(self.steps) > 1

    @property
    def auto_leave(self) -> bool:
        return self.transition is not Transition.JOINT_EXPLICIT

    def encode(self) -> bytes:
        if self == LEAVE_JOINT:
            return b""
        steps = [_STEP.pack(step.kind, step.id) for step in self.steps]
        return b"".join([_HEAD.pack(_FORMAT, self.transition, len(steps)), *steps, self.context])

    @classmethod
    def decode(cls, data: bytes) -> ConfChange:
        """Raises UnknownFormat when the bytes are of no format known here."""
        if not data:
            return LEAVE_JOINT
        try:
            form, transition, count = _HEAD.unpack_from(data)
            if form != _FORMAT:
                raise UnknownFormat(f"a membership change has format {form}, not {_FORMAT}")
            end = _HEAD.size + count * _STEP.size
            pairs = _STEP.iter_unpack(data[_HEAD.size : end])
            steps = tuple(ChangeStep(ChangeKind(kind), id) for kind, id in pairs)
            if len(steps) != count:
                raise ValueError(f"{len(steps)} steps, not {count}")
            return cls(steps, Transition(transition), data[end:])
        except (struct.error, ValueError) as exc:
            raise UnknownFormat(f"a membership change cannot be read: {exc}") from exc


LEAVE_JOINT = ConfChange()
