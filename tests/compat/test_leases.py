"""The stock etcdctl's lease commands, compared with a real etcd; and what it sees of time.

`$1`, `$2` in a session are the leases that it was granted, in order.
"""

from __future__ import annotations

import re
import subprocess
import time

import pytest

from tests import report
from tests.compat.ctl import Ctl, Output
from tests.servers import Server

GRANTED = re.compile(r"lease ([0-9a-f]{16}) granted")

SESSIONS: dict[str, str] = {
    "the life of a lease": """
        lease list
        lease grant 100
        lease list
        lease timetolive $1
        put le/a 1 --lease=$1
        put le/b 2 --lease=$1
        put le/c 3
        lease timetolive $1 --keys
        get le/a -w json
        get le/ --prefix
        lease keep-alive --once $1
        put le/a 2
        lease timetolive $1 --keys
        put le/b --ignore-value --ignore-lease
        lease timetolive $1 --keys
        put le/b --ignore-value
        lease timetolive $1 --keys
        put le/a x --lease=$1
        put le/b y --lease=$1
        lease revoke $1
        get le/ --prefix -w json
        lease list
        lease revoke $1
        lease timetolive $1
        lease timetolive $1 --keys
        lease keep-alive --once $1
        put le/a 1 --lease=$1
    """,
    "moving keys between leases": """
        lease grant 100
        lease grant 200
        put mv/k 1 --lease=$1
        put mv/k 2 --lease=$2
        put mv/l 2 --lease=$2
        lease timetolive $1 --keys
        lease timetolive $2 --keys
        del mv/l
        put mv/l 3
        lease timetolive $2 --keys
        lease revoke $1
        get mv/ --prefix
        lease revoke $2
        get mv/ --prefix
    """,
    "transactions with leases": """
        lease grant 100
        txn << mod("tx/a") = "0"\\n\\nput tx/a 1 --lease=$1\\nput tx/b 2 --lease=$1\\n\\n
        lease timetolive $1 --keys
        txn << mod("tx/a") > "0"\\n\\ndel tx/a\\nput tx/b 3\\n\\nget tx/a\\n\\n
        lease timetolive $1 --keys
        txn << \\n\\nput tx/c 1\\nput tx/d 2 --lease=77\\n\\n\\n
        get tx/ --prefix
        lease revoke $1
        get tx/ --prefix
    """,
    "what cannot be granted": """
        lease grant 0
        lease grant 1
        lease grant -- -1
        lease grant 9000000000
        lease grant 9000000001
        lease grant 9223372036854775807
        lease grant x
        lease grant
        lease revoke
        lease revoke zz
        lease revoke 0
        lease timetolive 0
        lease keep-alive --once 0
    """,
    "other outputs": """
        lease grant 100 -w json
        lease grant 100
        put out/a 1 --lease=$1
        lease timetolive $1 --keys -w json
        lease timetolive $1 -w fields
        lease keep-alive --once $1 -w json
        lease revoke $1 -w json
        lease timetolive $1 -w json
    """,
}


class Session:
    """Runs lines on one server and keeps the ids that it was granted."""

    def __init__(self, ctl: Ctl) -> None:
        self._ctl = ctl
        self._leases: list[str] = []

    def __call__(self, line: str) -> Output:
        command, _, stdin = line.partition(" << ")
        for number, lease in enumerate(self._leases, 1):
            command = command.replace(f"${number}", lease)
            stdin = stdin.replace(f"${number}", lease)
        output = self._ctl(command, stdin.replace("\\n", "\n"))
        found = GRANTED.search(output.out)
        if found is not None:
            self._leases.append(found[1])
        return Output(output.code, self._settled(output.out), self._settled(output.error))

    def _settled(self, text: str) -> str:
        for number, lease in enumerate(self._leases, 1):
            text = text.replace(lease, f"LEASE-{number}").replace(str(int(lease, 16)), f"{number}")
            text = text.replace(lease.lstrip("0"), f"LEASE-{number}")
        text = re.sub(r'(keys\(\[|"keys":\[)([^]]+)', _sorted, text)  # etcd's come in any order
        text = re.sub(r'("id":|"ID" : )\d{10,}', r"\1N", text, flags=re.IGNORECASE)
        return re.sub(r'(remaining\(|"ttl":|"TTL" : )(\d+)', _about, text)


def _sorted(found: re.Match[str]) -> str:
    return found[1] + " ".join(sorted(found[2].replace(",", " ").split()))


def _about(found: re.Match[str]) -> str:
    """What is left of a TTL differs by the second in which it is asked."""
    return f"{found[1]}{round(int(found[2]), -1)}"


@pytest.mark.parametrize("name", SESSIONS)
def test_session_prints_what_it_prints_on_etcd(name: str, ctl: Ctl, ctl_of_peer: Ctl) -> None:
    ours, theirs = Session(ctl), Session(ctl_of_peer)
    lines = [line.strip() for line in SESSIONS[name].strip().splitlines()]
    differences = []
    for line in lines:
        our_output, their_output = ours(line), theirs(line)
        if our_output != their_output:
            differences.append(f"etcdctl {line}\n  ours   {our_output}\n  theirs {their_output}")
    assert not differences, "\n".join(differences)
    report.count("etcdctl commands compared", len(lines))


def granted(ctl: Ctl, ttl: int) -> str:
    found = GRANTED.search(ctl(f"lease grant {ttl}").out)
    assert found is not None
    return found[1]


def test_a_key_goes_with_its_lease_and_not_before(ctl: Ctl) -> None:
    started = time.monotonic()
    lease = granted(ctl, 2)
    assert ctl(f"put short lived --lease={lease}").code == 0
    while ctl("get short").out:
        assert time.monotonic() < started + 15
    assert time.monotonic() - started >= 2
    assert ctl(f"lease timetolive {lease}").out == f"lease {lease} already expired\n"


def test_keep_alive_goes_on_until_the_lease_is_revoked(ctl: Ctl, ours: Server) -> None:
    lease = granted(ctl, 2)
    with subprocess.Popen(
        [ctl.program, f"--endpoints={ours.target}", "lease", "keep-alive", lease],
        stdout=subprocess.PIPE,
        text=True,
    ) as keeping:
        assert keeping.stdout is not None
        try:
            for _ in range(5):  # more than three seconds: longer than the TTL
                line = keeping.stdout.readline()
                assert line == f"lease {lease} keepalived with TTL(2)\n"
            assert ctl(f"lease revoke {lease}").code == 0
            while line.startswith(f"lease {lease} keepalived"):
                line = keeping.stdout.readline()
            assert line == f"lease {lease} expired or revoked.\n"
        finally:
            keeping.kill()
