"""The client's decisions, without a server: ranges, endpoints, errors, what is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire import errors
from chainfire.client import OutcomeUnknown, ServerFault, TimedOut, Unreachable, calls, txn, values
from chainfire.client.calls import Expectation
from chainfire.client.endpoints import parse_endpoints, target
from chainfire.client.faults import Attempts, Failure, error_of, may_retry
from chainfire.client.keys import ALL, from_key_range, prefix_end, prefix_range
from chainfire.client.values import KeyValue
from chainfire.errors import Code, InvalidArgument
from chainfire.proto import kv_pb2

KEYS = st.binary(max_size=4) | st.lists(st.sampled_from([0, 1, 254, 255]), max_size=4).map(bytes)


@given(KEYS, KEYS)
def test_a_key_is_below_the_prefix_end_exactly_if_it_has_the_prefix(
    prefix: bytes, key: bytes
) -> None:
    end = prefix_end(prefix)
    inside = key >= prefix and (end == ALL or key < end)
    assert inside == key.startswith(prefix)


def test_the_empty_prefix_and_the_empty_first_key_mean_everything() -> None:
    assert prefix_range("") == from_key_range("") == (ALL, ALL)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("127.0.0.1:2379", "127.0.0.1:2379"),
        ("http://host:1", "host:1"),
        ("http://[::1]:1", "[::1]:1"),
        ("unix:///run/x.sock", "unix:/run/x.sock"),
        ("unix:x.sock", "unix:x.sock"),
    ],
)
def test_endpoints_are_named_as_grpc_names_them(endpoint: str, expected: str) -> None:
    assert target(endpoint) == expected


@pytest.mark.parametrize("bad", ["", ",", "host", "https://", "http://", "ftp://h:1", "h:x"])
def test_a_bad_endpoint_is_an_invalid_argument(bad: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_endpoints(bad)


def test_endpoints_are_kept_in_order_and_once() -> None:
    assert parse_endpoints("b:1, a:1,b:1") == ("b:1", "a:1")
    assert parse_endpoints(["b:1", "a:1"]) == ("b:1", "a:1")


def failure(code: Code, text: str = "x", *, sent: bool = True) -> Failure:
    return Failure(code, text, sent=sent)


@pytest.mark.parametrize(
    ("given_failure", "is_read", "expected"),
    [
        (failure(Code.OUT_OF_RANGE, errors.Compacted.text), True, errors.Compacted),
        (failure(Code.UNKNOWN, errors.TooManyRequests.text), False, errors.TooManyRequests),
        (failure(Code.UNAVAILABLE, errors.Timeout.text), False, errors.Timeout),
        (failure(Code.UNAVAILABLE, sent=False), False, Unreachable),
        (failure(Code.UNAVAILABLE), True, Unreachable),
        (failure(Code.UNAVAILABLE), False, OutcomeUnknown),
        (failure(Code.DEADLINE_EXCEEDED), True, TimedOut),
        (failure(Code.DEADLINE_EXCEEDED), False, OutcomeUnknown),
        (failure(Code.UNIMPLEMENTED), False, ServerFault),
    ],
)
def test_a_failure_becomes_the_class_that_says_what_is_known(
    given_failure: Failure, is_read: bool, expected: type[Exception]
) -> None:
    assert type(error_of(given_failure, is_read=is_read)) is expected


def test_every_text_of_the_table_comes_back_as_its_class() -> None:
    known = [c for c in errors.RequestError.__subclasses__() if c.__module__ == errors.__name__]
    table = [c for c in known if c.text and c is not errors.Outdated]
    for cls in table:
        assert type(error_of(failure(cls.code, cls.text), is_read=True)) is cls


def test_a_write_that_may_have_been_executed_is_never_sent_again() -> None:
    for code in Code:
        assert not may_retry(failure(code), is_read=False)
        assert may_retry(failure(code, sent=False), is_read=False)


def test_a_read_is_sent_again_only_if_the_endpoint_was_unavailable() -> None:
    assert [code for code in Code if may_retry(failure(code), is_read=True)] == [Code.UNAVAILABLE]


def test_a_learners_refusal_sends_a_write_elsewhere() -> None:
    text = errors.NotSupportedForLearner.text
    assert may_retry(failure(Code.FAILED_PRECONDITION, text), is_read=False)


def test_every_endpoint_is_tried_in_each_round_and_pauses_grow_between_rounds() -> None:
    attempts = Attempts(3, 1, is_read=True)
    course = [(attempts.endpoint, 0.0)]
    while (pause := attempts.failed(failure(Code.UNAVAILABLE), 0.5)) is not None:
        course.append((attempts.endpoint, pause))
    assert [endpoint for endpoint, _ in course] == [1, 2, 0] * Attempts.ROUNDS_MAX
    pauses = [pause for _, pause in course]
    assert pauses[0:9:3] == [0.0, pytest.approx(0.025), pytest.approx(0.1)]
    assert {*pauses[1:3], *pauses[4:6], *pauses[7:9]} == {0.0}


def test_an_answered_error_ends_the_course_at_once() -> None:
    assert Attempts(3, 0, is_read=True).failed(failure(Code.OUT_OF_RANGE), 0.0) is None


@pytest.mark.parametrize("given_expectations", [{}, {"version": 1, "absent": True}])
def test_cas_takes_exactly_one_expectation(given_expectations: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument):
        Expectation(**given_expectations).compare(b"k")  # type: ignore[arg-type]


def test_cas_compares_what_was_expected() -> None:
    kv = KeyValue(b"k", b"v", 1, 7, 3, 0)
    assert Expectation(kv=kv).compare(b"k").mod_revision == 7
    assert Expectation(version=3).compare(b"k").version == 3
    assert Expectation(value="v").compare(b"k").value == b"v"
    assert Expectation(absent=True).compare(b"k").WhichOneof("target_union") == "version"
    assert Expectation(revision=9).compare(b"k").mod_revision == 9


def test_cas_of_a_failed_comparison_shows_what_was_found() -> None:
    found = kv_pb2.KeyValue(key=b"k", value=b"x", version=4)
    op = kv_pb2.ResponseOp(response_range=kv_pb2.RangeResponse(kvs=[found], count=1))
    outcome = values.cas_of(kv_pb2.TxnResponse(succeeded=False, responses=[op]))
    assert (outcome.succeeded, outcome.current_version, outcome.new_version) == (False, 4, 4)
    assert outcome.current is not None
    assert outcome.current.value == b"x"


def test_a_transaction_counts_as_a_read_only_if_no_branch_writes() -> None:
    reads = txn.Txn((), [txn.Get("a"), txn.Txn((), [txn.Get("b")])])
    writes = txn.Txn((), [txn.Get("a")], [txn.Txn((), (), [txn.Delete("b")])])
    assert calls.txn_call(reads.message()).is_read
    assert not calls.txn_call(writes.message()).is_read


def test_conditions_are_written_as_comparisons() -> None:
    condition = txn.version("k") == 0
    assert condition == kv_pb2.Compare(
        result=kv_pb2.Compare.EQUAL, target=kv_pb2.Compare.VERSION, key=b"k", version=0
    )
    assert (txn.value("k") != "x").result == kv_pb2.Compare.NOT_EQUAL
    assert (txn.mod_revision("k") > 5).mod_revision == 5
    assert (txn.create_revision("k") < 5).result == kv_pb2.Compare.LESS
    assert (txn.lease("a", "b") == 1).range_end == b"b"
