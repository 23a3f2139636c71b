"""A state that goes on as another cluster's: what a restored snapshot must not keep.

Keys, history, leases and the hash chain stay. Members become the new ones.
Command ids and removed members belong to the old cluster: the new members
count their starts and commands from the beginning. Alarms are raised anew.

`bump_revision` leaves a gap above all revisions that clients of the old
cluster may have seen after the snapshot was made; `mark_compacted` makes
watches and caches that stand below it notice (etcd#16028).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chainfire.errors import Damaged
from chainfire.machine import rows
from chainfire.machine.progress import KEY as GIANT
from chainfire.machine.rows import Position
from chainfire.mvcc.state import FAMILY as KEYSPACES
from chainfire.mvcc.state import KeyspaceState
from chainfire.proto.cluster_pb2 import Member
from chainfire.storage.backend import StorageBackend
from chainfire.types import ConfState

_ALL = b"\xff" * 16  # above every key of the small families, and behind every such prefix


def be_reborn(
    backend: StorageBackend,
    members: Sequence[Member],
    conf_state: ConfState,
    *,
    bump_revision: int = 0,
    mark_compacted: bool = False,
) -> Position:
    """In one batch, not synced. Every member that does it from the same state is the same.

    Returns where the state stands then. Raises what reading it raises.
    """
    assert bump_revision >= 0, bump_revision
    position = rows.read_position(backend)
    if backend.get(rows.FAMILY, GIANT) is not None:
        raise Damaged("it holds half of a large delete, and not the log that goes on with it")
    position = replace(position, revision=position.revision + bump_revision)
    batch = backend.batch()
    batch.put(rows.FAMILY, rows.APPLIED, rows.encode_position(position))
    batch.put(rows.FAMILY, rows.CONF_STATE, rows.encode_conf_state(conf_state))
    for prefix in (rows.SENDER, rows.REMOVED):
        batch.delete_range(rows.FAMILY, prefix, prefix + _ALL)
    batch.delete_range("members", b"", _ALL)
    batch.delete_range("alarms", b"", _ALL)
    for member in members:
        batch.put("members", rows.member_key(member.ID), rows.encode_member(member))
    if mark_compacted:
        for key, value in backend.iterate(KEYSPACES):
            state = KeyspaceState.decode(value)
            state.compacted = position.revision
            batch.put(KEYSPACES, key, state.encode())
    backend.write(batch)
    return position
