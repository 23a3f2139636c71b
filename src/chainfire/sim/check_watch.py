"""What a watch promises (etcd's API guarantees), held against the changes that really happened.

filtered    every event is in the range and passes the filters
ordered     event revisions never go back
unique      no (revision, key) comes twice
atomic      the events of one revision come in one response
reliable    from the first expected to the last seen revision nothing is missing,
resumable   ... and the first expected one is the revision asked for
bookmarks   after a progress at r no event at or before r follows; none goes back
truthful    type, value, revisions, version and previous value are those of the store; a previous
            value may be missing only where a compaction can have taken it
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from chainfire.sim.history import Event, Kv, Revision, Violation, Watch, WatchResponse, covers


class Truth:
    """All events that ever were, with the versions before them."""

    def __init__(self, feed: Iterable[Revision]) -> None:
        self.revisions: list[tuple[int, tuple[Event, ...]]] = []
        kvs: dict[bytes, Kv] = {}
        for revision in feed:
            events: list[Event] = []
            for kv, deleted in revision.changes:
                events.append(Event(kv, deleted, kvs.get(kv.key)))
                if deleted:
                    kvs.pop(kv.key, None)
                else:
                    kvs[kv.key] = kv
            self.revisions.append((revision.main, tuple(events)))

    def expected(self, watch: Watch, start: int, end: int) -> list[Event]:
        """Everything from revision `start` up to `end` that this watch should be told."""
        low = bisect_left(self.revisions, start, key=_main)
        high = bisect_right(self.revisions, end, key=_main)
        return [
            event if watch.want_prev else event._replace(prev=None)
            for _, events in self.revisions[low:high]
            for event in events
            if covers(watch.key, watch.end, event.kv.key)
            and not (watch.no_deletes if event.deleted else watch.no_puts)
        ]


def _main(revision: tuple[int, tuple[Event, ...]]) -> int:
    return revision[0]


class Compactions:
    """To which revision anything may be compacted by when: as far as anybody has asked by then."""

    def __init__(self, asked: Iterable[tuple[int, int]]) -> None:
        """`asked`: when, and to which revision."""
        self._times: list[int] = []
        self._revisions: list[int] = []  # the highest by then
        for at, revision in sorted(asked):
            self._times.append(at)
            self._revisions.append(max(revision, self._revisions[-1] if self._revisions else 0))

    def reach(self, at: int) -> int:
        index = bisect_right(self._times, at)
        return self._revisions[index - 1] if index else 0


def check_watches(
    watches: Iterable[Watch],
    feed: Sequence[Revision],
    *,
    complete_to: int = 0,
    compactions: Compactions | None = None,
) -> int:
    """The number of events that were checked. Raises Violation.

    `complete_to`: a watch that was not cancelled has had the time to hear of
    everything up to this revision. Without `compactions` any previous value may be missing.
    """
    truth = Truth(feed)
    return sum(_check(watch, truth, complete_to, compactions) for watch in watches)


def _check(watch: Watch, truth: Truth, complete_to: int, compactions: Compactions | None) -> int:
    if not watch.created:
        if watch.responses:
            raise Violation(f"responses before the creation: {watch}")
        return 0
    seen: list[Event] = []
    heard_at: list[int] = []
    bookmark = header = 0
    for response in watch.responses:
        bookmark = _check_response(watch, response, seen, bookmark, header)
        header = max(header, response.revision)
        seen.extend(response.events)
        heard_at += [response.at] * len(response.events)
    if watch.responses and watch.responses[-1].compacted:
        _check_cancel(watch, watch.responses[-1])
        if not seen:
            return 0
        complete_to = 0
    start = watch.start or watch.created + 1
    due = max(bookmark, complete_to, seen[-1].kv.mod if seen else 0)
    expected = truth.expected(watch, start, due)
    for at, (was, want) in enumerate(zip_longest(seen, expected[: len(seen)])):
        if was == want:
            continue
        if _lacks_prev(was, want) and (
            # The version before an event is superseded at that event's revision.
            compactions is None or was.kv.mod <= compactions.reach(heard_at[at])
        ):
            continue
        raise Violation(
            f"event {at} is {seen[at]}, expected {want or 'nothing'}; watch {_name(watch)}"
        )
    if len(seen) < len(expected):
        missed = expected[len(seen)]
        raise Violation(f"{missed} was never delivered, by revision {due}; watch {_name(watch)}")
    return len(seen)


def _check_response(
    watch: Watch, response: WatchResponse, seen: Sequence[Event], bookmark: int, header: int
) -> int:
    """The bookmark after it."""
    last = seen[-1].kv.mod if seen else 0
    if response.is_progress:
        if response.revision < max(last, bookmark):
            raise Violation(
                f"progress {response.revision} after {max(last, bookmark)}; watch {_name(watch)}"
            )
        return response.revision
    if response.events:
        first = response.events[0].kv.mod
        if first <= bookmark:
            raise Violation(f"revision {first} after progress {bookmark}; watch {_name(watch)}")
        if first <= last:
            raise Violation(
                f"revision {first} after {last}: split or repeated; watch {_name(watch)}"
            )
        if response.revision < response.events[-1].kv.mod:
            raise Violation(f"a header of {response.revision} over later events: {response}")
    return bookmark


def _check_cancel(watch: Watch, response: WatchResponse) -> None:
    if (watch.start or watch.created + 1) >= response.compacted:
        raise Violation(f"cancelled as compacted to {response.compacted}: watch {_name(watch)}")


def _lacks_prev(seen: Event | None, expected: Event | None) -> bool:
    """Equal but for a previous version that is not there any more."""
    return seen is not None and expected is not None and seen == expected._replace(prev=None)


def _name(watch: Watch) -> str:
    return f"{watch.key!r}..{watch.end!r} from {watch.start} at member {watch.member}"
