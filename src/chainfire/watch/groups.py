"""Watchers that are told the same, told together: groups, and the index that finds them.

All watchers of the same keys with the same flags form a group. What a group
hears is encoded once, and differs between its members by a prefix. An index
finds the groups that a changed key concerns: by exact key in a dict, by range
in a tree. A watcher that is in no group is told nothing for now.

Keys here are row keys (keyspace first), so that one index serves them all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from chainfire.mvcc import rows
from chainfire.mvcc.ranges import FROM_KEY, after_keyspace
from chainfire.types import Caster
from chainfire.watch.event import Event, Flags
from chainfire.watch.tree import RangeTree

FEW_LIKES: Final = 10  # groups; to look through them is cheaper than to look for fewer
Span = bytes | tuple[bytes, bytes]  # one row key; or lower <= row key < upper


class Outlet(Protocol):
    """Where a stream's responses go, in order. What was given is delivered, or the stream ends."""

    caster: Caster | None  # of the door, if it can
    address: int  # for the caster

    @property
    def room(self) -> int:
        """Bytes that it takes before its client has read some; nothing is given at 0 and below."""
        ...

    def post(self, body: bytes) -> None:
        """Send, without waiting."""
        ...


class Listener(Protocol):
    """Somebody inside this process who is told events as they are. Must not change the hub."""

    def heard(self, events: Sequence[Event]) -> None: ...

    def ended(self, compacted: int) -> None:
        """Nothing more comes: the revision to be told from is compacted."""
        ...


# Why keys may not be watched; "" if they may.
Permit = Callable[[tuple[Span, ...]], str]


class WatchStream:
    """The watchers of one stream. `watch.session` speaks its protocol, the hub owns its state."""

    __slots__ = ("blocked", "ended", "listener", "outlet", "permit", "watchers")

    def __init__(
        self,
        outlet: Outlet | None,
        *,
        listener: Listener | None = None,
        permit: Permit | None = None,
    ) -> None:
        self.outlet = outlet  # exactly one of the two is given
        self.listener = listener
        self.permit = permit  # None: everything
        self.watchers: dict[int, Watcher] = {}
        self.ended: set[int] = set()  # by a compaction; as in etcd they stay taken until cancelled
        self.blocked = False  # no room: its watchers are in no group


class Watcher:
    """Invariant: told of everything below `next`, or below its group's place if it is in one."""

    __slots__ = ("at", "flags", "group", "id", "next", "spans", "stream")

    def __init__(
        self, stream: WatchStream, id_: int, spans: tuple[Span, ...], flags: int, next_: int
    ) -> None:
        self.stream = stream
        self.id = id_
        self.spans = spans
        self.flags = flags
        self.next = next_  # the revision to be told from; counts while it is in no group
        self.group: Group | None = None
        self.at = 0  # its place among the group's members


class Group:
    """Watchers of the same keys with the same flags, who stand at the same place."""

    __slots__ = ("audience", "cohort", "flags", "members", "quiet", "spans")

    def __init__(self, cohort: Cohort, spans: tuple[Span, ...], flags: int) -> None:
        self.cohort = cohort
        self.spans = spans
        self.flags = flags
        self.members: list[Watcher] = []
        self.audience: Audience | None = None  # of `members`; made when it is needed
        self.quiet = True  # told nothing since progress was last told

    def join(self, watcher: Watcher) -> None:
        watcher.group, watcher.at, watcher.next = self, len(self.members), 0
        if self.members:
            self.members.append(watcher)
        else:
            self.members = [watcher]  # of exact size: most groups stay as they are
        self.audience = None

    def leave(self, watcher: Watcher) -> None:
        last = self.members.pop()
        if last is not watcher:
            self.members[watcher.at], last.at = last, watcher.at
        watcher.group, self.audience = None, None


class Audience:
    """A group's members by the way they are reached."""

    __slots__ = ("casts", "others")

    def __init__(self, members: Sequence[Watcher], prefix: Callable[[int], bytes]) -> None:
        targets: dict[Caster, list[bytes]] = {}
        self.others: list[Watcher] = []
        for watcher in members:
            outlet = watcher.stream.outlet
            if outlet is None or outlet.caster is None:
                self.others.append(watcher)
                continue
            target = outlet.caster.target(outlet.address, prefix(watcher.id))
            targets.setdefault(outlet.caster, []).append(target)
        self.casts = [(caster, b"".join(found), len(found)) for caster, found in targets.items()]


# ── indexes ─────────────────────────────────────────────────────────────────


