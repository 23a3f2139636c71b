"""A directory that has lost data goes aside, and an empty one under the same identity in its place.

    rejoin      written, durably: who this is; from here on each start does the rest
    aside       log/, state-*, CURRENT, witness into damaged-NNNNNN/, which is never removed
    anew        an empty state/ that names the members, CURRENT, log/ with `lost_data`, witness
    rejoin      removed

The members it names may have changed since: each start asks the others
(`server.joining`), and calls `rename_members`, as long as the state is empty.

What the new directory may promise, and when: `node.admission`, `node.standing`.
Peers know its incarnation and start numbers. Where neither the log nor the
witness tells those, nobody can tell a lost disk from a foreign one: refused.
"""

from __future__ import annotations

import json
import logging
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

from chainfire.errors import Corrupt, Damaged, UnknownFormat
from chainfire.machine import bootstrap, rows
from chainfire.node.admission import is_quorum_without, leaves_quorum
from chainfire.node.frames import BadFrame
from chainfire.node.logstore import (
    Identity,
    LogMeta,
    write_hard_state,
    write_identity,
    write_start_number,
)
from chainfire.node.registry import has_lost_data, members_known_at, write_lost_data
from chainfire.node.roster import Roster, decode_roster, encode_roster
from chainfire.server.opened import Opened
from chainfire.storage.backend import LOG_FAMILIES, STATE_FAMILIES
from chainfire.storage.datadir import DataDir
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.wal import Wal
from chainfire.storage.witness import Promise, Witness
from chainfire.types import HardState
from chainfire.version import CLUSTER_VERSION

FORMAT: Final = 1
_CACHE_BYTES: Final = 8 << 20

log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True, kw_only=True)
class Rejoin:
    """Who begins anew, and what is known of its past."""

    identity: Identity
    start_number: int  # the highest known
    term: int  # the highest known
    roster: Roster
    aside: str
    reason: str


def may_rejoin(member_id: int, roster: Roster) -> bool:
    """Whether the others are a quorum without this member."""
    conf = roster.conf_state
    is_enough = leaves_quorum(len({*conf.voters, *conf.voters_outgoing}), 1)
    return is_enough and is_quorum_without({member_id}, conf)


def find(directory: DataDir, founders: Roster | None, reason: str) -> Rejoin | None:
    """What a damaged directory tells; None: too little, or there is no quorum to rejoin.

    `founders` serves where state/ cannot tell the members. Nothing is written.
    """
    promise, meta = _promise(directory), _log_meta(directory)
    known = {i for i in (_identity_of(promise), meta.identity) if i is not None}
    if len(known) != 1:
        return None
    identity = known.pop()
    roster, sender_start, applied_term = _state(directory, identity) or (founders, 0, 0)
    if (
        roster is None
        or roster.cluster_id != identity.cluster_id
        or not may_rejoin(identity.member_id, roster)
    ):
        return None
    return Rejoin(
        identity=identity,
        start_number=max(meta.start_number, promise.start_number if promise else 0, sender_start),
        term=max(meta.hard_state.term, promise.term if promise else 0, applied_term),
        roster=roster,
        aside=directory.next_damaged_name(),
        reason=reason,
    )


def begin(directory: DataDir, rejoin: Rejoin) -> None:
    """Write the file that makes this start, or the next ones, `finish`."""
    directory.write_rejoin(encode(rejoin))


def finish(directory: DataDir) -> None:
    """Where there is such a file: the old goes aside, the new is made. Raises Corrupt."""
    try:
        rejoin = decode(directory.rejoin_path.read_bytes())
    except FileNotFoundError:
        return
    except OSError as exc:
        raise Corrupt(f"{directory.rejoin_path} cannot be read: {exc.strerror}") from exc
    directory.put_aside(rejoin.aside)
    _make_state(directory, rejoin.roster)
    _make_log(directory, rejoin)
    Witness.create(directory.witness_path, _promise_of(rejoin)).close()
    directory.remove_rejoin()
    log.warning(
        "data was lost: the directory was put aside, this member begins anew",
        extra={"aside": rejoin.aside, "detail": rejoin.reason},
    )


def is_empty_handed(opened: Opened) -> bool:
    """Whether this directory was begun anew, and nothing has come from the others yet."""
    return has_lost_data(opened.log_backend) and opened.machine.applied_index == 0


def roster_of(opened: Opened) -> Roster:
    """Who the members are, as far as this directory tells."""
    machine = opened.machine
    known_at = machine.applied_index or members_known_at(opened.log_backend)
    members = tuple(machine.members.values())
    return Roster(opened.identity.cluster_id, known_at, machine.conf_state, members)


