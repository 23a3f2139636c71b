"""The checker itself: each planted fault is found, and a right history is not complained about."""

from __future__ import annotations

from chainfire.proto.kv_pb2 import KeyValue
from tests.crash import check
from tests.crash.load import History, Write, group_keys, token_keys


def row(key: bytes, value: bytes, mod_revision: int = 5, version: int = 1) -> KeyValue:
    return KeyValue(key=key, value=value, mod_revision=mod_revision, version=version)


def newest(writes: list[Write], found: KeyValue | None) -> list[str]:
    return list(check.newest_write_is_there(b"k", writes, found))


def test_an_acknowledged_write_or_a_later_unknown_one_may_be_there() -> None:
    acknowledged = [Write(b"k", b"1", 5), Write(b"k", b"2", None)]
    assert newest(acknowledged, row(b"k", b"1", 5)) == []
    assert newest(acknowledged, row(b"k", b"2", 6)) == []
    assert newest([*acknowledged, Write(b"k", None)], None) == []
    assert newest([Write(b"k", b"1")], None) == []


def test_a_lost_write_is_found() -> None:
    assert newest([Write(b"k", b"1", 5)], None)
    assert newest([Write(b"k", b"1", 5), Write(b"k", b"2", 6)], row(b"k", b"1", 5))


def test_a_wrong_value_is_found() -> None:
    assert newest([Write(b"k", b"1", 5)], row(b"k", b"x", 5))
    assert newest([Write(b"k", b"1", 5)], row(b"k", b"x", 6))


def test_an_undone_delete_is_found() -> None:
    assert newest([Write(b"k", b"1", 5), Write(b"k", None, 6)], row(b"k", b"1", 5))


def test_a_revision_that_went_back_is_found() -> None:
    assert list(check.revision_never_back(9, History(seen_revision=10)))
    assert not list(check.revision_never_back(10, History(seen_revision=10)))


def test_a_torn_group_and_a_doubled_token_are_found() -> None:
    a, b, c = group_keys(0)
    whole = [row(a, b"1"), row(b, b"1"), row(c, b"1")]
    assert not list(check.rules_hold("now", whole))
    assert list(check.rules_hold("now", whole[:2]))
    assert list(check.rules_hold("now", [*whole[:2], row(c, b"2", 6)]))
    assert list(check.rules_hold("now", [row(key, b"1") for key in token_keys(0)]))


def test_a_put_applied_twice_or_lost_is_found_by_its_counter() -> None:
    history = History(counters={b"n": 2})
    history.add(Write(b"n", b"1", 5), Write(b"n", b"2"))
    versions = {
        v: list(check.counters_count(history, {b"n": row(b"n", b"", 5, v)})) for v in (1, 2)
    }
    assert versions == {1: [], 2: []}
    assert list(check.counters_count(history, {b"n": row(b"n", b"", 5, 3)}))
    assert list(check.counters_count(history, {}))


def test_an_unanswered_delete_is_not_dated_by_an_earlier_put() -> None:
    history = History()
    history.add(Write(b"k", b"1", 5), Write(b"k", None))
    check.settle(history, {})
    assert history.writes == {b"k": []}
    assert newest(history.writes[b"k"], row(b"k", b"1", 5)), "it must stay away"
