"""Right watches pass; each lie about the guarantees is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chainfire.sim.check_watch import Compactions, Truth, check_watches
from chainfire.sim.history import Event, Violation, Watch, WatchResponse
from tests import report
from tests.sim.histories import history

_, FEED = history(3, 400)
TOP = FEED[-1].main


def watch(**asked: object) -> Watch:
    """A watch that was told everything, a response for each revision, a bookmark at the end."""
    made = Watch(1, 1, b"k", b"l", 20, created=15)
    for name, value in asked.items():
        setattr(made, name, value)
    by_revision: dict[int, list[Event]] = {}
    for event in Truth(FEED).expected(made, made.start or made.created + 1, TOP):
        by_revision.setdefault(event.kv.mod, []).append(event)
    made.responses = [
        WatchResponse(at * 10, at, tuple(events)) for at, events in by_revision.items()
    ]
    made.responses.append(WatchResponse(TOP * 10, TOP))
    return made


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"start": 0},
        {"key": b"k3", "end": b""},
        {"end": b"\0"},
        {"no_puts": True},
        {"no_deletes": True, "want_prev": True},
        {"start": TOP + 10},
    ],
)
def test_right_watches_pass(asked: dict[str, object]) -> None:
    count = check_watches([watch(**asked)], FEED, complete_to=TOP)
    assert count or asked.get("start")
    report.count("watch events checked", count)


def _swap(responses: list[WatchResponse]) -> None:
    responses[4], responses[5] = responses[5], responses[4]


def _double(responses: list[WatchResponse]) -> None:
    responses.insert(5, responses[4])


def _lose(responses: list[WatchResponse]) -> None:
    del responses[5]


def _lose_the_first(responses: list[WatchResponse]) -> None:
    del responses[0]


def _lose_the_last(responses: list[WatchResponse]) -> None:
    del responses[-2]


def _split(responses: list[WatchResponse]) -> None:
    at = next(at for at, response in enumerate(responses) if len(response.events) > 1)
    whole = responses[at]
    responses[at : at + 1] = [
        whole._replace(events=whole.events[:1]),
        whole._replace(events=whole.events[1:]),
    ]


def _progress_too_soon(responses: list[WatchResponse]) -> None:
    responses.insert(3, WatchResponse(0, responses[6].revision))


def _progress_goes_back(responses: list[WatchResponse]) -> None:
    responses.append(WatchResponse(0, TOP - 5))


def _other_value(responses: list[WatchResponse]) -> None:
    at = next(at for at, r in enumerate(responses) if r.events and not r.events[0].deleted)
    first, *rest = responses[at].events
    lie = first._replace(kv=first.kv._replace(value=b"never"))
    responses[at] = responses[at]._replace(events=(lie, *rest))


def _delete_as_put(responses: list[WatchResponse]) -> None:
    at = next(at for at, r in enumerate(responses) if r.events and r.events[0].deleted)
    first, *rest = responses[at].events
    responses[at] = responses[at]._replace(events=(first._replace(deleted=False), *rest))


def _header_too_low(responses: list[WatchResponse]) -> None:
    responses[4] = responses[4]._replace(revision=responses[4].revision - 1)


def _cancelled_without_need(responses: list[WatchResponse]) -> None:
    responses.append(WatchResponse(0, TOP, compacted=20))


@pytest.mark.parametrize(
    "lie",
    [
        _swap,
        _double,
        _lose,
        _lose_the_first,
        _lose_the_last,
        _split,
        _progress_too_soon,
        _progress_goes_back,
        _other_value,
        _delete_as_put,
        _header_too_low,
        _cancelled_without_need,
    ],
)
def test_lies_are_found(lie: Callable[[list[WatchResponse]], None]) -> None:
    made = watch()
    lie(made.responses)
    with pytest.raises(Violation):
        check_watches([made], FEED)
    report.count("planted violations found by checkers")


def test_a_wrong_previous_value_is_found() -> None:
    made = watch(want_prev=True)
    first = made.responses[3].events[0]
    lie = first._replace(prev=first.kv)
    made.responses[3] = made.responses[3]._replace(events=(lie, *made.responses[3].events[1:]))
    with pytest.raises(Violation):
        check_watches([made], FEED)


@pytest.mark.parametrize(
    ("asked", "excused"),
    [
        ([], False),
        ([(0, 21)], False),
        ([(0, 22)], True),
        ([(0, 22), (5, 3)], True),
        ([(221, 22)], False),  # after it was told
    ],
)
def test_a_previous_value_is_missing_only_where_a_compaction_has_been(
    asked: list[tuple[int, int]], excused: bool
) -> None:
    made = watch(want_prev=True, start=0, created=10)
    at, told = next(
        (at, told)
        for at, told in enumerate(made.responses)
        if told.revision >= 20 and told.events and told.events[0].prev is not None
    )
    assert (told.at, told.revision) == (220, 22)
    lie = told.events[0]._replace(prev=None)
    made.responses[at] = told._replace(events=(lie, *told.events[1:]))
    check_watches([made], FEED)  # where nobody knows of compactions
    if excused:
        check_watches([made], FEED, compactions=Compactions(asked))
    else:
        with pytest.raises(Violation, match="expected Event"):
            check_watches([made], FEED, compactions=Compactions(asked))


def test_silence_is_found_once_there_was_time() -> None:
    made = watch()
    del made.responses[10:]
    check_watches([made], FEED)
    with pytest.raises(Violation, match="never delivered"):
        check_watches([made], FEED, complete_to=TOP)
