"""`chainfire bench`: its arithmetic, its texts, and whole runs against a real etcd.

The generator's own promises are held by native/tests/load.rs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainfire import wheel
from chainfire.cli import bench_picture, bench_text
from chainfire.cli.bench_figures import (
    Answers,
    Failure,
    Figures,
    Histogram,
    Spread,
    Told,
    Window,
)
from chainfire.cli.bench_load import (
    LEASES_MAX,
    WORKLOADS,
    Shape,
    Template,
    leases,
    new_lease_base,
    watch_request,
)
from chainfire.cli.bench_servers import cpu_seconds, local_pids
from chainfire.client.calls import Consistency, status_call
from chainfire.client.sync import SyncClient, connect_sync
from chainfire.errors import InvalidArgument
from chainfire.proto import kv_pb2, lease_pb2, watch_pb2
from tests.cli.conftest import Run
from tests.servers import ROOT, Server

SHAPE = Shape(keys=1000, key_size=16, value_size=256, prefix="bench/")


# ── requests ────────────────────────────────────────────────────────────────


def filled(template: Template, shape: Shape, number: int) -> bytes:
    """What native/src/load/request.rs makes of it."""
    message = bytearray(template.message)
    for offset, add in template.keys:
        message[offset : offset + shape.digits] = b"%0*d" % (shape.digits, number + add)
    if template.noise:
        begin, end = template.noise
        message[begin:end] = b"\xee" * (end - begin)
    return bytes(message)


def only(shape: Shape, workload: str, number: int) -> bytes:
    (template,) = WORKLOADS[workload](shape)
    return filled(template, shape, number)


@pytest.mark.parametrize("value_size", [0, 1, 2, 127, 128, 129, 255, 256, 16384])
def test_a_filled_template_is_the_request_it_stands_for(value_size: int) -> None:
    shape = replace(SHAPE, value_size=value_size)
    put = kv_pb2.PutRequest(key=b"bench/0000000042", value=b"\xee" * value_size)
    assert kv_pb2.PutRequest.FromString(only(shape, "put", 42)) == put
    txn = kv_pb2.TxnRequest.FromString(only(shape, "txn", 42))
    assert [compare.key for compare in txn.compare] == [b"bench/0000000042"]
    assert [op.request_put for op in txn.success] == [put]


def test_ranges_name_their_end_and_their_consistency() -> None:
    shape = replace(SHAPE, span=10, consistency=Consistency.SERIALIZABLE)
    request = kv_pb2.RangeRequest.FromString(only(shape, "range", 95))
    assert (request.key, request.range_end) == (b"bench/0000000095", b"bench/0000000105")
    assert request.serializable
    single = kv_pb2.RangeRequest.FromString(only(SHAPE, "range", 95))
    assert single == kv_pb2.RangeRequest(key=b"bench/0000000095")


def test_a_delete_names_one_key() -> None:
    request = kv_pb2.DeleteRangeRequest.FromString(only(SHAPE, "delete", 7))
    assert request == kv_pb2.DeleteRangeRequest(key=b"bench/0000000007")


def test_shares_of_a_mix_are_weights_and_an_empty_share_is_left_out() -> None:
    weights = {template.name: template.weight for template in WORKLOADS["mixed"](SHAPE)}
    assert weights == {"range": 80, "put": 20}
    (alone,) = WORKLOADS["mixed"](replace(SHAPE, reads_percent=100))
    assert alone.name == "range"


def test_long_keys_are_padded_and_short_ones_refused() -> None:
    long = kv_pb2.PutRequest.FromString(only(replace(SHAPE, key_size=100), "put", 5)).key
    assert (len(long), long.startswith(b"bench/000"), long.endswith(b"0005")) == (100, True, True)
    with pytest.raises(InvalidArgument, match="at least 10"):
        replace(SHAPE, key_size=9).check()
    with pytest.raises(InvalidArgument, match="span"):
        replace(SHAPE, span=1001).check()


def test_a_keepalive_and_its_lease_have_the_same_id_whatever_the_run() -> None:
    for shape in (SHAPE, replace(SHAPE, lease_base=new_lease_base())):
        (grant,), (keepalive,) = leases(shape), WORKLOADS["keepalive"](shape)
        for number in (0, 1, 128, LEASES_MAX - 1):
            request = lease_pb2.LeaseGrantRequest.FromString(numbered(grant, number))
            kept = lease_pb2.LeaseKeepAliveRequest.FromString(numbered(keepalive, number))
            assert (shape.lease_base + number, 600) == (request.ID, request.TTL)
            assert kept.ID == request.ID


def numbered(template: Template, number: int) -> bytes:
    message, at = bytearray(template.message), template.groups
    assert at is not None
    message[at : at + 4] = bytes(number >> 7 * i & 0x7F | 0x80 for i in range(4))
    return bytes(message)


@pytest.mark.parametrize(("keys", "range_end"), [(1, b""), (50, b"bench/::::::::::")])
def test_watchers_watch_the_one_key_or_all_of_them(keys: int, range_end: bytes) -> None:
    request = watch_pb2.WatchRequest.FromString(watch_request(replace(SHAPE, keys=keys)))
    create = request.create_request
    assert (create.key, create.range_end) == (b"bench/0000000000", range_end)


# ── arithmetic ──────────────────────────────────────────────────────────────


@given(
    st.lists(st.integers(1, 10**9), min_size=1), st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.9999, 1.0])
)
def test_quantiles_are_those_of_the_sorted_list(times: list[int], quantile: float) -> None:
    histogram = Histogram.sum(Histogram([(time, 1)]) for time in times)
    place = max(1, round(quantile * len(times)))
    assert histogram.quantile_ms(quantile) == sorted(times)[place - 1] / 1e6
    assert histogram.count == len(times)


def test_nothing_recorded_is_zero() -> None:
    assert set(Histogram().quantiles_ms().values()) == {0.0}
    assert list(bench_text.bars(Histogram())) == []


def test_a_ratio_is_taken_within_each_round() -> None:
    # The second round ran on a machine half as fast.
    assert Spread.of_ratios([200.0, 100.0, 240.0], [100.0, 50.0, 100.0]) == Spread(2.0, 2.0, 2.4)
    assert Spread.of_ratios([1.0], [0.0]) is None


# ── texts and pictures ──────────────────────────────────────────────────────


def figures(**changed: Any) -> Figures:
    latencies = Histogram([(900_000, 500), (1_000_000, 490), (30_000_000, 10)])
    plain = Figures(
        system="127.0.0.1:2379 (3.7.1)",
        workload="put",
        in_flight=100,
        connections=10,
        rate=None,
        seconds=2.0,
        in_time=1000,
        answers=(Answers("put", 1000, 0, 30_000, latencies),),
        server_cpu_us=21.5,
        generator_share=0.25,
        windows=tuple(Window(i, i + 1, 500, 0, 0.9, 1.0, 30.0, 4.0) for i in range(2)),
        revisions=1000,
    )
    return replace(plain, **changed)


def test_a_report_shows_rate_cpu_and_percentiles() -> None:
    text = "\n".join(bench_text.report(figures()))
    assert "500 per second: 1,000 answers in 2.00 s, 0 errors" in text
    assert "server CPU 21.5 µs per call; generator 25% of a core" in text
    assert "0.900     1.000" in text
    assert "≤      1.024 ms" in text
    assert "Note" not in text


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({"failures": (Failure(8, "RESOURCE_EXHAUSTED", 3, "no space"),)}, "no space"),
        ({"answers": (Answers("put", 1000, 7, 0, Histogram()),)}, "7 of 1,000 put answers found"),
        ({"rate": 5000.0, "unsent": 500}, "the rate was not reached"),
        ({"rate": 5000.0, "late": Histogram([(5_000_000, 100)])}, "sent 5.0 ms late"),
        ({"redials": 2}, "connections were lost"),
        ({"generator_share": 0.97}, "the generator's core was busy"),
        ({"revisions": 990}, "1,000 writes were answered, the revision rose by 990"),
        ({"was_interrupted": True}, "interrupted"),
        ({"told": Told(lost=3, misordered=1)}, "3 lost, 0 told twice, 1 out of order"),
    ],
)
def test_what_makes_a_figure_doubtful_is_noted(changed: dict[str, Any], note: str) -> None:
    (found,) = bench_text.notes(figures(**changed))
    assert note in found


def test_a_comparison_shows_medians_ratio_and_spread() -> None:
    other = figures(system="etcd", in_time=500, server_cpu_us=None)
    pairs = [(figures(), other), (figures(in_time=1500), other), (figures(in_time=2000), other)]
    text = "\n".join(bench_text.comparison(pairs))
    assert "3.00 (2.00–4.00)" in text
    assert "750" in text
    assert "–" in text.splitlines()[5]


def test_pictures_are_well_formed_with_a_line_per_system_and_figure() -> None:
    runs = [figures(), figures(system="<etcd>"), figures(in_flight=1)]
    root = ET.fromstring(bench_picture.svg(runs))
    lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 4 * len(runs)
    ET.fromstring(bench_picture.svg([figures(windows=())]))
    page = bench_picture.page(runs, "a < b")
    assert "a &lt; b" in page
    assert "<etcd>" not in page


# ── processes ───────────────────────────────────────────────────────────────


def test_the_process_behind_a_port_of_this_machine_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert local_pids([("127.0.0.1", port)]) == {os.getpid()}
        assert local_pids([("192.0.2.1", port)]) == frozenset()
    assert local_pids([("127.0.0.1", port)]) == frozenset()
    assert cpu_seconds([os.getpid()]) > 0
    assert cpu_seconds([]) == 0


# ── whole runs ──────────────────────────────────────────────────────────────


@pytest.fixture
def native() -> None:
    if wheel.FAULT is not None:
        pytest.skip(wheel.FAULT)


def bench(run: Run, server: Server, *arguments: str, code: int = 0) -> dict[str, Any]:
    return measured(run, server.target, *arguments, "--keys=200", code=code)


def measured(run: Run, target: str, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = run("bench", *arguments, "--json", f"--endpoints={target}")
    assert done.code == code, done.err
    (document,) = json.loads(done.out)["runs"]
    assert isinstance(document, dict)
    return document


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("workload", ["put", "range", "txn", "mixed", "delete"])
def test_each_workload_does_what_it_says(run: Run, etcd: Server, workload: str) -> None:
    done = bench(run, etcd, workload, "--total=200", "--warm-up=0", "--in-flight=8")
    assert done["notes"] == []
    assert sum(op["answers"] for op in done["operations"].values()) == done["answers"] == 200
    writes = {"put": 200, "txn": 200, "delete": 200, "range": 0}
    assert done["revisions"] == writes.get(workload, done["operations"].get("put", done)["answers"])


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(("streams", "connections"), [(1, 1), (10, 2), (50, 50)])
@pytest.mark.parametrize("keys", [1, 5])
def test_every_watcher_is_told_of_every_put(
    run: Run, etcd: Server, streams: int, connections: int, keys: int
) -> None:
    spread = ("--watchers=50", f"--streams={streams}", f"--connections={connections}")
    done = measured(
        run, etcd.target, "watch", *spread, f"--keys={keys}", "--total=40", "--warm-up=0"
    )
    assert (done["answers"], done["revisions"], done["notes"]) == (50 * 40, 40, [])
    assert set(done["told"].values()) == {0}
    operations = done["operations"]
    assert {name: found["answers"] for name, found in operations.items()} == {
        "event": 2000,
        "after ack": 2000,
        "put": 40,
    }


@pytest.mark.usefixtures("native")
def test_leases_are_granted_and_those_that_were_are_kept(run: Run, etcd: Server) -> None:
    total = ("--total=200", "--warm-up=0", "--in-flight=8")
    for arguments in (("lease-grant",), ("keepalive", "--leases=50")):
        done = measured(run, etcd.target, *arguments, *total)
        assert (done["answers"], done["revisions"], done["notes"]) == (200, 0, [])


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("workload", ["put", "txn", "mixed"])
def test_leased_keys_belong_to_one_lease(run: Run, etcd: Server, workload: str) -> None:
    prefix, size = f"{workload}/", ("--keys=20", "--value-size=1", "--total=50", "--warm-up=0")
    leased = ("--lease", "--ttl=60", f"--prefix={prefix}")
    assert measured(run, etcd.target, workload, *leased, *size, "--fill")["notes"] == []
    with connect_sync(etcd.target) as client:
        found = client.get_prefix(prefix).kvs
        (lease,) = {kv.lease for kv in found}
        status = client.lease_status(lease, keys=True)
    assert (status.granted_seconds, len(status.keys), len(found)) == (60, 20, 20)


@pytest.mark.usefixtures("native")
def test_a_keepalive_of_a_lease_that_is_gone_is_noted(run: Run, etcd: Server) -> None:
    total = ("--total=20", "--warm-up=0", "--in-flight=2")
    done = measured(run, etcd.target, "keepalive", "--no-fill", *total)
    assert "20 of 20 keepalive answers found no lease" in done["notes"][0]


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    ("fault", "order"), [("duplicated", (0, 1, 1, 2)), ("misordered", (1, 0, 2))]
)
def test_events_told_wrongly_fail_the_run(run: Run, fault: str, order: tuple[int, ...]) -> None:
    with liar(order) as target:
        arguments = ("--watchers=1", "--in-flight=3", "--total=3", "--warm-up=0")
        done = measured(run, target, "watch", *arguments, code=1)
    assert done["told"][fault] == 1, done["told"]


@contextlib.contextmanager
def liar(order: tuple[int, ...]) -> Iterator[str]:
    """A server of one watcher that tells it of the first three puts in this order."""
    puts: queue.Queue[kv_pb2.PutRequest] = queue.Queue()
    revisions, over = itertools.count(2), threading.Event()

    def put(request: bytes, _context: object) -> bytes:
        puts.put(kv_pb2.PutRequest.FromString(request))
        header = kv_pb2.ResponseHeader(revision=next(revisions))
        return kv_pb2.PutResponse(header=header).SerializeToString()

    def watch(_requests: object, _context: object) -> Iterator[bytes]:
        yield watch_pb2.WatchResponse(created=True).SerializeToString()
        values = [puts.get(timeout=20).value for _ in range(3)]
        for at in order:
            kv = kv_pb2.KeyValue(key=b"k", value=values[at], mod_revision=2 + at)
            event = kv_pb2.Event(kv=kv)
            yield watch_pb2.WatchResponse(events=[event]).SerializeToString()
        over.wait(20)

    def status(_request: bytes, _context: object) -> bytes:
        return b""

    server = grpc.server(ThreadPoolExecutor(8))
    for service, methods in {
        "etcdserverpb.KV": {"Put": grpc.unary_unary_rpc_method_handler(put)},
        "etcdserverpb.Watch": {"Watch": grpc.stream_stream_rpc_method_handler(watch)},
        "etcdserverpb.Maintenance": {"Status": grpc.unary_unary_rpc_method_handler(status)},
    }.items():
        handler = grpc.method_handlers_generic_handler(service, methods)
        server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        over.set()
        server.stop(None)


@pytest.mark.usefixtures("native")
def test_an_open_loop_keeps_its_rate_and_draws_it(run: Run, etcd: Server, tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    arguments = ("--rate=500", "--duration=1s", "--warm-up=200ms", f"--html={page}")
    done = bench(run, etcd, "range", *arguments)
    assert 450 <= done["answers"] <= 550
    assert len(done["windows"]) >= 5
    assert "<svg" in page.read_text()


@pytest.mark.usefixtures("native")
def test_answers_without_a_key_are_noted(run: Run, etcd: Server) -> None:
    arguments = ("--prefix=empty/", "--no-fill", "--total=50", "--warm-up=0")
    (note,) = bench(run, etcd, "range", *arguments)["notes"]
    assert "50 of 50 range answers found no key" in note


@pytest.mark.usefixtures("native")
def test_refused_calls_are_counted_by_code_and_fail_the_command(run: Run, etcd: Server) -> None:
    size = 1_800_000  # between etcd's limit of requests and its limit of messages
    done = bench(run, etcd, "put", f"--value-size={size}", "--total=3", "--warm-up=0", code=1)
    (failures,) = done["errors"]
    assert (failures["name"], failures["count"]) == ("INVALID_ARGUMENT", 3)
    assert failures["first"] == "etcdserver: request is too large"


@pytest.mark.usefixtures("native")
def test_two_systems_take_turns_and_get_a_ratio(run: Run, etcd: Server) -> None:
    addresses = (f"--endpoints={etcd.target}", f"--compare=localhost:{etcd.port}")
    size = ("--total=200", "--keys=100", "--warm-up=0", "--in-flight=1,4", "--rounds=2")
    done = run("bench", "put", *addresses, *size)
    assert done.code == 0, done.err
    text = done.out.decode()
    assert text.count("round 1") == text.count("round 2") == 4
    assert "medians of 2 rounds" in text


def revision(client: SyncClient) -> int:
    return client.call(status_call()).header.revision


@pytest.mark.usefixtures("native")
def test_ctrl_c_ends_a_run_with_the_figures_so_far(etcd: Server) -> None:
    command = [sys.executable, "-m", "chainfire", "bench", "put", "--duration=100s", "--warm-up=0"]
    process = subprocess.Popen(
        [*command, f"--endpoints={etcd.target}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with connect_sync(etcd.target) as client:
            before, deadline = revision(client), time.monotonic() + 30
            while revision(client) < before + 100:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 5, err
    assert "the run was interrupted" in out
    assert "answers in" in out


@pytest.mark.usefixtures("native")
def test_nobody_listening_is_told_with_advice(run: Run) -> None:
    done = run("bench", "put", "--endpoints=127.0.0.1:1")
    assert done.code == 2
    assert "Try: start a server" in done.err


def test_without_the_native_wheel_it_says_what_is_missing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel, "FAULT", "the wheel is not installed: `make setup`")
    monkeypatch.delitem(sys.modules, "chainfire.cli.bench", raising=False)
    done = run("bench", "put")
    assert done.code == 1
    assert "make setup" in done.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("put", "--rounds=3"), "--rounds is for --compare"),
        (("put", "--connections=11", "--in-flight=10"), "--connections 11"),
        (("put", "--in-flight=0"), "at least 1"),
        (("put", "--in-flight=a"), "not a number"),
        (("put", "--duration=soon"), "duration"),
        (("range", "--key-size=3"), "--key-size 3 is too small"),
        (("watch", "--watchers=5", "--streams=6"), "a watcher for each of --streams"),
        (("watch", "--value-size=7"), "at least 8"),
        (("keepalive", "--leases=0"), "leases"),
        (("push",), "No such command"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(
    run: Run, arguments: tuple[str, ...], text: str
) -> None:
    done = run("bench", *arguments)
    assert done.code != 0
    assert text in done.err