class Cohort:
    """Groups that stand at the same place: all live ones, or those behind at one revision."""

    __slots__ = (
        "_exact",
        "_ranges",
        "keyspace",
        "members",
        "next",
        "reporting",
        "size",
        "wants_prev",
    )

    def __init__(self, keyspace: int, next_: int) -> None:
        self.keyspace = keyspace
        self.next = next_  # all that is older was told; of the live cohort the hub knows
        self.size = 0  # groups
        self.members = 0  # of all groups
        self.wants_prev = False  # some group does, or did
        self.reporting: dict[Group, None] = {}  # those with PROGRESS
        # A group that is alone, as most are, without the dict: it is memory for each idle watcher.
        self._exact: dict[bytes, Group | dict[Group, None]] = {}
        self._ranges: RangeTree[Group] = RangeTree()

    def matching(self, row_key: bytes) -> Sequence[Group]:
        """The groups that watch this key, each once."""
        found = self._exact.get(row_key, ())
        if self._ranges:
            others = self._ranges.containing(row_key)
            return [found, *others] if isinstance(found, Group) else [*found, *others]
        return (found,) if isinstance(found, Group) else tuple(found)

    def _at(self, row_key: bytes) -> Collection[Group]:
        found = self._exact.get(row_key, ())
        return (found,) if isinstance(found, Group) else found

    def _put_at(self, row_key: bytes, group: Group) -> None:
        found = self._exact.get(row_key)
        if found is None:
            self._exact[row_key] = group
        elif isinstance(found, Group):
            self._exact[row_key] = {found: None, group: None}
        else:
            found[group] = None

    def _remove_at(self, row_key: bytes, group: Group) -> None:
        found = self._exact[row_key]
        if isinstance(found, Group):
            del self._exact[row_key]
            return
        del found[group]
        if len(found) == 1:
            self._exact[row_key] = next(iter(found))

    def few_keys(self, count_max: int) -> Sequence[bytes]:
        """All row keys that are watched; none if they are more, or ranges."""
        return () if self._ranges or len(self._exact) > count_max else list(self._exact)

    def join(self, watcher: Watcher) -> None:
        """Into the group of its likes."""
        spans, flags = watcher.spans, watcher.flags
        for group in self._likes(spans):
            if group.flags == flags and group.spans == spans:
                break
        else:
            group = Group(self, spans, flags)
            self._add(group)
        # The same objects for all of them: a hundred thousand watchers may be alike.
        watcher.spans = group.spans
        group.join(watcher)
        self.members += 1

    def _likes(self, spans: Sequence[Span]) -> Collection[Group]:
        """Those among which a group of the same spans is, if there is one: few, if possible."""
        likes: Collection[Group] = ()
        for at, span in enumerate(spans):
            found = self._at(span) if isinstance(span, bytes) else self._ranges.at(*span)
            if not at or len(found) < len(likes):
                likes = found
            if len(likes) < FEW_LIKES:
                break
        return likes

    def _add(self, group: Group) -> None:
        for span in group.spans:
            if isinstance(span, bytes):
                self._put_at(span, group)
            else:
                self._ranges.add(*span, group)
        self.size += 1
        if group.flags & Flags.PREV_KV:
            self.wants_prev = True
        if group.flags & Flags.PROGRESS:
            self.reporting[group] = None

    def leave(self, watcher: Watcher) -> None:
        """It is in a group of this cohort."""
        group = watcher.group
        assert group is not None and group.cohort is self
        group.leave(watcher)
        self.members -= 1
        if not group.members:
            self._drop(group)

    def _drop(self, group: Group) -> None:
        self.size -= 1
        self.reporting.pop(group, None)
        for span in group.spans:
            if isinstance(span, bytes):
                self._remove_at(span, group)
            else:
                self._ranges.remove(*span, group)

    def adopt(self, group: Group) -> None:
        """A group that was in another cohort, with all its members."""
        self.members += len(group.members)
        for other in self._likes(group.spans):
            if other.flags == group.flags and other.spans == group.spans:
                other.quiet = other.quiet and group.quiet
                for watcher in group.members:
                    other.join(watcher)
                return
        group.cohort = self
        self._add(group)

    def pop(self) -> Group:
        """Take some group out, with all its members."""
        if self._exact:
            key, found = self._exact.popitem()  # as a dict's first items it would be slow
            group = found if isinstance(found, Group) else next(reversed(found))
            self._exact[key] = found
        else:
            some = self._ranges.any()
            assert some is not None, "an empty cohort"
            group = some
        self._drop(group)
        self.members -= len(group.members)
        return group


# ── which keys ──────────────────────────────────────────────────────────────


def span_of(keyspace: int, key: bytes, range_end: bytes) -> Span | None:
    """One key or range as clients give it; None if it is empty."""
    space = rows.keyspace_prefix(keyspace)
    if not range_end:
        return space + key
    if range_end == FROM_KEY:
        return (space + key, after_keyspace(space))
    if range_end <= key:
        return None
    return (space + key, space + range_end)


def united(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The same keys, none of them in two spans."""
    ranges: list[tuple[bytes, bytes]] = []
    for lower, upper in sorted(span for span in spans if isinstance(span, tuple)):
        if ranges and lower <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], upper))
        else:
            ranges.append((lower, upper))
    lowers = [lower for lower, _ in ranges]
    alone: list[Span] = []
    for key in sorted({span for span in spans if isinstance(span, bytes)}):
        at = bisect_right(lowers, key) - 1
        if at < 0 or key >= ranges[at][1]:
            alone.append(key)
    return (*alone, *ranges)
