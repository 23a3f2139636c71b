"""member, endpoint, alarm, defrag, move-leader: beside etcdctl, on the same server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest

from tests.cli.conftest import Run, ran_etcdctl
from tests.servers import free_port

Ctl = Callable[..., tuple[int, bytes]]
# Padded where a command prints it so, and mostly as long as can be.
_ID = re.compile(rb"(?:(?<= ) +)?\b[0-9a-f]{13,16}\b|\b\d{17,20}\b")
_TIME = re.compile(rb"[\d.]+(ms|\xc2\xb5s|s)\b")
_FOUNDERS = re.compile(rb'(?<=INITIAL_CLUSTER=")[^"]*')
_PORT = re.compile(rb"://h:\d+")


@pytest.fixture
def etcdctl(endpoint: str) -> Ctl:
    def run(*arguments: str) -> tuple[int, bytes]:
        done = ran_etcdctl(endpoint, *arguments)
        # etcdctl 3.4 tells of health on standard error.
        return done.returncode, done.stdout or done.stderr.replace(b"\r", b"")

    return run


@pytest.fixture
def learner(run: Run, endpoint: str) -> Iterator[str]:
    """The id of a member that does not vote."""
    done = run("member", "add", "l", f"--peer-urls=http://h:{free_port()}", "--learner")
    id_ = done.out.split()[1].decode()
    yield id_
    run("member", "remove", id_)


def settled(output: bytes) -> bytes:
    """Without what differs from run to run, and from etcdctl 3.4 to later ones."""
    output = _PORT.sub(b"://h:P", _TIME.sub(b"T", _ID.sub(b"ID", output)))
    if output.startswith(b"+"):  # a table: cells, however they are aligned
        return re.sub(rb" +|-+", b" ", output)
    in_order = _FOUNDERS.sub(lambda found: b",".join(sorted(found[0].split(b","))), output)
    return in_order.replace(b" as learner", b"")


@pytest.mark.parametrize(
    "arguments",
    [
        "member list",
        "member list -w table",
        "member list -w json",
        "member list -w fields",
        "member list -w fields --hex",
        "alarm list",
        "alarm disarm",
        "endpoint health",
        "endpoint health --cluster",
        "endpoint health -w json",
        "endpoint health -w table",
        "defrag",
    ],
)
def test_commands_print_what_etcdctl_prints(
    run: Run, etcdctl: Ctl, learner: str, arguments: str
) -> None:
    words = arguments.split()
    code, out = etcdctl(*words)
    done = run(*words)
    assert (done.code, settled(done.out)) == (code, settled(out))


def test_changes_print_what_etcdctl_prints(run: Run, etcdctl: Ctl, endpoint: str) -> None:
    def ours(*words: str) -> tuple[int, bytes]:
        done = run(*words)
        return done.code, done.out

    seen = []
    for command in (etcdctl, ours):
        urls = f"http://h:{free_port()}"
        code, added = command("member", "add", "l", f"--peer-urls={urls}", "--learner")
        id_ = added.split()[1].decode()
        moved = f"http://h:{free_port()}"
        outputs = [
            (code, added),
            command("member", "update", id_, f"--peer-urls={moved}"),
            command("member", "remove", id_),
        ]
        seen.append([(code, settled(out)) for code, out in outputs])
    assert seen[0] == seen[1]
    assert b'ETCD_INITIAL_CLUSTER_STATE="existing"' in seen[1][0][1]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ("member remove 7", 1, "etcdserver: member not found"),
        ("member promote 7", 1, "etcdserver: "),
        ("member remove xyz", 128, "expecting ID in Hex"),
        ("member remove 0", 128, "expecting ID in Hex"),
        ("member add n", 128, "member peer urls not provided"),
        ("member add n --peer-urls=h:1", 1, "etcdserver: given member URLs are invalid"),
        ("member lits", 128, "lits"),
        ("move-leader 7", 1, "etcdserver: bad leader transferee"),
        ("move-leader", 128, "ID"),
    ],
)
def test_what_is_wrong_is_said_with_etcdctls_exit_codes(
    run: Run, endpoint: str, arguments: str, code: int, text: str
) -> None:
    done = run(*arguments.split())
    assert (done.code, done.out) == (code, b"")
    assert text in done.err


def test_a_learner_that_has_not_caught_up_is_not_promoted(
    run: Run, endpoint: str, learner: str
) -> None:
    done = run("member", "promote", learner)
    assert done.code == 1
    assert "can only promote a learner member which is in sync with leader" in done.err


def test_leadership_moves_to_the_leader_itself(run: Run, etcdctl: Ctl, endpoint: str) -> None:
    member = run("member", "list").out.split(b",")[0].decode()
    assert (0, run("move-leader", member).out) == etcdctl("move-leader", member)


def test_an_endpoint_that_does_not_answer_is_unhealthy(run: Run, endpoint: str) -> None:
    dead = f"127.0.0.1:{free_port()}"
    done = run("--endpoints", f"{dead},{endpoint}", "endpoint", "health")
    assert done.code == 1
    assert done.out.startswith(f"{endpoint} is healthy".encode())
    assert f"{dead} is unhealthy: failed to commit proposal: " in done.err
    assert done.err.endswith("Error: unhealthy cluster\n")
    rows = json.loads(run("--endpoints", dead, "endpoint", "health", "-w", "json").out)
    assert (rows[0]["endpoint"], rows[0]["health"]) == (dead, False)
    assert rows[0]["error"]
    assert run("--endpoints", dead, "defrag").code == 1
    assert "no leader endpoint given" in run("--endpoints", dead, "move-leader", "1").err


def test_endpoint_status_and_hash_of_the_whole_cluster(run: Run, endpoint: str) -> None:
    url = f"http://{endpoint}"
    for format_ in ("simple", "fields", "json", "table"):
        for words in ("status", "hashkv"):
            done = run("endpoint", words, "--cluster", "-w", format_)
            assert done.code == 0
            assert url.encode() in done.out
    first = run("endpoint", "hashkv").out
    assert first.split(b", ")[0] == endpoint.encode()
    run("put", "h", "1")
    assert run("endpoint", "hashkv").out != first
