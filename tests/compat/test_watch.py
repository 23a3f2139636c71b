"""Watches as etcd tells them: etcdctl's output, and streams of the same random history."""

from __future__ import annotations

import queue
import random
import re
import subprocess
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from chainfire.proto import kv_pb2
from chainfire.proto.watch_pb2 import WatchRequest, WatchResponse
from tests import report
from tests.compat.ctl import Ctl
from tests.servers import Server

SECONDS = 20

# The watch's own words; commands while it runs; what is typed into it (interactive).
SESSIONS: dict[str, tuple[str, str, str]] = {
    "a key": ("watch w/a", "put w/a 1; put other 2; put w/a 2; del w/a; put w/a 3", ""),
    "a prefix with what was there": (
        "watch w/ --prefix --prev-kv",
        "put w/a 4; put w/b 1; del w/ --prefix; del w/ --prefix; put w/c 1",
        "",
    ),
    "a range": ("watch r/1 r/3", "put r/0 x; put r/1 x; put r/2 x; put r/3 x; del r/ --prefix", ""),
    "from the past": ("watch w/ --prefix --rev=2 --prev-kv", "put w/z 1", ""),
    "json": ("watch j -w json --prev-kv", "put j 1; put j 2; del j", ""),
    "fields": ("watch f -w fields --prev-kv", "put f 1; put f 2; del f", ""),
    "hex": ("watch h --hex", "put h 1", ""),
    "a command for each event": (
        "watch x -- sh -c 'echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY "
        "$ETCD_WATCH_VALUE'",
        "put x 1; put x 'two words'; del x",
        "",
    ),
    "several keys, a command for each event": (
        "watch m/1 m/3 --prev-kv -- sh -c 'echo $ETCD_WATCH_KEY $ETCD_WATCH_REVISION'",
        "put m/1 a; put m/2 b; put m/3 c; del m/1",
        "",
    ),
    "a command in what is typed": (
        "watch -i",
        "put q/1 a; put q/2 b",
        "watch q/1 -- sh -c 'echo $ETCD_WATCH_EVENT_TYPE'\nnonsense\nwatch\n",
    ),
    "interactive": (
        "watch -i",
        "put i/1 a; put i/2 b; put k 1; put last 1",
        "watch i/ --prefix\nwatch k --rev=1 --prev-kv\nwatch last\n",
    ),
}


def _watched(ctl: Ctl, words: str, commands: str, typed: str) -> str:
    """What etcdctl printed by the time it had told of the last command."""
    import shlex

    program = [ctl.program, f"--endpoints={ctl.target}", *shlex.split(words)]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(typed.encode())
        process.stdin.flush()
        lines: queue.Queue[str] = queue.Queue()
        stdout = process.stdout

        def read() -> None:
            for line in stdout:
                lines.put(line.decode())

        threading.Thread(target=read, daemon=True).start()
        try:
            _wait_until_it_watches(ctl, words)
            for command in commands.split(";"):
                assert ctl(command.strip()).code == 0
            return _until_quiet(lines)
        finally:
            process.kill()


def _wait_until_it_watches(ctl: Ctl, words: str) -> None:
    """No server says from outside whether a watch stands: the shortest sure way is to wait."""
    time.sleep(0.5 if "-i" not in words else 1.0)


def _until_quiet(lines: queue.Queue[str]) -> str:
    found = []
    while True:
        try:
            found.append(lines.get(timeout=0.7))
        except queue.Empty:
            return "".join(found)


_VOLATILE = (
    (re.compile(r'("(?:cluster_id|member_id|raft_term)":)\d+'), r"\1N"),
    (re.compile(r'("(?:ClusterID|MemberID|RaftTerm)" : )\d+'), r"\1N"),
)


def _comparable(text: str) -> str:
    for pattern, word in _VOLATILE:
        text = pattern.sub(word, text)
    return text


@pytest.mark.parametrize("name", SESSIONS)
def test_etcdctl_watch_prints_what_it_prints_on_etcd(name: str, ctl: Ctl, ctl_of_peer: Ctl) -> None:
    ours, theirs = (_comparable(_watched(each, *SESSIONS[name])) for each in (ctl, ctl_of_peer))
    assert ours == theirs
    assert ours, "nothing was told"
    report.count("sessions of etcdctl watch compared", 1)


def test_etcdctl_watch_of_compacted_history_ends_alike(ctl: Ctl, ctl_of_peer: Ctl) -> None:
    outputs = []
    for each in (ctl, ctl_of_peer):
        for number in range(3):
            each(f"put c {number}")
        revision = int(re.search(r'"revision":(\d+)', each.raw("get c -w json")).group(1))  # type: ignore[union-attr]
        each(f"compaction {revision}")
        outputs.append(each(f"watch c --rev={revision - 1}"))
    assert outputs[0] == outputs[1]
    assert "compacted" in outputs[0].error + outputs[0].out


# ── streams of a random history ─────────────────────────────────────────────

KEYS = [b"a", b"b", b"c", b"d", b"da"]


