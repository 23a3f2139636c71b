"""Does a member's disk still hold what the member had promised? Decided before anything is written.

A log ends where its records do not go on, so one that has lost its tail, or a
file, reads as an older one; and so does a RocksDB that has lost its WAL. So three
places that were written at different times are compared: the witness, `log/` and
`state/`. The order of writes makes five rules:

    1. log is synced, then the witness written, then others are told
       ->  the log holds at least the witness's last index, under its term,
           and at least its current term and vote;
    2. entries are applied only after our own log is synced
       ->  the log reaches at least state's applied index, and knows its term;
    3. state is synced, then `state_durable` written to the log
       ->  state's applied index is at least `state_durable`;
    4. the log's front is cut only up to `state_durable`
       ->  state's applied index is at least the truncated index;
    5. what is cut off the front is named
       ->  the log holds every entry behind the truncated index.

A member that breaks one has lost acknowledged data: it must not vote or serve.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace

from chainfire.errors import Damaged, DataDirMismatch
from chainfire.machine.rows import Position
from chainfire.node.logstore import (
    Identity,
    LogMeta,
    first_position,
    last_position,
    stored_term,
)
from chainfire.storage.backend import Reader
from chainfire.storage.witness import Promise

ADVICE = (
    "Do not serve from it. Restore the directory from a backup; or, to accept the loss and go on "
    "with what is left, start once with --force-new-cluster"
)


@dataclass(slots=True, frozen=True)
class Found:
    """What the disk holds."""

    meta: LogMeta
    first_index: int  # of the first record; one behind the last entry if there is none
    last_index: int
    last_term: int
    promised_term: int | None  # the log's at the witness's last index; None: it is not there
    state_applied: int
    state_term: int  # of the entry applied last
    applied_in_log: int | None  # the log's term at `state_applied`; None: it is not there


def without_log(applied: Position) -> Found:
    """What a disk holds that has no log beside its state."""
    return Found(LogMeta.none(), 1, 0, 0, None, applied.index, applied.term, None)


def look(log: Reader, promised: Promise | None, applied: Position, state_directory: str) -> Found:
    """What a disk holds: this log, and a state in this directory that has applied so much.

    Raises Corrupt, UnknownFormat.
    """
    meta = LogMeta.read(log)
    first_index = first_position(log, meta)
    last_index, last_term = last_position(log, meta)
    installing = meta.installing
    if installing is not None and installing.directory == state_directory:
        # The start finishes it: what the log still holds does not count any more.
        index, term = installing.index, installing.term
        meta = replace(meta, truncated_index=index, truncated_term=term, state_durable=index)
        first_index, last_index, last_term = index + 1, index, term
    return Found(
        meta,
        first_index,
        last_index,
        last_term,
        None if promised is None else stored_term(log, promised.last_index),
        applied.index,
        applied.term,
        stored_term(log, applied.index),
    )


def check_identity(expected: Identity, found: Identity, founders: Container[int]) -> None:
    """Raises DataDirMismatch when the directory is another cluster's or member's.

    `founders` are the ids of those that the command line names.
    """
    if found.cluster_id != expected.cluster_id:
        raise DataDirMismatch(
            f"the data directory belongs to cluster {found.cluster_id:x}, the command line "
            f"describes cluster {expected.cluster_id:x}; check --initial-cluster, "
            "--initial-cluster-token and --data-dir. If this is the member's own directory and "
            "the cluster has changed since it was founded, give --initial-cluster-state=existing"
        )
    if found.member_id == expected.member_id:
        return
    if found.member_id in founders:
        raise DataDirMismatch(
            f"the data directory belongs to member {found.member_id:x}, the command line "
            f"describes member {expected.member_id:x}; check --name, "
            "--initial-advertise-peer-urls and --data-dir"
        )
    raise DataDirMismatch(
        f"the data directory belongs to member {found.member_id:x}, which was added after the "
        f"cluster was founded; the command line describes {expected.member_id:x}, one of the "
        "founders. To start the one that was added, give --initial-cluster-state=existing; if "
        "the founder is meant, check --data-dir"
    )


def identity_of(promise: Promise) -> Identity:
    return Identity(promise.cluster_id, promise.member_id, promise.incarnation)


def losses(promised: Promise, found: Found) -> list[str]:
    """Every promise that the disk breaks, in words; empty means that nothing is missing."""
    meta = found.meta
    if meta.identity is None:
        return ["log/ is empty although this member has run before"]
    if meta.identity != identity_of(promised):
        return ["log/ and the witness belong to different members or directories"]
    return [*_lost_by_log(promised, found), *_lost_between(found)]


def _lost_by_log(promised: Promise, found: Found) -> Iterator[str]:
    meta, hard = found.meta, found.meta.hard_state
    if found.first_index > meta.truncated_index + 1:
        yield f"log/ misses entries {meta.truncated_index + 1} to {found.first_index - 1}"
    if found.last_index < promised.last_index:
        yield f"log/ ends at index {found.last_index}, {promised.last_index} was acknowledged"
    elif promised.last_index > meta.truncated_index and found.promised_term != promised.last_term:
        yield (
            f"log/ holds index {promised.last_index} with term {found.promised_term}, "
            f"term {promised.last_term} was acknowledged"
        )
    if hard.term < promised.term:
        yield f"log/ knows term {hard.term}, this member had reached {promised.term}"
    elif hard.term == promised.term and promised.vote and hard.vote != promised.vote:
        yield f"log/ has lost the vote for {promised.vote:x} in term {promised.term}"
    if meta.start_number < promised.start_number:
        yield f"log/ knows start number {meta.start_number}, the witness {promised.start_number}"


def _lost_between(found: Found) -> Iterator[str]:
    meta, applied = found.meta, found.state_applied
    if applied > found.last_index:
        yield f"log/ ends at index {found.last_index}, state/ has applied {applied}"
    elif applied > meta.truncated_index and found.applied_in_log != found.state_term:
        yield (
            f"log/ holds index {applied} with term {found.applied_in_log}, state/ has applied it "
            f"with term {found.state_term}"
        )
    durable = max(meta.state_durable, meta.truncated_index)
    if applied < durable:
        yield f"state/ has applied {applied}, {durable} was durable"


def damaged(lost: str) -> Damaged:
    """The refusal: what is lost, and what the operator can do."""
    return Damaged(f"this member's disk has lost data: {lost}. {ADVICE}")
