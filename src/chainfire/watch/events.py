"""What becomes of changes: events for the groups that they concern, and bodies of responses.

A body is a header and events; what differs between the watchers that are told
it is one short field in front (`event.prefix`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from chainfire.mvcc import rows
from chainfire.mvcc.ranges import HISTORY, KEYS, REVISIONS
from chainfire.mvcc.rows import DELETE
from chainfire.storage.staged import Change
from chainfire.watch.event import Event, Flags
from chainfire.watch.groups import Group

JOINED_BYTES_MAX: Final = 256 * 1024  # then the revision that follows begins a response of its own

_FRAGMENT: Final = b"\x38\x01"


# ── bodies ──────────────────────────────────────────────────────────────────


def bodies(
    events: Sequence[Event],
    flags: int,
    *,
    header: Callable[[int], bytes],
    revision: int = 0,
    fragment_bytes_max: int,
) -> list[bytes]:
    """Responses without their prefixes; a revision is in one of them only, unless fragmented.

    The header of each names the revision of its last event, that of the last
    one `revision`, if given.
    """
    found: list[bytes] = []
    parts: list[bytes] = []
    size, main = 0, events[0].main
    for event in events:
        if event.main != main:
            if size >= JOINED_BYTES_MAX:
                found += _split(parts, header(main), size, flags, fragment_bytes_max)
                parts, size = [], 0
            main = event.main
        field = event.encoded(flags)
        parts.append(field)
        size += len(field)
    found += _split(parts, header(revision or main), size, flags, fragment_bytes_max)
    return found


def _split(
    parts: list[bytes], header: bytes, size: int, flags: int, fragment_bytes_max: int
) -> list[bytes]:
    """As etcd's sendFragments: every piece but the last one says that more follows."""
    if not flags & Flags.FRAGMENT or len(header) + size < fragment_bytes_max or len(parts) < 2:
        return [b"".join((header, *parts))]
    found: list[bytes] = []
    piece: list[bytes] = []
    length = len(header)
    for part in parts:
        if piece and length + len(part) >= fragment_bytes_max:
            found.append(b"".join((header, _FRAGMENT, *piece)))
            piece, length = [], len(header)
        piece.append(part)
        length += len(part)
    found.append(b"".join((header, *piece)))
    return found


# ── the changes of a turn ───────────────────────────────────────────────────


def first_revision(changes: Sequence[Change]) -> int:
    """Of an entry's changes; 0 if it has none."""
    for family, key, _ in changes:
        if family == REVISIONS:
            return rows.change_main(key)
    return 0


def sort_out(
    changes: Sequence[Change],
    matching: Callable[[bytes], Sequence[Group]],
    touched: dict[Group, list[Event]],
) -> int:
    """Events of one applied entry, to the groups that they concern; its last revision.

    `changes` are the entry's rows in writing order (mvcc.changes): for each
    change the version before, the new one, and the row of `revisions`. Most
    entries are one revision; one that ends many leases is a revision for each.
    """
    row: bytes | None = None
    prev: bytes | None = None
    row_key = b""
    main = 0
    before: dict[bytes, bytes | None] = {}  # by row key: what was there before the revision
    may_repeat = len(changes) > 4
    for family, key, value in changes:
        if family == KEYS:
            row_key, row = key, value
        elif family == HISTORY:
            if value != rows.TOMBSTONE:
                prev = value
        elif family == REVISIONS:
            if may_repeat:  # of a key that is changed twice, the pair before both is told
                if rows.change_main(key) != main:
                    before.clear()
                prev = before.setdefault(row_key, prev)
            main = rows.change_main(key)
            groups = matching(row_key)
            if groups:
                assert value is not None
                note(_event(main, row_key, row, prev, value), groups, touched)
            prev = None
    return main


_UNWANTED: Final = (Flags.NO_PUT, Flags.NO_DELETE)  # by type


def note(event: Event, groups: Sequence[Group], touched: dict[Group, list[Event]]) -> None:
    """To those of the groups that want events of this type."""
    unwanted = _UNWANTED[event.type]
    for group in groups:
        if not group.flags & unwanted:
            touched.setdefault(group, []).append(event)


def _event(
    main: int, row_key: bytes, row: bytes | None, prev: bytes | None, change: bytes
) -> Event:
    before = None if prev is None else prev[rows.HISTORY_HEAD_BYTES :]
    type_, reason = change[1], change[2]
    key = row_key[rows.KEYSPACE_BYTES :]
    kv = None if type_ == DELETE or row is None else row[rows.ROW_HEAD_BYTES :]
    return Event(main, type_, reason, key, kv, before)
