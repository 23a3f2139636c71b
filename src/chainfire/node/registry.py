"""What a member remembers of the others, durably: under what it met them last. In `log/`.

Implements `peers.PeerRegistry`. Rows: docs/formats.md, "raft_meta", `met`.
"""

from __future__ import annotations

import asyncio
import struct

from chainfire.errors import Corrupt, Stalled, UnknownFormat
from chainfire.machine import Machine
from chainfire.node.handshake import Met
from chainfire.node.roster import Roster
from chainfire.node.standing import Stage
from chainfire.storage.backend import LogBackend, Reader, WriteBatch

STALL_RETRY_SECONDS = 0.01
_FAMILY = "raft_meta"
_PREFIX = b"met"
_ADMITTED = b"admitted"
_LOST_DATA = b"lost_data"
_KEY = struct.Struct(">Q")
_ROW = struct.Struct(">BQQQ")
_FORMAT = 1
_LOST_DATA_FORMAT = 2
_LOST_DATA_ROW = struct.Struct(">BQ")


class Registry:
    def __init__(self, backend: LogBackend, machine: Machine) -> None:
        """Raises UnknownFormat or Corrupt."""
        self._backend = backend
        self._machine = machine
        self._met: dict[int, Met] = {}
        for key, row in backend.iterate(_FAMILY, _PREFIX, _PREFIX + b"\xff" * 9):
            if row[:1] != bytes([_FORMAT]):
                raise UnknownFormat(f"raft_meta row met has format {row[:1].hex()}")
            if len(row) != _ROW.size or len(key) != len(_PREFIX) + _KEY.size:
                raise Corrupt(f"raft_meta row {key!r} has {len(row)} bytes, not {_ROW.size}")
            self._met[_KEY.unpack(key[len(_PREFIX) :])[0]] = Met(*_ROW.unpack(row)[1:])

    def met(self, member_id: int) -> Met | None:
        return self._met.get(member_id)

    async def meet(self, member_id: int, met: Met) -> None:
        row = _ROW.pack(_FORMAT, met.incarnation, met.start_number, met.life)
        while True:
            batch = self._backend.batch()
            batch.put(_FAMILY, _PREFIX + _KEY.pack(member_id), row)
            try:
                self._backend.write(batch)
                break
            except Stalled:
                await asyncio.sleep(STALL_RETRY_SECONDS)
        self._met[member_id] = met
        await asyncio.to_thread(self._backend.sync)

    def was_removed(self, member_id: int) -> bool:
        return member_id in self._machine.removed_members

    def roster(self, cluster_id: int) -> Roster:
        members = self._machine.members
        in_order = tuple(members[id_] for id_ in sorted(members))
        machine = self._machine
        return Roster(cluster_id, machine.applied_index, machine.conf_state, in_order)

    @property
    def was_admitted(self) -> bool:
        """Whether this directory may vote and acknowledge (`admission`)."""
        return self._backend.get(_FAMILY, _ADMITTED) is not None

    @property
    def has_lost_data(self) -> bool:
        """Whether this directory took the place of one that had lost data, and is not caught up."""
        return has_lost_data(self._backend)

    @property
    def stage(self) -> Stage:
        """In which this directory's member begins."""
        if self.was_admitted:
            return Stage.FULL
        return Stage.LOST if self.has_lost_data else Stage.WAITING

    def note_admitted(self) -> None:
        """Durable with the next sync of the log, that is, before anything is promised."""
        batch = self._backend.batch()
        write_admitted(batch)
        batch.delete(_FAMILY, _LOST_DATA)
        self._backend.write(batch)


def write_admitted(batch: WriteBatch) -> None:
    batch.put(_FAMILY, _ADMITTED, bytes([_FORMAT]))


def write_lost_data(batch: WriteBatch, members_known_at: int) -> None:
    """`members_known_at`: the index as of which an empty state/ names the members; 0: unknown."""
    batch.put(_FAMILY, _LOST_DATA, _LOST_DATA_ROW.pack(_LOST_DATA_FORMAT, members_known_at))


def has_lost_data(reader: Reader) -> bool:
    return reader.get(_FAMILY, _LOST_DATA) is not None


def members_known_at(reader: Reader) -> int:
    """What `write_lost_data` was told; 0 where it was not called. Raises UnknownFormat."""
    row = reader.get(_FAMILY, _LOST_DATA)
    if row is None or row == bytes([_FORMAT]):  # an earlier version's
        return 0
    if row[0] != _LOST_DATA_FORMAT or len(row) != _LOST_DATA_ROW.size:
        raise UnknownFormat(f"raft_meta row lost_data is {row.hex()}")
    return int(_LOST_DATA_ROW.unpack(row)[1])
