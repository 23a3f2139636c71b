"""All watchers of a member, and what each still has to be told.

A watcher that is told of changes is in one of these places, and moves between
them between two turns of the machine:

    live      told of every turn's changes as soon as they are written
    behind    in a cohort: all that stand at the same revision; told from the
              store (mvcc.history, mvcc.versions), a slice at a time
    future    its start revision is not reached yet
    parked    its stream's client reads too slowly: told nothing until it has
              read; then behind, or live if nothing has happened
    initial   told what there is before it is told what changes

`revision` is what the live ones were told up to. A watcher moves on only as
far as all that it is concerned by was given to its stream's outlet, and a
stream's responses leave in order; so "all up to r was told" may be said of a
live watcher at any time between two turns.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from chainfire.errors import Compacted
from chainfire.mvcc.history import Changes, Limits, change_steps
from chainfire.mvcc.read import Steps
from chainfire.mvcc.rows import keyspace_prefix
from chainfire.mvcc.versions import key_change_steps
from chainfire.storage.staged import Change
from chainfire.watch.behind import Behind, keyspace_of
from chainfire.watch.event import Event, prefix
from chainfire.watch.events import bodies, first_revision, note, sort_out
from chainfire.watch.future import NEVER, Future
from chainfire.watch.groups import Audience, Cohort, Group, Span, Watcher, WatchStream
from chainfire.watch.initial import Initial, Source
from chainfire.watch.responses import canceled_fields, compacted_fields

CAST_MEMBERS_MIN: Final = 4  # of smaller groups each member is told by itself
ROWS_PER_CHUNK: Final = 1000  # walked before a cohort is told what was found
BYTES_PER_CHUNK: Final = 1 << 20
ROWS_PER_SLICE: Final = 200
FAR: Final = 2 * ROWS_PER_CHUNK  # revisions; then a few keys are followed by their own versions
FEW_KEYS: Final = 20
GROUPS_PER_SLICE: Final = 100
_ALL_KEYSPACES: Final = -1


@dataclass(slots=True, frozen=True)
class WatchStatistics:
    """What metrics pull."""

    streams: int
    watchers: int
    slow_watchers: int  # those that are not live
    events: int  # told, counted once for each watcher
    pending_events: int  # none ever waits: who is slow is told from the store


class Hub:
    """One for a member; used on the machine's thread."""

    def __init__(
        self,
        source: Source,
        revision: int,
        *,
        header: Callable[[int], bytes],
        run: Callable[[Generator[None, None, None]], None],
        may_read: Callable[[], bool],
        catch_up: Callable[[], None],
        fragment_bytes_max: int,
    ) -> None:
        """`header` makes the field of a response, given its revision; `run` drives sliced work.

        `may_read`: whether the store is at one revision, not between two of them. `catch_up`
        brings it, and this hub, to all that callers were told of.
        """
        self.revision = revision
        self._source = source
        self.header = header
        self._run = run
        self._may_read = may_read
        self._catch_up = catch_up
        self._fragment_bytes_max = fragment_bytes_max
        self._live = Cohort(_ALL_KEYSPACES, 0)
        self._behind = Behind()
        self._replaying = False
        self._future = Future()
        self._initials: dict[Watcher, Initial] = {}
        self._full: dict[WatchStream, None] = {}  # to be blocked at the end of this dispatch
        self._streams: dict[WatchStream, None] = {}
        self._watchers = 0
        self._events = 0

    def statistics(self) -> WatchStatistics:
        live = self._live.members
        return WatchStatistics(
            streams=len(self._streams),
            watchers=self._watchers,
            slow_watchers=self._watchers - live,
            events=self._events,
            pending_events=0,
        )

    # ── streams and watchers ────────────────────────────────────────────────

    def open(self, stream: WatchStream) -> None:
        """A stream without watchers; it owes a `close`."""
        self._streams[stream] = None

    def close(self, stream: WatchStream) -> None:
        """Forget the stream and all its watchers."""
        del self._streams[stream]
        stream.blocked = True
        for watcher in list(stream.watchers.values()):
            self.cancel(watcher)

    def add(
        self, stream: WatchStream, id_: int, spans: tuple[Span, ...], flags: int, start: int
    ) -> Watcher:
        """A new watcher from `start` on (0 = from now); it owes a `begin`."""
        assert id_ not in stream.watchers, id_
        self._catch_up()
        watcher = Watcher(stream, id_, spans, flags, start or self.revision + 1)
        stream.watchers[id_] = watcher
        self._watchers += 1
        return watcher

    def begin(self, watcher: Watcher, initial: Initial | None = None) -> None:
        """Tell it from now on; `initial` first."""
        if initial is not None:
            self._initials[watcher] = initial
        self._place(watcher)
        self._replay_if_needed()

    def initial(self, spans: tuple[Span, ...], flags: int) -> Initial:
        """What there is now, for a watcher that was added now."""
        return Initial(self._source, spans, flags, self.revision, self.header(self.revision))

    def cancel(self, watcher: Watcher) -> None:
        """Tell it nothing more."""
        if self._forget(watcher):
            self._leave(watcher)

    def _forget(self, watcher: Watcher) -> bool:
        stream = watcher.stream
        if stream.watchers.get(watcher.id) is not watcher:
            return False
        del stream.watchers[watcher.id]
        self._initials.pop(watcher, None)
        self._future.discard(watcher)
        self._watchers -= 1
        return True

    def is_live(self, stream: WatchStream) -> bool:
        """Whether all its watchers were told of everything up to `revision`; it has some."""
        live = self._live
        return bool(stream.watchers) and all(
            watcher.group is not None and watcher.group.cohort is live
            for watcher in stream.watchers.values()
        )

    # ── moving ──────────────────────────────────────────────────────────────

    def _place(self, watcher: Watcher) -> None:
        """A watcher that is in no group, to where it belongs."""
        assert watcher.group is None
        if watcher.stream.blocked:
            return
        initial = self._initials.get(watcher)
        if initial is not None:
            self._run(self._tell_initial(watcher, initial))
        elif watcher.next == self.revision + 1:
            self._live.join(watcher)
        elif watcher.next <= self.revision:
            self._behind.at(keyspace_of(watcher.spans), watcher.next).join(watcher)
        else:
            self._future.add(watcher)

    def _leave(self, watcher: Watcher) -> None:
        """Out of its group, with `next` where the group stands."""
        group = watcher.group
        if group is None:
            return
        cohort = group.cohort
        watcher.next = self.revision + 1 if cohort is self._live else cohort.next
        cohort.leave(watcher)
        if not cohort.size and cohort is not self._live:
            self._behind.discard(cohort)

    def _arrive(self) -> None:
        """Those of the future whose time has come."""
        for watcher in self._future.take(self.revision + 1):
            self._place(watcher)

    def block(self, stream: WatchStream) -> None:
        """Its outlet has no room: tell it nothing until `unblock`."""
        stream.blocked = True
        for watcher in stream.watchers.values():
            self._leave(watcher)

    def unblock(self, stream: WatchStream) -> None:
        """There is room again."""
        if not stream.blocked:
            return
        stream.blocked = False
        for watcher in list(stream.watchers.values()):
            if watcher.group is None:
                self._place(watcher)
        self._replay_if_needed()

    def _block_full(self) -> None:
        full = self._full
        while full:
            self.block(full.popitem()[0])

    # ── told live ───────────────────────────────────────────────────────────

    @property
    def wants_changes(self) -> bool:
        """Whether `applied` needs its changes: there is somebody to be told of them."""
        return self._live.size > 0 or self._future.first < NEVER

    def applied(self, changes: Sequence[Sequence[Change]], revision: int) -> None:
        """What the entries of a turn have changed, in their order; it is written."""
        wanted = self.wants_changes and revision > self.revision
        if wanted and not self._tell_live(changes, revision):
            self.restored(revision)
            return
        self.revision = revision
        if self._full:
            self._block_full()
        self._arrive()
        self._replay_if_needed()

    def _tell_live(self, changes: Sequence[Sequence[Change]], revision: int) -> bool:
        """False where some revision is missing: it is in the store only. Told was `self.revision`.

        Whoever starts in the midst of a turn is live from there on: in the store it may be
        compacted by the same turn.
        """
        first = last = self.revision + 1
        starts = self._future.first
        touched: dict[Group, list[Event]] = {}
        for entry in changes:
            begins = first_revision(entry)
            if begins:
                if begins != last:
                    return False
                if starts <= begins:
                    self._tell_touched(touched, first)
                    first, touched, self.revision = begins, {}, begins - 1
                    self._arrive()
                    starts = self._future.first
                last = sort_out(entry, self._live.matching, touched) + 1
        if last != revision + 1:
            return False
        self._tell_touched(touched, first)
        return True

    def _tell_touched(self, touched: dict[Group, list[Event]], first: int) -> None:
        for group, events in touched.items():
            self._tell(group, events, 0, again_from=first)

    def restored(self, revision: int) -> None:
        """The store is at `revision`, by a snapshot perhaps: who was live is behind.

        Nothing is lost: they are told from the store.
        """
        assert revision >= self.revision, (revision, self.revision)
        groups = []
        while self._live.size:
            groups.append(self._live.pop())
        for group in groups:
            self._behind.at(keyspace_of(group.spans), self.revision + 1).adopt(group)
        self.revision = revision
        self._arrive()
        self._replay_if_needed()

    def _tell(
        self, group: Group, events: Sequence[Event], revision: int, *, again_from: int
    ) -> None:
        """Give the events to all members, but those whose stream is full: they begin anew there."""
        group.quiet = False
        self._events += len(events) * len(group.members)
        self._give(
            group,
            bodies(
                events,
                group.flags,
                header=self.header,
                revision=revision,
                fragment_bytes_max=self._fragment_bytes_max,
            ),
            events,
            again_from,
        )

    def _give(
        self, group: Group, found: Sequence[bytes], events: Sequence[Event], again_from: int
    ) -> None:
        others = group.members
        if len(others) >= CAST_MEMBERS_MIN:
            audience = group.audience
            if audience is None:
                audience = group.audience = Audience(others, prefix)
            for caster, targets, count in audience.casts:
                for body in found:
                    caster.cast(targets, count, body)
            others = audience.others
        for watcher in others if len(others) < 2 else list(others):
            stream = watcher.stream
            outlet = stream.outlet
            if outlet is None:
                assert stream.listener is not None
                stream.listener.heard(events)
                continue
            if outlet.room > 0:
                front = prefix(watcher.id)
                for body in found:
                    outlet.post(front + body)
            else:
                self._leave(watcher)
                watcher.next = again_from
            if outlet.room <= 0:
                self._full[stream] = None

    # ── told from the store ─────────────────────────────────────────────────

    def _replay_if_needed(self) -> None:
        if self._behind and not self._replaying:
            self._replaying = True
            self._run(self._replay())

    def _replay(self) -> Steps[None]:
        """A portion for each cohort in turn, until none is left."""
        try:
            while (cohort := self._behind.take()) is not None:
                yield from self._advance(cohort)
                yield
        finally:
            self._replaying = False

    def _advance(self, cohort: Cohort) -> Steps[None]:
        """Tell a cohort the next portion. It is taken out: nobody joins it while it is read."""
        start = cohort.next
        found = None
        with suppress(Compacted):
            found = yield from self._changes_for(cohort)
        if found is None:
            yield from self._end_compacted(cohort)
            return
        touched: dict[Group, list[Event]] = {}
        space = keyspace_prefix(cohort.keyspace)
        for change in found.changes:
            event = Event(
                change.main, change.type, change.reason, change.key, change.row, change.prev
            )
            note(event, cohort.matching(space + change.key), touched)
        # No pause from here on: who leaves now leaves from where the cohort stands.
        for group, events in touched.items():
            self._tell(group, events, found.next_revision - 1, again_from=start)
        cohort.next = found.next_revision
        self._block_full()
        yield from self._settle(cohort)

    def _changes_for(self, cohort: Cohort) -> Steps[Changes]:
        """The next portion of what has changed from where the cohort stands."""
        start, store = cohort.next, self._source.store
        # Up to the next cohort, which it then joins: each revision is read once for all.
        stop = min(self._behind.above(cohort), self.revision + 1)
        limits = Limits(cohort.wants_prev, ROWS_PER_CHUNK, BYTES_PER_CHUNK, ROWS_PER_SLICE)
        if stop - start > FAR and start > store.keyspace(cohort.keyspace).compacted:
            keys = cohort.few_keys(FEW_KEYS)
            if keys:
                return (
                    yield from key_change_steps(
                        store.view, store, cohort.keyspace, start, stop, keys, limits
                    )
                )
        return (
            yield from change_steps(
                store.view, store, cohort.keyspace, start, stop, cohort.matching, limits
            )
        )

    def _settle(self, cohort: Cohort) -> Steps[None]:
        """A cohort that was taken out, to where it stands now."""
        moved = 0
        while cohort.size and cohort.next == self.revision + 1:
            self._live.adopt(cohort.pop())
            moved += 1
            if moved % GROUPS_PER_SLICE == 0:
                yield
        if cohort.size:
            self._behind.put(cohort)

    def _end_compacted(self, cohort: Cohort) -> Steps[None]:
        while cohort.size:
            group = cohort.pop()
            for watcher in list(group.members):
                group.leave(watcher)
                self._end(watcher, cohort.keyspace)
            yield

    def _end(self, watcher: Watcher, keyspace: int) -> None:
        """What it is to be told next is compacted: say so, and tell it nothing more."""
        compacted = self._source.store.keyspace(keyspace).compacted
        self._forget(watcher)
        stream = watcher.stream
        stream.ended.add(watcher.id)
        if stream.outlet is not None:
            stream.outlet.post(prefix(watcher.id) + self.header(0) + compacted_fields(compacted))
        else:
            assert stream.listener is not None
            stream.listener.ended(compacted)

    # ── what there is ───────────────────────────────────────────────────────

    def _tell_initial(self, watcher: Watcher, initial: Initial) -> Steps[None]:
        """All rows that there were when it began; then it is behind, or live."""
        stream = watcher.stream
        outlet = stream.outlet
        assert outlet is not None
        front = prefix(watcher.id)
        while not stream.blocked and self._initials.get(watcher) is initial:
            if not self._may_read():
                yield
                continue
            try:
                body = next(initial.responses)
            except StopIteration:
                del self._initials[watcher]
                self._place(watcher)
                self._replay_if_needed()
                return
            except Compacted:
                self._end(watcher, keyspace_of(watcher.spans))
                return
            if body is not None:
                outlet.post(front + body)
                if outlet.room <= 0:
                    self.block(stream)
            yield

    # ── progress ────────────────────────────────────────────────────────────

    def progress_steps(self) -> Steps[None]:
        """Tell who asked for it how far he was told, unless he was told something since."""
        live = self._live
        for number, group in enumerate(list(live.reporting)):
            if group.cohort is live and group.members:
                if group.quiet:
                    self._give(group, (self.header(self.revision),), (), self.revision + 1)
                    self._block_full()
                group.quiet = True
            if number % GROUPS_PER_SLICE == 0:
                yield

    # ── permission ──────────────────────────────────────────────────────────

    def check_permits_steps(self) -> Steps[None]:
        """Rights have changed: end what may not be watched any more."""
        for stream in list(self._streams):
            permit, outlet = stream.permit, stream.outlet
            if permit is None or outlet is None:
                continue
            for watcher in list(stream.watchers.values()):
                reason = permit(watcher.spans)
                if reason and stream.watchers.get(watcher.id) is watcher:
                    self.cancel(watcher)
                    fields = canceled_fields(watcher.id, reason)
                    outlet.post(self.header(self.revision) + fields)
            yield
