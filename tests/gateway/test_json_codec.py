"""Messages as JSON and back, beside protobuf's own JSON format and in etcd's words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from chainfire.api.table import METHODS
from chainfire.gateway.json_codec import ETCD, READABLE, BadJson, Dialect, codec, write_text
from chainfire.gateway.routes import ROUTES
from chainfire.proto import auth_pb2, kv_pb2, watch_pb2

RANGE = codec(kv_pb2.RangeRequest.DESCRIPTOR, ETCD)
MESSAGES = sorted(
    {
        type_.DESCRIPTOR.full_name: type_
        for route in ROUTES.values()
        for type_ in (route.request.type, route.reply.type)
    }.items()
)


def message_of(type_: Any, data: st.DataObject, depth: int = 3) -> Any:
    """Any message of the type."""
    message = type_()
    for field in type_.DESCRIPTOR.fields:
        if not data.draw(st.booleans()):
            continue
        values = [
            value_of(field, data, depth)
            for _ in range(data.draw(st.integers(0, 2)) if field.is_repeated else 1)
        ]
        if field.message_type is not None:
            for value in values:
                if value is not None:
                    target = getattr(message, field.name)
                    (target.add() if field.is_repeated else target).MergeFrom(value)
        elif field.is_repeated:
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, values[0])
    return message


def value_of(field: Any, data: st.DataObject, depth: int) -> Any:
    if field.message_type is not None:
        return message_of(field.message_type._concrete_class, data, depth - 1) if depth else None
    if field.enum_type is not None:
        return data.draw(st.sampled_from([value.number for value in field.enum_type.values]))
    if field.cpp_type == field.CPPTYPE_STRING:
        return data.draw(
            st.binary(max_size=9) if field.type == field.TYPE_BYTES else st.text(max_size=9)
        )
    if field.cpp_type == field.CPPTYPE_BOOL:
        return data.draw(st.booleans())
    bits = 64 if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64) else 32
    signed = field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return data.draw(st.integers(low, high))


def without_our_fields(message: Any) -> Any:
    """As etcd's JSON has it."""
    stock = type(message)()
    stock.CopyFrom(message)
    for field, value in message.ListFields():
        if field.number >= 1000:
            stock.ClearField(field.name)
        elif field.message_type is not None and field.is_repeated:
            stock.ClearField(field.name)
            getattr(stock, field.name).extend(map(without_our_fields, value))
        elif field.message_type is not None:
            getattr(stock, field.name).CopyFrom(without_our_fields(value))
    return stock


@given(st.data())
def test_it_writes_what_protobuf_writes_and_reads_it_back(data: st.DataObject) -> None:
    _, type_ = data.draw(st.sampled_from(MESSAGES))
    message = message_of(type_, data)
    body = message.SerializeToString(deterministic=True)
    text = codec(type_.DESCRIPTOR, ETCD).encode(body)
    stock = without_our_fields(message)
    theirs = json_format.MessageToDict(stock, preserving_proto_field_name=True)
    assert json.loads(text) == theirs
    assert list(json.loads(text)) == [f.name for f in type_.DESCRIPTOR.fields if f.name in theirs]
    for dialect, whole in ((ETCD, stock), (READABLE, message)):
        ours = codec(type_.DESCRIPTOR, dialect)
        assert type_.FromString(ours.decode(ours.encode(body))) == whole


def test_every_message_of_the_table_has_json() -> None:
    for method in METHODS.values():
        for type_ in (method.request_type, method.reply_type):
            if (
                "grpc" not in method.service
                and "Reflection" not in method.service
                and "Health" not in method.service
            ):
                codec(type_.DESCRIPTOR, ETCD).decode("{}")


def test_names_numbers_and_nulls_are_taken_as_etcd_takes_them() -> None:
    wanted = kv_pb2.RangeRequest(key=b"foo", range_end=b"fop", limit=5, sort_order="DESCEND")
    for text in (
        '{"key":"Zm9v","range_end":"Zm9w","limit":5,"sort_order":"DESCEND"}',
        '{"key":"Zm9v","rangeEnd":"Zm9w","limit":"5","sortOrder":2,"revision":null,"nope":[1]}',
        '{"key":"Zm9\\nv","rangeEnd":"Zm9w","limit":5.0,"sortOrder":2} and more',
        '{"key":[102,111,111],"rangeEnd":"Zm9w","limit":5,"sortOrder":"DESCEND"}',
    ):
        assert kv_pb2.RangeRequest.FromString(RANGE.decode(text)) == wanted
    assert RANGE.decode("") == RANGE.decode("null") == RANGE.decode("{}") == b""


