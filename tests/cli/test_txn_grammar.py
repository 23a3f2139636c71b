"""The text of transactions, word by word, and Go's quoted strings."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.cli.go_text import quote, split_words, unquote
from chainfire.cli.txn_grammar import BadLine, parse_compare, parse_operation, parse_txn
from chainfire.proto.kv_pb2 import Compare


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('mod("k") > "0"', Compare(result="GREATER", target="MOD", key=b"k", mod_revision=0)),
        ('m("k") = "5"', Compare(target="MOD", key=b"k", mod_revision=5)),
        ('create("k") != "1"', Compare(result=3, target="CREATE", key=b"k", create_revision=1)),
        ('ver("k") < "2"', Compare(result="LESS", target="VERSION", key=b"k", version=2)),
        ('val("k") = "a b"', Compare(target="VALUE", key=b"k", value=b"a b")),
        ('value("a\\"\\x00\\n") = ""', Compare(target="VALUE", key=b'a"\0\n', value=b"")),
        ('lease("k") = "ff"', Compare(target="LEASE", key=b"k", lease=255)),
        ("mod(k) > 0", Compare(result="GREATER", target="MOD", key=b"k", mod_revision=0)),
    ],
)
def test_a_comparison(line: str, expected: Compare) -> None:
    assert parse_compare(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('foo("k") = "1"', "unknown target foo"),
        ('mod("k") ~ "1"', "malformed comparison"),
        ('mod "k" = "1"', "malformed comparison"),
        ('mod("k") = "x"', "not a number"),
        ('mod("k") = "99999999999999999999"', "not a number"),
        ('val("\\q") = "x"', "unknown escape"),
    ],
)
def test_a_malformed_comparison_is_refused(line: str, expected: str) -> None:
    with pytest.raises(BadLine, match=expected):
        parse_compare(line)


def test_operations_are_command_lines() -> None:
    put = parse_operation('put "a key" "two\\nlines" --prev-kv').request_put
    assert (put.key, put.value, put.prev_kv) == (b"a key", b"two\nlines", True)
    get = parse_operation("get --prefix 'a' --limit=2 --rev 3").request_range
    assert (get.key, get.range_end, get.limit, get.revision) == (b"a", b"b", 2, 3)
    delete = parse_operation("del a --from-key").request_delete_range
    assert (delete.key, delete.range_end) == (b"a", b"\0")
    assert parse_operation('put k "\\xff"').request_put.value == b"\xff"


@pytest.mark.parametrize(
    "line", ["watch k", "get", "put k", "get a b --prefix", "get --nope k", 'put "k', "del", ""]
)
def test_a_malformed_operation_is_refused(line: str) -> None:
    with pytest.raises(BadLine):
        parse_operation(line)


def test_blocks_end_at_empty_lines_or_the_end() -> None:
    request = parse_txn(['mod("k") > "0"\n', "\n", "put k v\n", "get k\n", "\n", "get k"])
    assert [len(request.compare), len(request.success), len(request.failure)] == [1, 2, 1]
    assert not parse_txn([]).compare


@given(st.binary())
def test_what_is_quoted_is_unquoted_to_the_same_bytes(data: bytes) -> None:
    assert unquote(quote(data)) == data


@given(st.text(max_size=40))
def test_any_line_is_a_transaction_or_refused(line: str) -> None:
    with contextlib.suppress(BadLine):
        parse_compare(line)
    with contextlib.suppress(BadLine):
        parse_operation(line)


def test_words_are_split_as_a_shell_would() -> None:
    assert split_words('a  "b c" \'d "e\' f\\g') == [b"a", b"b c", b'd "e', b"f\\g"]
