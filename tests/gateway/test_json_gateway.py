"""The JSON gateway as HTTP clients see it, by uvicorn and by the native door."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from chainfire.errors import Code, NoLeader
from chainfire.gateway.access import Access
from tests.gateway.doors import HAS_NATIVE, HttpDoor
from tests.waiting import until

HEADER = '{"cluster_id":"14841639068965178418","member_id":"10276657743932975437",'


@pytest.fixture(scope="module", params=["uvicorn", "native", "direct"])
def shared(request: pytest.FixtureRequest) -> Iterator[HttpDoor]:
    if request.param != "uvicorn" and not HAS_NATIVE:
        pytest.skip("the native door is not installed")
    door = HttpDoor(kind=request.param)
    yield door
    door.close()


@pytest.fixture
def door(shared: HttpDoor) -> Iterator[HttpDoor]:
    with shared.over_a_fresh_member() as door:
        yield door


# ── unary calls ─────────────────────────────────────────────────────────────


def test_put_and_range_as_etcd_s_gateway_answers(door: HttpDoor) -> None:
    answer = door.ask("/v3/kv/put", "POST", '{"key":"Zm9v","value":"YmFy"}')
    assert answer[:2] == (200, '{"header":' + HEADER + '"revision":"2","raft_term":"2"}}')
    assert answer[2]["Content-Type"] == "application/json"
    assert answer[2]["Grpc-Metadata-Content-Type"] == "application/grpc"
    assert answer[2]["Access-Control-Allow-Origin"] == "*"
    row = '{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}'
    found = '{"header":' + HEADER + f'"revision":"2","raft_term":"2"}},"kvs":[{row}],"count":"1"}}'
    for path in ("/v3/kv/range", "/v3beta/kv/range"):
        assert door.post(path, '{"key":"Zm9v"}') == (200, found)


def test_while_authentication_is_off_no_token_is_looked_at(door: HttpDoor) -> None:
    """etcd asked for one that it knew, up to 3.5.9."""
    put, headers = '{"key":"Zm9v","value":"YmFy"}', {"Authorization": "nobody's"}
    assert door.ask("/v3/kv/put", "POST", put, headers)[0] == 200


def test_the_readable_gateway_speaks_text(door: HttpDoor) -> None:
    assert door.post("/chainfire/v1/kv/put", '{"key":"foo","value":"bär"}')[0] == 200
    kvs = json.loads(door.post("/chainfire/v1/kv/range", '{"key":"foo"}')[1])["kvs"]
    assert kvs == [
        {"key": "foo", "create_revision": 2, "mod_revision": 2, "version": 1, "value": "bär"}
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "text"),
    [
        ("/v3/kv/range", "", 400, 3, "etcdserver: key is not provided"),
        ("/v3/kv/range", "{", 400, 3, "unexpected EOF"),
        (
            "/v3/kv/range",
            '{"key":"Zg==","revision":"99"}',
            400,
            11,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        ("/v3/maintenance/downgrade", "{}", 400, 3, None),
    ],
)
def test_errors_have_the_fields_of_both_gateways(
    door: HttpDoor, path: str, body: str, status: int, code: int, text: str | None
) -> None:
    found, answer, headers = door.ask(path, "POST", body)
    told = json.loads(answer)
    assert (found, told["code"]) == (status, code)
    assert list(told) == ["error", "code", "message", "details"]
    assert told["error"] == told["message"]
    assert text is None or told["error"] == text
    assert headers["Content-Type"] == "application/json"


def test_a_member_without_a_leader_is_unavailable(door: HttpDoor) -> None:
    door.api.node.refusal = NoLeader()
    assert door.post("/v3/kv/put", '{"key":"Zm9v"}')[0] == 503
    door.api.node.refusal, door.api.node.leader_id = None, 0
    status, body = door.post("/v3/kv/range", '{"key":"Zm9v"}', grpc_metadata_hasleader="true")
    assert (status, json.loads(body)["code"]) == (503, Code.UNAVAILABLE)


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"grpc_timeout": "300q"}, "invalid grpc-timeout: 300q"),
        (
            {"grpc_metadata_x_bin": "%%%"},
            "invalid binary header Grpc-Metadata-X-Bin: illegal base64 data at input byte 0",
        ),
    ],
)
def test_headers_that_cannot_be_read_are_refused(
    door: HttpDoor, headers: dict[str, str], text: str
) -> None:
    status, body = door.post("/v3/kv/range", '{"key":"Zm9v"}', **headers)
    assert (status, json.loads(body)["error"]) == (400, text)


def test_a_timeout_of_zero_is_none(door: HttpDoor) -> None:
    assert door.post("/v3/kv/range", '{"key":"Zm9v"}', grpc_timeout="0S")[0] == 200


def test_a_deadline_ends_the_call(door: HttpDoor) -> None:
    door.api.node.held = True
    status, body = door.post("/v3/kv/range", '{"key":"Zm9v"}', grpc_timeout="20m")
    assert (status, json.loads(body)["error"]) == (504, "context deadline exceeded")
    handled = door.api.services.counters.method("/etcdserverpb.KV/Range").handled
    assert handled[Code.DEADLINE_EXCEEDED] == 1
    door.thread.call(door.api.node.release)  # the answer that comes too late goes nowhere
    assert sum(handled) == 1


def test_a_client_that_goes_cancels_its_call(door: HttpDoor) -> None:
    door.api.node.held = True
    counters = door.api.services.counters.method("/etcdserverpb.KV/Range")
    body = b'{"key":"Zm9v"}'
    with socket.create_connection(("127.0.0.1", door.port), 10) as client:
        client.sendall(
            b"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n" + body
        )
        until(lambda: counters.started)
    until(lambda: counters.handled[Code.CANCELLED] == 1)


@pytest.mark.parametrize("depth", [60, 300, 5000])
def test_what_is_nested_too_deeply_is_the_client_s_mistake(door: HttpDoor, depth: int) -> None:
    begin, end = '{"request_txn":{"success":[', "]}}"
    body = '{"success":[' + begin * depth + end * depth + "]}"
    status, answer = door.post("/v3/kv/txn", body)
    assert (status, json.loads(answer)["message"]) == (400, "exceeded max depth")


@pytest.mark.parametrize("field", ["sort_order", "limit", "serializable", "key", "nothing"])
def test_half_a_surrogate_pair_is_answered(door: HttpDoor, field: str) -> None:
    status, _ = door.post("/v3/kv/range", f'{{"{field}":"\\ud800"}}')
    assert status == 400
    status, _ = door.post("/v3/watch", f'{{"create_request":{{"watch_id":"\\ud800","{field}":1}}}}')
    assert status == 400


def test_calls_count_as_the_grpc_calls_that_they_are(door: HttpDoor) -> None:
    door.post("/v3/kv/put", '{"key":"Zm9v"}')
    door.post("/v3/kv/put", "{}")
    counters = door.api.services.counters.method("/etcdserverpb.KV/Put")
    assert (counters.started, counters.sent_messages) == (2, 1)
    assert (counters.handled[Code.OK], counters.handled[Code.INVALID_ARGUMENT]) == (1, 1)


def test_large_values_come_and_go(door: HttpDoor) -> None:
    value = "QUFB" * 300_000
    assert door.post("/v3/kv/put", f'{{"key":"Zm9v","value":"{value}"}}')[0] == 200
    status, body = door.post("/v3/kv/range", '{"key":"Zm9v"}')
    assert (status, json.loads(body)["kvs"][0]["value"]) == (200, value)


def test_what_is_too_large_is_refused_in_words(door: HttpDoor) -> None:
    status, body = door.post("/v3/kv/put", '{"key":"Zm9v","value":"%s"}' % ("QUFB" * 800_000))
    most = 1_572_864 + 512 * 1024
    text = f"grpc: received message larger than max (2400010 vs. {most})"
    assert (status, json.loads(body)["error"]) == (429, text)
    assert door.post("/v3/kv/put", " " * (4 * most + 1)) == (413, "http: request body too large\n")


# ── HTTP itself ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_calls_are_posts(door: HttpDoor, method: str) -> None:
    status, body, headers = door.ask("/v3/kv/range", method)
    assert (status, headers["Allow"]) == (405, "POST")
    assert body == ("" if method == "HEAD" else "Method Not Allowed\n")


@pytest.mark.parametrize("path", ["/v3/kv/range", "/health", "/nope"])
def test_options_are_granted_to_all(door: HttpDoor, path: str) -> None:
    status, body, headers = door.ask(path, "OPTIONS", headers={"Origin": "http://a.b"})
    assert (status, body) == (200, "")
    assert headers["Access-Control-Allow-Methods"] == "POST, GET, OPTIONS, PUT, DELETE"
    assert headers["Access-Control-Allow-Headers"] == "accept, content-type, authorization"


@pytest.mark.parametrize(
    ("path", "location"),
    [("//v3/kv/range", "/v3/kv/range"), ("/v3", "/v3/"), ("/a/../health", "/health")],
)
def test_a_path_that_is_not_clean_is_redirected(door: HttpDoor, path: str, location: str) -> None:
    status, _, headers = door.ask(path, "POST")
    assert (status, headers["Location"]) == (301, location)


@pytest.mark.parametrize("path", ["/v3/", "/v3/nope", "/v3/kv/range/", "/chainfire/v1/kv/nope"])
def test_methods_that_do_not_exist_are_not_found(door: HttpDoor, path: str) -> None:
    assert door.post(path, "{}") == (404, "Not Found\n")


def test_requests_follow_each_other_on_a_connection(door: HttpDoor) -> None:
    """Kept alive, and pipelined: the second is sent before the first is answered."""
    put = b'POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{"key":"Zm9v"}'
    get = b"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    get += b'7\r\n{"key":\r\n7\r\n"Zm9v"}\r\n0\r\n\r\n'
    with socket.create_connection(("127.0.0.1", door.port), 10) as client:
        client.sendall(put + get + b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = b""
        while piece := client.recv(65536):
            answers += piece
    assert answers.count(b"HTTP/1.1 200") == 3
    assert answers.index(b'"revision":"2"') < answers.index(b'"count":"1"')
    assert answers.endswith(b'"storage":"3.7.0"}')


def test_without_the_gateway_its_paths_are_like_any_other() -> None:
    door = HttpDoor(with_gateway=False)
    try:
        assert door.post("/v3/kv/range", "{}") == (404, "404 page not found\n")
        assert door.ask("/health")[0] == 200
    finally:
        door.close()


# ── access ──────────────────────────────────────────────────────────────────


def test_hosts_and_origins_are_held_against_the_lists() -> None:
    door = HttpDoor(access=Access(origins=["http://good"], hosts=["good.example"]))
    try:
        assert door.ask("/version", headers={"Host": "good.example:2379"})[0] == 200
        status, body, _ = door.ask("/v3/kv/range", "POST", "{}", {"Host": "evil.example"})
        assert status == 421
        assert '"evil.example"' in body
        assert "--host-whitelist" in body
        for origin, allowed in (("http://good", "http://good"), ("http://evil", None)):
            headers = {"Host": "good.example", "Origin": origin}
            assert (
                door.ask("/version", headers=headers)[2]["Access-Control-Allow-Origin"] == allowed
            )
    finally:
        door.close()


# ── streams ─────────────────────────────────────────────────────────────────


def lines_of(door: HttpDoor, path: str, body: str, **headers: str) -> list[str]:
    return door.post(path, body, **headers)[1].splitlines()


def test_a_stream_is_an_object_per_line(door: HttpDoor) -> None:
    for i in range(3):
        door.post("/chainfire/v1/kv/put", f'{{"key":"a{i}","value":"{"x" * 600_000}"}}')
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)
    connection.request("POST", "/chainfire/v1/kv/range-stream", '{"key":"a","range_end":"b"}')
    reply = connection.getresponse()
    assert reply.headers["Transfer-Encoding"] == "chunked"
    results = [json.loads(line)["result"]["range_response"] for line in reply]
    connection.close()
    assert [row["key"] for result in results for row in result.get("kvs", [])] == ["a0", "a1", "a2"]


def test_server_sent_events_where_they_are_asked_for(door: HttpDoor) -> None:
    door.post("/chainfire/v1/kv/put", '{"key":"a"}')
    path, body = "/chainfire/v1/kv/range-stream", '{"key":"a"}'
    status, text, headers = door.ask(path, "POST", body, {"Accept": "text/event-stream"})
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    assert text.startswith('data: {"result":') and text.endswith("}\n\n")


def test_a_stream_that_is_refused_has_the_error_s_status(door: HttpDoor) -> None:
    path = "/chainfire/v1/kv/range-stream"
    status, body = door.post(path, "{}")
    assert status == 400
    error = json.loads(body)["error"]
    assert (error["grpc_code"], error["http_code"], error["code"]) == (3, 400, 3)
    assert (error["http_status"], error["message"]) == (
        "Bad Request",
        "etcdserver: key is not provided",
    )
    status, body = door.post(path, "{bad")
    assert (status, json.loads(body)["code"]) == (400, 3)


# ── pages ───────────────────────────────────────────────────────────────────


def test_the_log_level_is_set_while_it_runs(door: HttpDoor) -> None:
    door.levels.clear()
    assert door.ask("/config/local/log", "PUT", '{"Level":"DEBUG"}')[0] == 204
    assert door.levels == ["debug"]
    for body in ("", "{}", "[1]", '{"Level":3}'):
        assert door.ask("/config/local/log", "PUT", body)[0] == 400
    assert door.ask("/config/local/log", "PUT", "x" * 5000)[0] == 413
    assert door.ask("/config/local/log")[0] == 405


def test_debug_vars_say_who_leads(door: HttpDoor) -> None:
    facts = json.loads(door.ask("/debug/vars")[1])
    assert facts["raft.status"]["raftState"] == "StateLeader"
    assert facts["memory"]["process_resident_memory_bytes"] > 0


def test_the_openapi_document_names_every_path(door: HttpDoor) -> None:
    document = json.loads(door.ask("/openapi.json")[1])
    assert document["openapi"] == "3.1.0"
    assert {"/v3/kv/range", "/chainfire/v1/kv/range-stream", "/readyz/non_learner"} <= set(
        document["paths"]
    )
    names = document["components"]["schemas"]
    references = set(_references(document))
    assert references == {f"#/components/schemas/{name}" for name in names}


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


@pytest.mark.skipif(not HAS_NATIVE, reason="the native door is not installed")
def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    door = HttpDoor(kind="direct")
    try:
        with socket.create_connection(("127.0.0.1", door.port), 10) as client:
            head = b"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{"
            client.sendall(head)
            until(lambda: door.server.streams)
            for _ in range(2):  # as every 15 seconds
                door.thread.call(door.server._watch_bodies)
            answer = b""
            while piece := client.recv(4096):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert answer.endswith(b"Request Timeout\n")
    finally:
        door.close()