class Peer:
    """One server: a stream that is read by a thread, and unary calls beside it."""

    def __init__(self, server: Server) -> None:
        self._channel = grpc.insecure_channel(
            server.target, options=[("grpc.max_receive_message_length", -1)]
        )
        self._requests: queue.Queue[bytes | None] = queue.Queue()
        call = self._channel.stream_stream("/etcdserverpb.Watch/Watch")(
            iter(self._requests.get, None)
        )
        self.told: queue.Queue[WatchResponse] = queue.Queue()

        def read() -> None:
            try:
                for body in call:
                    self.told.put(WatchResponse.FromString(body))
            except grpc.RpcError:
                return

        threading.Thread(target=read, daemon=True).start()

    def ask(self, **fields: object) -> None:
        self._requests.put(WatchRequest(**fields).SerializeToString())  # type: ignore[arg-type]

    def do(self, method: str, request: object) -> None:
        self._channel.unary_unary(f"/etcdserverpb.KV/{method}")(
            request.SerializeToString(),  # type: ignore[attr-defined]
            timeout=SECONDS,
        )

    def revision(self) -> int:
        reply = self._channel.unary_unary("/etcdserverpb.KV/Range")(b"\x0a\x01x", timeout=SECONDS)
        return kv_pb2.RangeResponse.FromString(reply).header.revision

    def close(self) -> None:
        self._requests.put(None)
        self._channel.close()

    def collect(self) -> tuple[dict[int, list[str]], list[str]]:
        """Events by watch id, and all other answers in order, until the marker was told of."""
        events: dict[int, list[str]] = {}
        answers = []
        while True:
            response = self.told.get(timeout=SECONDS)
            if response.watch_id == MARKER and response.events:
                return events, answers
            told = events.setdefault(response.watch_id, [])
            told += [str(event) for event in response.events if event.kv.key != b"marker"]
            if response.created or response.canceled:
                response.header.Clear()
                answers.append(str(response))


MARKER = 777


@pytest.fixture
def peers(ours: Server, theirs: Server) -> Iterator[list[Peer]]:
    made = [Peer(server) for server in (ours, theirs)]
    yield made
    for peer in made:
        peer.close()


@pytest.mark.parametrize("seed", range(6))
def test_streams_of_the_same_history_tell_the_same_events(seed: int, peers: list[Peer]) -> None:
    draw = random.Random(seed)
    offset = [peer.revision() for peer in peers]
    if offset[0] != offset[1]:  # sessions before this one ended early
        ahead = max(offset)
        for peer, revision in zip(peers, offset, strict=True):
            for _ in range(ahead - revision):
                peer.do("Put", kv_pb2.PutRequest(key=b"level"))
    base = max(offset)
    for step in range(120):
        kind = draw.random()
        if kind < 0.12:
            watch = _random_watch(draw, base, base + step)
            for peer in peers:
                peer.ask(create_request=watch)
                _settle(peer)
        elif kind < 0.15:
            watch_id = draw.randrange(6)
            for peer in peers:
                peer.ask(cancel_request={"watch_id": watch_id})
                _settle(peer)
        else:
            method, request = _random_write(draw)
            for peer in peers:
                peer.do(method, request)
    told = []
    for peer in peers:
        peer.ask(create_request={"key": b"marker", "watch_id": MARKER})
        time.sleep(0.3)  # etcd looks after watchers that are behind ten times a second
        peer.do("Put", kv_pb2.PutRequest(key=b"marker"))
        told.append(peer.collect())
    (ours, our_answers), (theirs, their_answers) = told
    assert our_answers == their_answers
    assert ours == theirs
    count = sum(map(len, ours.values()))
    assert count > 100
    report.count("watch events compared with etcd", count)


def _settle(peer: Peer) -> None:
    """Until what was asked was taken up: the stream is ordered, a key tells when."""
    time.sleep(0.06)


def _random_watch(draw: random.Random, oldest: int, newest: int) -> dict[str, object]:
    key = draw.choice(KEYS)
    end = draw.choice([b"", b"", b"\0", b"e", b"c", key + b"\xff"])
    watch: dict[str, object] = {"key": key, "range_end": end, "prev_kv": draw.random() < 0.5}
    if draw.random() < 0.5:
        watch["start_revision"] = draw.randint(max(oldest - 5, 1), newest + 5)
    if draw.random() < 0.3:
        watch["filters"] = [draw.choice([0, 1])]
    if draw.random() < 0.2:
        watch["watch_id"] = draw.randint(1, 9)
    if draw.random() < 0.2:
        watch["fragment"] = True
    return watch


def _random_write(draw: random.Random) -> tuple[str, object]:
    key = draw.choice(KEYS)
    kind = draw.random()
    value = bytes(draw.randrange(200))
    if kind < 0.6:
        return "Put", kv_pb2.PutRequest(key=key, value=value)
    if kind < 0.8:
        end = draw.choice([b"", b"", b"e"])
        return "DeleteRange", kv_pb2.DeleteRangeRequest(key=key, range_end=end)
    operations = [
        kv_pb2.RequestOp(request_put=kv_pb2.PutRequest(key=each, value=value))
        if draw.random() < 0.7
        else kv_pb2.RequestOp(request_delete_range=kv_pb2.DeleteRangeRequest(key=each))
        for each in draw.sample(KEYS, draw.randint(1, 3))
    ]
    return "Txn", kv_pb2.TxnRequest(success=operations)
