"""Envelopes are joined bytes: they must be what protobuf itself would write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire.command import BODY_NAMES, CommandKind, Envelope, decode, decode_request, stamp
from chainfire.errors import Malformed, UnknownFormat
from chainfire.proto import kv_pb2
from chainfire.proto.command_pb2 import Command

U64 = st.integers(0, 2**64 - 1)
ENVELOPE = Envelope(member_id=7, start_number=1, lowest_unsettled=1)


@given(
    member_id=U64,
    start_number=U64,
    sequence=st.integers(1, 2**64 - 1),
    lowest_unsettled=U64,
    proposing_term=U64,
    leader_clock_ms=U64,
    user=st.text(max_size=300),
    auth_revision=U64,
    keyspace=st.integers(0, 2**32 - 1),
    value=st.binary(max_size=20_000),
)
def test_an_envelope_equals_what_protobuf_writes(
    member_id: int,
    start_number: int,
    sequence: int,
    lowest_unsettled: int,
    proposing_term: int,
    leader_clock_ms: int,
    user: str,
    auth_revision: int,
    keyspace: int,
    value: bytes,
) -> None:
    envelope = Envelope(
        member_id=member_id,
        start_number=start_number,
        lowest_unsettled=lowest_unsettled,
        proposing_term=proposing_term,
        leader_clock_ms=leader_clock_ms,
    )
    put = kv_pb2.PutRequest(key=b"k", value=value)
    message = Command(
        format=1,
        member_id=member_id,
        start_number=start_number,
        sequence=sequence,
        lowest_unsettled=lowest_unsettled,
        proposing_term=proposing_term,
        leader_clock_ms=leader_clock_ms,
        user=user,
        auth_revision=auth_revision,
        keyspace=keyspace,
        put=put,
    )
    data = envelope.encode(
        sequence,
        CommandKind.PUT,
        put.SerializeToString(),
        keyspace=keyspace,
        user=user,
        auth_revision=auth_revision,
    )
    assert data == message.SerializeToString(deterministic=True)
    assert decode(data) == message


@pytest.mark.parametrize("kind", list(CommandKind))
def test_every_kind_names_its_body(kind: CommandKind) -> None:
    data = ENVELOPE.encode(1, kind, b"")
    assert decode(data).WhichOneof("body") == BODY_NAMES[kind]


def test_the_kinds_are_the_fields_of_the_oneof() -> None:
    assert {kind.value: kind.name.lower() for kind in CommandKind} == BODY_NAMES


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff", id="not a message"),
        pytest.param(b"\x08\x02", id="format 2"),
        pytest.param(b"\x10\x07", id="no format"),
        pytest.param(ENVELOPE.encode(1, 16, b"\x0a\x05k"), id="broken body"),
    ],
)
def test_what_is_not_a_known_command_is_an_unknown_format(data: bytes) -> None:
    with pytest.raises(UnknownFormat):
        decode(data)


def test_a_request_that_passes_the_door_decodes_at_apply() -> None:
    """Unknown groups nested as deep as the limit allows: valid alone, not one level deeper."""

    def nested(depth: int) -> bytes:
        return b"\x0a\x01k" + b"\x3b" * depth + b"\x3c" * depth

    kv_pb2.PutRequest.FromString(nested(100))
    with pytest.raises(Malformed):
        decode_request(CommandKind.PUT, nested(100))
    request = decode_request(CommandKind.PUT, nested(99))
    assert request.key == b"k"
    assert decode(ENVELOPE.encode(1, CommandKind.PUT, nested(99))).put.key == b"k"


def test_fields_that_this_version_does_not_know_stay_in_the_log_and_mean_nothing() -> None:
    body = kv_pb2.PutRequest(key=b"k").SerializeToString() + b"\xc0\x3e\x01"  # field 1000
    data = ENVELOPE.encode(1, CommandKind.PUT, body)
    assert data.endswith(body)
    assert decode(data).put.key == b"k"


def test_a_leaders_stamp_replaces_term_and_clock_of_a_forwarded_command() -> None:
    data = ENVELOPE.encode(1, CommandKind.PUT, kv_pb2.PutRequest(key=b"k").SerializeToString())
    stamped = decode(data + stamp(9, 12_345))
    assert (stamped.proposing_term, stamped.leader_clock_ms) == (9, 12_345)
    assert (stamped.sequence, stamped.put.key) == (1, b"k")
    assert stamp(0, 0) == b""