def rename_members(opened: Opened, roster: Roster) -> None:
    """Begin the empty state anew with these members; `opened` is of the past then: close it."""
    assert is_empty_handed(opened)
    batch = opened.log_backend.batch()
    write_lost_data(batch, roster.known_at)
    opened.log_backend.write(batch)
    opened.log_backend.sync()
    _make_state(opened.directory, roster)


# ── what is left ────────────────────────────────────────────────────────────


def _promise(directory: DataDir) -> Promise | None:
    with (
        suppress(OSError, Corrupt, UnknownFormat),
        closing(Witness.open(directory.witness_path)) as w,
    ):
        return w.promise
    return None


def _identity_of(promise: Promise | None) -> Identity | None:
    if promise is None:
        return None
    return Identity(promise.cluster_id, promise.member_id, promise.incarnation)


def _log_meta(directory: DataDir) -> LogMeta:
    with suppress(Corrupt, UnknownFormat, OSError):
        if Wal.exists(directory.log_path):
            with closing(Wal.open_read_only(directory.log_path, LOG_FAMILIES)) as backend:
                return LogMeta.read(backend)
    return LogMeta.none()


def _state(directory: DataDir, identity: Identity) -> tuple[Roster, int, int] | None:
    """The members, this member's newest start and the term, as applied; None: it cannot be read."""
    with suppress(Corrupt, Damaged, UnknownFormat, OSError):
        path = directory.current()
        if path is None:
            return None
        options = RocksOptions.state(_CACHE_BYTES)
        with closing(RocksBackend.open_read_only(path, STATE_FAMILIES, options)) as state:
            conf = rows.decode_conf_state(rows.required(state, rows.CONF_STATE))
            members = tuple(rows.read_members(state).values())
            sender = rows.read_senders(state).get(identity.member_id)
            position = rows.read_position(state)
        start_number = sender.start_number if sender is not None else 0
        roster = Roster(identity.cluster_id, position.index, conf, members)
        return roster, start_number, position.term
    return None


# ── what is made ────────────────────────────────────────────────────────────


def _make_state(directory: DataDir, roster: Roster) -> None:
    path = directory.next_state_path()
    options = RocksOptions.state(_CACHE_BYTES)
    with closing(RocksBackend(path, STATE_FAMILIES, options)) as backend:
        bootstrap(backend, roster.members, roster.conf_state, CLUSTER_VERSION)
    directory.switch(path)


def _make_log(directory: DataDir, rejoin: Rejoin) -> None:
    with closing(Wal(directory.log_path, LOG_FAMILIES)) as backend:
        batch = backend.batch()
        write_identity(batch, rejoin.identity)
        write_lost_data(batch, rejoin.roster.known_at)
        write_start_number(batch, rejoin.start_number)
        # The vote of that term may have been given to anybody: it is used up.
        write_hard_state(batch, HardState(rejoin.term, rejoin.identity.member_id, 0))
        backend.write(batch)
        backend.sync()


def _promise_of(rejoin: Rejoin) -> Promise:
    identity = rejoin.identity
    return Promise(
        cluster_id=identity.cluster_id,
        member_id=identity.member_id,
        incarnation=identity.incarnation,
        start_number=rejoin.start_number,
        last_index=0,
        last_term=0,
        term=rejoin.term,
        vote=identity.member_id,
    )


# ── the file ────────────────────────────────────────────────────────────────


def encode(rejoin: Rejoin) -> bytes:
    identity = rejoin.identity
    fields = {
        "format": FORMAT,
        "cluster_id": f"{identity.cluster_id:x}",
        "member_id": f"{identity.member_id:x}",
        "incarnation": f"{identity.incarnation:x}",
        "start_number": rejoin.start_number,
        "term": rejoin.term,
        "roster": encode_roster(rejoin.roster).hex(),
        "aside": rejoin.aside,
        "reason": rejoin.reason,
    }
    return json.dumps(fields, indent=1).encode() + b"\n"


def decode(text: bytes) -> Rejoin:
    """Raises Corrupt or UnknownFormat."""
    try:
        fields = json.loads(text)
        if fields["format"] != FORMAT:
            raise UnknownFormat(f"the file rejoin has format {fields['format']}")
        return Rejoin(
            identity=Identity(
                int(fields["cluster_id"], 16),
                int(fields["member_id"], 16),
                int(fields["incarnation"], 16),
            ),
            start_number=int(fields["start_number"]),
            term=int(fields["term"]),
            roster=decode_roster(bytes.fromhex(fields["roster"])),
            aside=str(fields["aside"]),
            reason=str(fields["reason"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, BadFrame) as exc:
        raise Corrupt(f"the file rejoin cannot be read: {exc}") from exc
