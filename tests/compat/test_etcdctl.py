"""The stock etcdctl on Chainfire: every command prints what it prints on a real etcd.

Each session is a list of command lines (`<<` gives standard input, `\\n` a line break in it) that
run in order on both servers; output, errors and exit codes are compared after every line. A
session leaves revisions behind, but they are the same on both.
"""

from __future__ import annotations

import json
import re
from typing import Any

import grpc
import pytest

from chainfire.proto import maintenance_pb2
from tests import report
from tests.compat.ctl import Ctl, Output
from tests.servers import Server

SESSIONS: dict[str, str] = {
    "put and get": """
        put a 1
        get a
        get missing
        put a 2 --prev-kv
        put a 2 -w json
        put a 3 --prev-kv -w fields
        get a -w json
        get a -w fields
        get a -w simple
        get a --print-value-only
        put from-stdin << a value\\nof two lines
        get from-stdin -w json
        put "" empty
        get ""
        put a
        put
        get
        put clé "ünï cödé"
        get clé
        get clé -w json
        get clé --hex
    """,
    "put ignoring value or lease": """
        put i 1
        put i --ignore-value
        put i x --ignore-value
        put i 2 --ignore-lease
        put never --ignore-value
        put never x --ignore-lease
        put i 3 --lease=1
        get i -w json
    """,
    "get: ranges": """
        put r/1 one
        put r/2 two
        put r/3 three
        put r/4 four
        put r/2 zwei
        put r/2 deux
        get r/ --prefix
        get r/1 r/3
        get r/3 r/1
        get r/3 --from-key
        get r/3 --from-key --prefix
        get "" --from-key --limit=2
        get "" --prefix --keys-only
        get r/ --prefix --keys-only
        get r/ --prefix --keys-only -w json
        get r/ --prefix --print-value-only
        get r/ --prefix --count-only
        get r/ --prefix --count-only -w json
        get r/ --prefix --count-only -w fields
        get r/ --prefix --limit=2
        get r/ --prefix --limit=2 -w json
        get r/ --prefix --limit=4 -w json
        get r/ --prefix --limit=0 -w json
        get r/ --prefix --consistency=s
        get r/ --prefix --consistency=l
        get r/ --prefix --consistency=x
    """,
    "get: orders": """
        get r/ --prefix --order=ASCEND
        get r/ --prefix --order=DESCEND
        get r/ --prefix --order=sideways
        get r/ --prefix --sort-by=KEY --order=DESCEND --limit=2
        get r/ --prefix --sort-by=CREATE --order=DESCEND
        get r/ --prefix --sort-by=MODIFY
        get r/ --prefix --sort-by=MODIFY --order=DESCEND --limit=1
        get r/ --prefix --sort-by=VALUE --order=ASCEND
        get r/ --prefix --sort-by=VALUE --order=DESCEND
        get r/ --prefix --sort-by=VERSION --order=DESCEND --limit=1
        get r/ --prefix --sort-by=nothing
    """,
    "get: past revisions": """
        put h 1
        put h 2
        del h
        put h 3
        get h --rev=2
        get r/ --prefix --rev=25
        get r/ --prefix --rev=26 -w json
        get h --rev=100000
        get h --rev=1
        get h --rev=-1
    """,
    "del": """
        put d/1 1
        put d/2 2
        put d/3 3
        put d/4 4
        put e 5
        del d/1
        del d/1
        del d/2 --prev-kv
        del d/ --prefix --prev-kv -w json
        del d/ --prefix
        put d/1 1
        del d/0 d/2
        del e --from-key --prev-kv
        del ""
        del
        get "" --prefix --keys-only -w json
    """,
    "txn": """
        put t 1
        txn << value("t") = "1"\\n\\nput t 2\\nget t\\n\\nput t 3\\nget t\\n
        txn << value("t") = "1"\\n\\nput t 2\\n\\nput t 4\\nget t\\ndel nothing\\n
        txn -w json << mod("t") > "0"\\nversion("t") < "100"\\n\\nget t\\n\\n\\n
        txn -w fields << create("t") != "0"\\n\\nput t2 x\\ndel t\\nget t --prefix\\n\\n\\n
        txn << \\nput t3 1\\nput t3 2\\n\\n\\n
        txn << ver("t2") = "1"\\n\\nput t4 --ignore-value x\\n\\n\\n
        txn << mod("t2") = "0"\\n\\n\\nput t5 1\\n\\n
        txn << nonsense\\n\\n\\n\\n
        txn << val("t2") != "x"\\n\\n\\nget t --prefix --limit=1\\ndel t --prefix --prev-kv\\n\\n
    """,
    "compaction": """
        put c 1
        put c 2
        put c 3
        compaction 5
        compaction 5
        compaction 4
        compaction 100000
        compaction
        compaction x
        compaction --physical 10
        get c --rev=9
        get c --rev=10 -w json
        get c
        put c 4
    """,
    "endpoint and members": """
        endpoint health
        endpoint health --cluster
        member list -w json
        alarm list
        alarm disarm
        defrag
        get "" --prefix --keys-only -w json
    """,
}