def test_an_empty_message_in_a_oneof_is_there() -> None:
    body = codec(watch_pb2.WatchRequest.DESCRIPTOR, ETCD).decode('{"progress_request":{}}')
    assert watch_pb2.WatchRequest.FromString(body).WhichOneof("request_union") == "progress_request"
    zero = codec(kv_pb2.Compare.DESCRIPTOR, ETCD).decode('{"version":"0"}')
    assert kv_pb2.Compare.FromString(zero).HasField("version")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"key":["x"]}', "json: cannot unmarshal string into Go value of type uint8"),
        ('{"key":1}', "json: cannot unmarshal number into Go value of type []uint8"),
        ("[]", "json: cannot unmarshal array into Go value of type map[string]json.RawMessage"),
        ('"x"', "json: cannot unmarshal string into Go value of type map[string]json.RawMessage"),
        ('{"limit":"x"}', "invalid character 'x' looking for beginning of value"),
        ('{"limit":""}', "unexpected end of JSON input"),
        ('{"limit":1.5}', "json: cannot unmarshal number 1.5 into Go value of type int64"),
        ('{"limit":true}', "json: cannot unmarshal bool into Go value of type int64"),
        ('{"limit":1e99}', "json: cannot unmarshal number 1e99 into Go value of type int64"),
        (
            '{"limit":99999999999999999999}',
            "json: cannot unmarshal number 99999999999999999999 into Go value of type int64",
        ),
        ('{"serializable":1}', "json: cannot unmarshal number into Go value of type bool"),
        (
            '{"sort_order":"NOPE"}',
            r'unknown value "\"NOPE\"" for enum etcdserverpb.RangeRequest.SortOrder',
        ),
        ('{"key":"Zm*v"}', "illegal base64 data at input byte 2"),
        ('{"key":"Zm9vA"}', "illegal base64 data at input byte 4"),
        ('{"key":"===="}', "illegal base64 data at input byte 0"),
        ('{"key":"Zm9v="}', "illegal base64 data at input byte 4"),
        ('{"key":"Zm9v===="}', "illegal base64 data at input byte 4"),
        ('{"key":"Zm=="}{', None),
        ('{"key":"Z_-v"}', None),  # the URL alphabet, without padding: as from 3.6 on
        ('{"key":"Zm8"}', None),
    ],
)
def test_refusals_have_etcd_s_words(text: str, words: str | None) -> None:
    if words is None:
        RANGE.decode(text)
        return
    with pytest.raises(BadJson) as caught:
        RANGE.decode(text)
    assert caught.value.message == words


@pytest.mark.parametrize("text", ['{"success":[null]}', '{"success":{}}', '{"success":[[]]}'])
def test_lists_hold_messages_and_nothing_else(text: str) -> None:
    with pytest.raises(BadJson):
        codec(kv_pb2.TxnRequest.DESCRIPTOR, ETCD).decode(text)


@given(st.text())
def test_text_is_json_and_holds_no_markup(text: str) -> None:
    written = write_text(text)
    assert json.loads(written) == text
    assert not set(written) & set("<>&\u2028\u2029")


def test_text_is_written_as_go_writes_it() -> None:
    assert write_text('<x>&\u2028ü\b\\b"') == '"\\u003cx\\u003e\\u0026\\u2028ü\\u0008\\\\b\\""'


def test_lone_surrogates_become_the_replacement_character() -> None:
    body = codec(auth_pb2.AuthUserAddRequest.DESCRIPTOR, ETCD).decode(r'{"name":"a\ud800b"}')
    assert auth_pb2.AuthUserAddRequest.FromString(body).name == "a\ufffdb"


def readable(message: Any, dialect: Dialect = READABLE) -> str:
    return codec(message.DESCRIPTOR, dialect).encode(message.SerializeToString())


def test_readable_json_has_text_and_numbers() -> None:
    row = kv_pb2.KeyValue(key="schlüssel".encode(), value=b"\xff", mod_revision=7, lease=2**60)
    assert readable(row) == (
        '{"key":"schlüssel","mod_revision":7,"value":{"base64":"/w=="},'
        '"lease":"1152921504606846976"}'
    )
    put = codec(kv_pb2.PutRequest.DESCRIPTOR, READABLE)
    body = put.decode('{"key":"ä","value":{"base64":"/w=="},"lease":"7"}')
    assert kv_pb2.PutRequest.FromString(body) == kv_pb2.PutRequest(
        key="ä".encode(), value=b"\xff", lease=7
    )
    with pytest.raises(BadJson, match="base64"):
        put.decode('{"key":{"hex":"00"}}')


def test_every_etcd_method_has_its_path() -> None:
    routed = {route.method.path for route in ROUTES.values() if route.path.startswith("/v3/")}
    named = {
        path
        for path, method in METHODS.items()
        if method.service.startswith(("etcdserverpb.", "v3lockpb.", "v3electionpb."))
    }
    assert named - routed == {"/etcdserverpb.KV/RangeStream"}  # etcd gives it none
    ours = {m.path for m in METHODS.values() if m.service.startswith("chainfire.v1.")}
    readable_ones = {r.method.path for r in ROUTES.values() if r.path.startswith("/chainfire/v1/")}
    grpc_only = {path for path in ours if "Health/" in path or "Reflection/" in path}
    assert ours - readable_ones == grpc_only
