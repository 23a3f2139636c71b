"""The HTTP door: paths, statuses and bodies as etcd writes them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chainfire.errors import ConfigError, NoLeader
from chainfire.proto.maintenance_pb2 import CORRUPT, NOSPACE
from tests.gateway.doors import HttpDoor

TEXT = "text/plain; charset=utf-8"


@pytest.fixture(scope="module")
def shared() -> Iterator[HttpDoor]:
    door = HttpDoor("http://127.0.0.1:0")
    yield door
    door.close()


@pytest.fixture
def door(shared: HttpDoor) -> Iterator[HttpDoor]:
    with shared.over_a_fresh_member() as door:
        yield door


# ── /health ─────────────────────────────────────────────────────────────────


def test_health_says_true_with_an_empty_reason(door: HttpDoor) -> None:
    status, body, headers = door.ask("/health")
    assert (status, body) == (200, '{"health":"true","reason":""}')
    assert headers["Content-Type"] == TEXT


def test_health_is_lost_with_an_alarm_unless_excluded(door: HttpDoor) -> None:
    door.alarm(NOSPACE)
    status, body, headers = door.ask("/health")
    assert (status, body) == (503, '{"health":"false","reason":"ALARM NOSPACE"}\n')
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert door.ask("/health?exclude=NOSPACE")[0] == 200
    door.alarm(CORRUPT)
    assert door.ask("/health?exclude=NOSPACE")[0] == 503
    assert door.ask("/health?exclude=NOSPACE&exclude=CORRUPT")[0] == 200


def test_health_without_a_leader_unless_serializable(door: HttpDoor) -> None:
    door.api.node.leader_id = 0
    assert json.loads(door.ask("/health")[1])["reason"] == "RAFT NO LEADER"
    assert door.ask("/health?serializable=true")[0] == 200


@pytest.mark.parametrize(
    "path", ["/health", "/livez", "/readyz", "/readyz/non_learner", "/version"]
)
@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "TRACE", "BREW"])
def test_other_methods_are_refused(door: HttpDoor, path: str, method: str) -> None:
    status, body, headers = door.ask(path, method)
    assert (status, headers["Allow"]) == (405, "GET")
    assert body in ("Method Not Allowed\n", "")


# ── /livez, /readyz ─────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/livez", "ok\n"),
        ("/readyz", "ok\n"),
        ("/livez?verbose", "[+]serializable_read ok\nok\n"),
        (
            "/readyz?verbose",
            "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n"
            "[+]non_learner ok\nok\n",
        ),
        (
            "/readyz?verbose&exclude=linearizable_read&exclude=non_learner&exclude=nothing",
            "[+]data_corruption ok\n[+]serializable_read ok\nok\n",
        ),
        ("/readyz/linearizable_read", "ok\n"),
        ("/readyz/linearizable_read?verbose", "[+]linearizable_read ok\nok\n"),
        ("/livez/serializable_read", "ok\n"),
    ],
)
def test_a_healthy_member_is_live_and_ready(door: HttpDoor, path: str, body: str) -> None:
    status, found, headers = door.ask(path)
    assert (status, found) == (200, body)
    assert (headers["Content-Type"], headers["X-Content-Type-Options"]) == (TEXT, "nosniff")


def test_a_member_without_a_leader_is_live_but_not_ready(door: HttpDoor) -> None:
    door.api.node.leader_id = 0
    assert door.ask("/livez")[:2] == (200, "ok\n")
    status, body, _ = door.ask("/readyz")
    assert status == 503
    assert "[-]linearizable_read failed: etcdserver: no leader\n" in body
    assert door.ask("/readyz?exclude=linearizable_read")[0] == 200
    assert door.ask("/readyz/serializable_read")[0] == 200


def test_a_member_that_cannot_read_is_not_live(door: HttpDoor) -> None:
    door.api.node.refusal = NoLeader()
    status, body, _ = door.ask("/livez")
    assert (status, body) == (503, "[-]serializable_read failed: etcdserver: no leader\n\n")


# ── /version, /metrics, the rest ────────────────────────────────────────────


def test_version_names_server_cluster_and_storage(door: HttpDoor) -> None:
    status, body, headers = door.ask("/version")
    assert (status, body) == (
        200,
        '{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}',
    )
    assert headers["Content-Type"] == "application/json"


def test_metrics_are_prometheus_text(door: HttpDoor) -> None:
    door.ask("/health")
    door.ask("/readyz")
    status, body, headers = door.ask("/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(body)}
    assert families["etcd_server_has_leader"].samples[0].value == 1
    assert families["etcd_server_health_success"].samples[0].value == 1
    checks = families["etcd_server_healthcheck"].samples
    found = {(check.labels["type"], check.labels["name"]): check.value for check in checks}
    assert found["readyz", "non_learner"] == 1


@pytest.mark.parametrize("path", ["/", "/nope", "/readyz/nope", "/chainfire", "/health/"])
def test_unknown_paths_get_go_s_answer(door: HttpDoor, path: str) -> None:
    assert door.ask(path)[:2] == (404, "404 page not found\n")


@pytest.mark.parametrize("target", ["http://a.example/health", "HTTP://a.example:80/health?a=b"])
def test_the_target_may_be_a_whole_url(door: HttpDoor, target: str) -> None:
    assert door.ask(target)[:2] == (200, '{"health":"true","reason":""}')


# ── listening ───────────────────────────────────────────────────────────────


def test_it_listens_on_several_urls_and_gives_them_back(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    door = HttpDoor("http://127.0.0.1:0", f"unix://{path}")
    port = door.server.ports[0]
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        reply = b""
        while chunk := client.recv(4096):
            reply += chunk
    assert reply.endswith(b"ok\n")
    with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
        HttpDoor("http://127.0.0.1:0", f"http://127.0.0.1:{port}")
    door.close()
    with socket.create_server(("127.0.0.1", port)):
        pass