def _lines(session: str) -> list[tuple[str, str]]:
    rows = [line.strip() for line in session.strip().splitlines()]
    cut = [row.partition(" << ") for row in rows]
    return [(command, stdin.replace("\\n", "\n")) for command, _, stdin in cut]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.lone] if name == "endpoint and members" else [])
        for name in SESSIONS
    ],
)
def test_session_prints_what_it_prints_on_etcd(name: str, ctl: Ctl, ctl_of_peer: Ctl) -> None:
    differences = []
    for command, stdin in _lines(SESSIONS[name]):
        ours, theirs = ctl(command, stdin), ctl_of_peer(command, stdin)
        if _comparable(command, ours) != _comparable(command, theirs):
            differences.append(f"etcdctl {command}\n  ours   {ours}\n  theirs {theirs}")
    assert not differences, "\n".join(differences)
    report.count("etcdctl commands compared", len(_lines(SESSIONS[name])))


def _comparable(command: str, output: Output) -> Output:
    if command.startswith("member list"):  # names and URLs are the test's own
        return Output(output.code, re.sub(r'"\w+URLs":\[[^]]*\]', "", output.out), output.error)
    return output


def _status(ctl: Ctl) -> dict[str, Any]:
    (row,) = json.loads(ctl.raw("endpoint status -w json"))
    status: dict[str, Any] = row["Status"]
    return status


@pytest.mark.lone
def test_endpoint_status_names_version_leader_and_sizes(ctl: Ctl, ours: Server) -> None:
    status = _status(ctl)
    assert status["version"] == ".".join(map(str, ours.kind.version))
    assert status["dbSize"] > 0
    assert 0 < status["dbSizeInUse"] <= status["dbSize"]
    assert status["raftIndex"] >= status["raftAppliedIndex"] > 0
    assert status["leader"] == status["header"]["member_id"]
    assert "errors" not in status


@pytest.mark.lone
def test_endpoint_status_table_has_a_leader(ctl: Ctl, ours: Server) -> None:
    table = ctl("endpoint status -w table").out
    assert "IS LEADER" in table
    row = table.splitlines()[3].split("|")
    assert [cell.strip() for cell in row[3:4]] == [".".join(map(str, ours.kind.version))]
    assert row[5].strip() == "true"


def test_hashkv_is_the_same_when_asked_twice(ctl: Ctl) -> None:
    ctl("put hash 1")
    first, second = (json.loads(ctl.raw("endpoint hashkv -w json")) for _ in range(2))
    assert first == second
    assert first[0]["HashKV"]["hash"] != 0


def test_nospace_alarm_is_listed_blocks_puts_and_is_disarmed(ctl: Ctl, ours: Server) -> None:
    with grpc.insecure_channel(ours.target) as channel:
        call = channel.unary_unary(
            "/etcdserverpb.Maintenance/Alarm",
            request_serializer=maintenance_pb2.AlarmRequest.SerializeToString,
            response_deserializer=maintenance_pb2.AlarmResponse.FromString,
        )
        member_id = _status(ctl)["header"]["member_id"]
        answer = call(
            maintenance_pb2.AlarmRequest(
                action=maintenance_pb2.AlarmRequest.ACTIVATE,
                alarm=maintenance_pb2.NOSPACE,
                memberID=member_id,
            ),
            timeout=10,
        )
    assert [row.alarm for row in answer.alarms] == [maintenance_pb2.NOSPACE]
    assert ctl("alarm list").out == "memberID:N alarm:NOSPACE \n"
    assert ctl("put full 1").error == "Error: etcdserver: mvcc: database space exceeded"
    assert ctl("del full").code == 0
    assert ctl("get full").code == 0
    assert ctl("alarm disarm").out == "memberID:N alarm:NOSPACE \n"
    assert ctl("put full 1").out == "OK\n"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_check_perf_passes_at_the_small_load(ctl: Ctl) -> None:
    output = ctl("check perf --load=s", seconds=150)
    assert output.code == 0, output
    assert "FAIL" not in output.out
