"""JSON texts: the first value, Go's words for what is none, values one after another."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.gateway.json_text import Splitter, parse, text_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "unexpected EOF"),
        ('{"a":"b', "unexpected EOF"),
        ("hello", "invalid character 'h' looking for beginning of value"),
        ("{bad", "invalid character 'b' looking for beginning of object key string"),
        ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":[1,2] "b"}', "invalid character '\"' after object key:value pair"),
        ('{"a":["}" 2]}', "invalid character '2' after array element"),
        ('{"a":"\x01"}', r"invalid character '\x01' in string literal"),
        (r'{"a":"\q"}', "invalid character 'q' in string escape code"),
        ('{"a":tru}', "invalid character '}' in literal true (expecting 'e')"),
        ("[nul", "unexpected EOF"),
        (r'{"a":"\u12x"}', r"invalid character 'x' in \u hexadecimal character escape"),
        ("ü", "invalid character 'Ã' looking for beginning of value"),
        ('{"a":"\n"}', r"invalid character '\n' in string literal"),
        ('{"a":NaN}', "invalid character 'N' looking for beginning of value"),
        ("-Infinity", "invalid character '-' looking for beginning of value"),
        ("[" * 100_000, "exceeded max depth"),
        ("9" * 10_000, "json: cannot unmarshal number into Go value of type int64"),
    ],
)
def test_what_is_no_json_is_refused_in_go_s_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        parse(text)


def test_the_first_value_counts_and_blanks_are_none() -> None:
    assert parse(' {"a":1} rest') == ({"a": 1}, 8)
    assert parse(" \n")[0] is None


def test_whole_numbers_are_integers_however_written() -> None:
    assert parse("[1.0, 1e3, -2]")[0] == [1, 1000, -2]
    assert str(parse("1.50")[0]) == "1.50"


def test_broken_utf_8_becomes_the_replacement_character() -> None:
    assert parse(text_of(b'"\xff\xfe"'))[0] == "\ufffd\ufffd"


json_objects = st.dictionaries(
    st.text(),
    st.recursive(
        st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
    max_size=3,
)


@given(st.lists(json_objects, max_size=4), st.data())
def test_values_are_found_however_the_stream_is_cut(
    values: list[object], data: st.DataObject
) -> None:
    ascii_only = data.draw(st.booleans())
    stream = " \n".join(json.dumps(value, ensure_ascii=ascii_only) for value in values).encode(
        "utf-8", "surrogatepass"
    )
    splitter, found, at = Splitter(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream)))
        found += splitter.feed(stream[at : at + size])
        at += size
    assert [json.loads(value) for value in found] == values
    assert splitter.rest() == b""


def test_an_unfinished_value_is_the_rest() -> None:
    splitter = Splitter()
    assert list(splitter.feed(b'{"a":1}{"b"')) == [b'{"a":1}']
    assert splitter.waiting_bytes == 4
    assert list(splitter.feed(b":2")) == []
    assert splitter.rest() == b'{"b":2'
