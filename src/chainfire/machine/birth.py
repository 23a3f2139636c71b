"""Rows of a state that no entry of the log writes.

bootstrap     the first ones of all
force_alone   the configuration of one member that goes on without the others
(`rebirth`    a state that goes on as another cluster's)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chainfire.machine import rows
from chainfire.machine.cluster import Cluster
from chainfire.machine.rows import Position
from chainfire.proto.cluster_pb2 import Member
from chainfire.storage.backend import StorageBackend
from chainfire.storage.staged import Staged
from chainfire.types import ConfState

_FIRST_REVISION: Final = 1  # of an empty store, as in etcd


def bootstrap(
    backend: StorageBackend,
    members: Sequence[Member],
    conf_state: ConfState,
    cluster_version: str,
    *,
    founded_at: int = 0,
) -> None:
    """Write, durably, the first rows of a new state directory: nothing applied yet.

    `founded_at` is the index, and term, of an entry that no log holds.
    """
    assert backend.get(rows.FAMILY, rows.APPLIED) is None, "bootstrapped twice"
    assert members
    batch = backend.batch()
    for member in members:
        batch.put("members", rows.member_key(member.ID), rows.encode_member(member))
    batch.put(rows.FAMILY, rows.CONF_STATE, rows.encode_conf_state(conf_state))
    version = rows.encode_cluster_version(cluster_version)
    batch.put(rows.FAMILY, rows.CLUSTER_VERSION, version)
    first = Position(founded_at, founded_at, _FIRST_REVISION, hash=0, leader_clock_ms=0)
    batch.put(rows.FAMILY, rows.APPLIED, rows.encode_position(first))
    backend.write(batch)
    backend.sync()


def force_alone(backend: StorageBackend, member_id: int) -> None:
    """Write a configuration of this member alone, not synced. A machine over it is done then.

    Raises Damaged, Corrupt or UnknownFormat.
    """
    staged = Staged(backend)
    Cluster(backend).apply_conf_change(ConfState(voters=(member_id,)), (), staged)
    batch = backend.batch()
    staged.drain_into(batch)
    backend.write(batch)
