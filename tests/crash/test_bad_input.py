"""Bad input gets etcd's error or a clear one, and the server goes on."""

from __future__ import annotations

import os
import random
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from chainfire.proto import kv_pb2
from tests import peers, report
from tests.compat.differential.calls import METHODS
from tests.servers import Server

Code = grpc.StatusCode
EMPTY_KEY = (Code.INVALID_ARGUMENT, "etcdserver: key is not provided")
TOO_LARGE = (Code.INVALID_ARGUMENT, "etcdserver: request is too large")
TOO_MANY = (Code.INVALID_ARGUMENT, "etcdserver: too many operations in txn request")
DUPLICATE = (Code.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")
BAD_SORT = (Code.INVALID_ARGUMENT, "etcdserver: invalid sort option")
COMPACTED = (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE = (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")

K = kv_pb2


def txn(*ops: Any, compare: tuple[Any, ...] = ()) -> Any:
    return K.TxnRequest(compare=compare, success=ops)


def put(key: bytes, size: int = 1) -> Any:
    return K.RequestOp(request_put=K.PutRequest(key=key, value=b"v" * size))


def nested(depth: int) -> bytes:
    """Encoded by hand: the library refuses to build what is deeper than it decodes."""
    body: bytes = txn(put(b"deep")).SerializeToString()
    for _ in range(depth):
        op = b"\x22" + _varint(len(body)) + body  # RequestOp.request_txn
        body = b"\x12" + _varint(len(op)) + op  # TxnRequest.success
    return body


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


REFUSED: dict[str, tuple[str, Any, tuple[Any, str]]] = {
    "put without key": ("Put", K.PutRequest(value=b"v"), EMPTY_KEY),
    "range without key": ("Range", K.RangeRequest(), EMPTY_KEY),
    "range of an end only": ("Range", K.RangeRequest(range_end=b"z"), EMPTY_KEY),
    "delete without key": ("DeleteRange", K.DeleteRangeRequest(), EMPTY_KEY),
    "compare without key": ("Txn", txn(compare=(K.Compare(),)), EMPTY_KEY),
    "put without key in a txn": ("Txn", txn(put(b"")), EMPTY_KEY),
    "oversized value": ("Put", K.PutRequest(key=b"k", value=b"v" * 1_600_000), TOO_LARGE),
    "oversized key": ("Put", K.PutRequest(key=b"k" * 1_600_000), TOO_LARGE),
    "oversized txn": ("Txn", txn(*(put(b"%d" % i, 16_000) for i in range(100))), TOO_LARGE),
    "129 operations": ("Txn", txn(*(put(b"%d" % i) for i in range(129))), TOO_MANY),
    "129 compares": ("Txn", txn(compare=(K.Compare(key=b"k"),) * 129), TOO_MANY),
    "same key put twice": ("Txn", txn(put(b"k"), put(b"k")), DUPLICATE),
    "empty operation": (
        "Txn",
        txn(K.RequestOp()),
        (Code.INVALID_ARGUMENT, "etcdserver: key not found"),
    ),
    "future revision": ("Range", K.RangeRequest(key=b"k", revision=2**62), FUTURE),
    "compaction of the future": ("Compact", K.CompactionRequest(revision=2**62), FUTURE),
    "compaction to a negative revision": ("Compact", K.CompactionRequest(revision=-5), COMPACTED),
}

# Where an etcd of the peers' age would panic or does not know the field.
REFUSED_BY_US: dict[str, tuple[str, Any, tuple[Any, str]]] = {
    "unknown sort order": ("Range", K.RangeRequest(key=b"k", sort_order=7), BAD_SORT),
    "unknown sort target": (
        "Range",
        K.RangeRequest(key=b"k", sort_order=1, sort_target=9),
        BAD_SORT,
    ),
    "unknown sort target in a txn": (
        "Txn",
        txn(K.RequestOp(request_range=K.RangeRequest(key=b"k", sort_order=1, sort_target=9))),
        BAD_SORT,
    ),
    "serializable and local": (
        "Range",
        K.RangeRequest(key=b"k", serializable=True, consistency=K.LOCAL),
        (Code.INVALID_ARGUMENT, ""),
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind = peers.need_chainfire()
    with Server(kind, tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.target, options=options) as opened:
        yield opened


def call(channel: grpc.Channel, path: str, body: bytes) -> tuple[Any, str]:
    try:
        channel.unary_unary(path)(body, timeout=20)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return Code.OK, ""


def assert_serves(channel: grpc.Channel) -> None:
    body = K.PutRequest(key=b"alive", value=b"1").SerializeToString()
    assert call(channel, METHODS["Put"].path, body) == (Code.OK, "")


@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_BY_US])
def test_bad_request_gets_its_error(name: str, server: Server, channel: grpc.Channel) -> None:
    if name in REFUSED_BY_US and not server.kind.is_chainfire:
        pytest.skip("an old etcd does not know this")
    method, message, (code, text) = {**REFUSED, **REFUSED_BY_US}[name]
    found = call(channel, METHODS[method].path, message.SerializeToString())
    assert found == (code, text or found[1])
    assert_serves(channel)


def test_message_above_the_transport_limit_is_refused(channel: grpc.Channel) -> None:
    body = K.PutRequest(key=b"k", value=b"v" * 2_200_000).SerializeToString()
    code, text = call(channel, METHODS["Put"].path, body)
    assert code == Code.RESOURCE_EXHAUSTED
    assert "larger than max" in text
    assert_serves(channel)


def test_negative_limits_and_revisions_mean_none_and_newest(channel: grpc.Channel) -> None:
    assert_serves(channel)
    request = K.RangeRequest(key=b"alive", limit=-1, revision=-1)
    raw = channel.unary_unary(METHODS["Range"].path)(request.SerializeToString(), timeout=20)
    assert K.RangeResponse.FromString(raw).count == 1


@pytest.mark.parametrize("depth", [20, 90, 1000])
def test_deeply_nested_txn_gets_an_answer(depth: int, channel: grpc.Channel) -> None:
    code, _ = call(channel, METHODS["Txn"].path, nested(depth))
    assert code in (Code.OK, Code.INVALID_ARGUMENT, Code.INTERNAL)
    assert_serves(channel)


@pytest.mark.parametrize(
    "path", ["/etcdserverpb.KV/Nothing", "/etcdserverpb.Nothing/Range", "/x/y", "/etcdserverpb.KV/"]
)
def test_unknown_method_is_unimplemented(path: str, channel: grpc.Channel) -> None:
    assert call(channel, path, b"")[0] == Code.UNIMPLEMENTED
    assert_serves(channel)


def test_broken_protobuf_is_an_error_and_never_a_stop(channel: grpc.Channel) -> None:
    rng = random.Random(5)
    for method in METHODS.values():
        for body in (b"\x0a\x05ab", b"\x0a", b"\xff", b"\xff" * 11):
            assert call(channel, method.path, body)[0] in (Code.INTERNAL, Code.UNIMPLEMENTED)
    good = nested(2)
    for _ in range(300):
        body = bytearray(good if rng.random() < 0.5 else rng.randbytes(rng.randrange(40)))
        for _ in range(rng.randrange(3)):
            if body:
                body[rng.randrange(len(body))] = rng.randrange(256)
        path = rng.choice([METHODS[name].path for name in ("Range", "Put", "Txn", "DeleteRange")])
        code, text = call(channel, path, bytes(body))
        assert code not in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED), (path, bytes(body), text)
    assert_serves(channel)
    report.count("broken messages", 300)


def test_bytes_that_are_not_http2_do_not_stop_it(server: Server, channel: grpc.Channel) -> None:
    rng = random.Random(6)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for begin in (b"", b"GET / HTTP/1.1\r\n\r\n", preface, b"\x16\x03\x01"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
            raw.sendall(begin + rng.randbytes(500))
    assert_serves(channel)


# ── The command line ────────────────────────────────────────────────────────


def refusal(server: Server) -> str:
    """The log of a server that ends by itself with an error code; fails when it serves."""
    try:
        log = server.start_or_refusal(20)
    finally:
        server.kill()
    assert log is not None, "it served"
    assert "Traceback" not in log or not server.kind.is_chainfire, log
    return log


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--no-such-flag=1", "no-such-flag"),
        ("--heartbeat-interval=many", "heartbeat-interval"),
        ("--listen-client-urls=nonsense", "nonsense"),
        ("--initial-cluster-state=sleepy", "sleepy"),
        ("--election-timeout=100", "election"),  # less than five default heartbeats of 100 ms
    ],
)
def test_wrong_flag_is_named(flag: str, said: str, tmp_path: Path) -> None:
    server = Server(peers.need_chainfire(), tmp_path / "data", (flag,))
    assert said in refusal(server)
    assert not (tmp_path / "data").exists() or not any((tmp_path / "data").rglob("*.sst"))


def test_occupied_port_is_named(server: Server, tmp_path: Path) -> None:
    second = Server(server.kind, tmp_path / "data", port=server.port)
    log = _first_log(second)
    assert str(server.port) in log
    assert "in use" in log.lower(), log


def _first_log(server: Server) -> str:
    # Not `refusal`: on an occupied port the other server answers the readiness probe.
    server.spawn()
    try:
        assert server.wait_exit(20) != 0
    except subprocess.TimeoutExpired:
        pytest.fail("it went on with an occupied port\n" + server.log())
    finally:
        server.kill()
    return server.log()


def test_data_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    server = Server(peers.need_chainfire(), tmp_path / "file" / "data")
    server.log_to = tmp_path / "log"
    log = refusal(server)
    assert str(tmp_path / "file") in log


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_data_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)
    log = refusal(Server(peers.need_chainfire(), tmp_path / "data"))
    assert "ermission" in log


def test_second_process_on_the_directory_names_the_first(
    server: Server, channel: grpc.Channel
) -> None:
    kind = server.kind
    if not kind.is_chainfire:
        pytest.skip("etcd waits for the lock instead of refusing")
    second = Server(kind, server.data_dir, log_to=server.data_dir.with_name("second.log"))
    log = refusal(second)
    assert str(server.pid) in log
    assert_serves(channel)
