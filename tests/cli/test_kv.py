"""get, put, del, txn, compact, status: beside etcdctl, on the same server."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from chainfire.cli.table import bytes_text, table
from tests.cli.conftest import Run, ran_etcdctl
from tests.servers import free_port

RESET = b'\nput a 1\nput b "2 \\xff"\nput c ""\n\n'

Etcdctl = Callable[..., bytes]


@pytest.fixture
def etcdctl(endpoint: str) -> Etcdctl:
    def run(*arguments: str, stdin: bytes = b"") -> bytes:
        return ran_etcdctl(endpoint, *arguments, stdin=stdin).stdout

    return run


def without_times(output: bytes) -> bytes:
    """The revision moves with every write, and each command is run twice."""
    return b"\n".join(
        line for line in output.split(b"\n") if b"Revision" not in line and b"DB" not in line
    )


def same(first: bytes, second: bytes) -> None:
    if first.startswith((b"{", b"[")):
        assert strip_revisions(json.loads(first)) == strip_revisions(json.loads(second))
    else:
        assert without_times(first) == without_times(second)


def strip_revisions(value: object) -> object:
    if isinstance(value, dict):
        return {k: strip_revisions(v) for k, v in value.items() if "revision" not in k}
    if isinstance(value, list):
        return [strip_revisions(item) for item in value]
    return value


@pytest.mark.parametrize("write_out", ["simple", "fields", "json"])
@pytest.mark.parametrize(
    "arguments",
    [
        "get a",
        "get nothing",
        "get a c",
        "get --prefix --limit=2 ''",
        "get --from-key b --keys-only",
        "get --prefix '' --order=DESCEND --sort-by=VALUE",
        "get --prefix '' --sort-by=MODIFY --consistency=s",
        "put a 3 --prev-kv",
        "put a --ignore-value",
        "del a --prev-kv",
        "del --prefix ''",
        "del nothing",
    ],
)
def test_commands_print_what_etcdctl_prints(
    run: Run, etcdctl: Etcdctl, write_out: str, arguments: str
) -> None:
    words = [word.strip("'") for word in arguments.split()]
    outputs = []
    for command in (lambda *a, **k: run(*a, **k).out, etcdctl):
        run("del", "--prefix", "")
        run("txn", stdin=RESET)
        outputs.append(command("-w", write_out, *words))
    same(*outputs)
    assert outputs[0] or "nothing" in arguments
    assert b"Error" not in outputs[0]


@pytest.mark.parametrize("write_out", ["simple", "fields", "json"])
@pytest.mark.parametrize("condition", ['mod("a") > "0"', 'val("a") = "x"'])
def test_a_transaction_prints_what_etcdctl_prints(
    run: Run, etcdctl: Etcdctl, write_out: str, condition: str
) -> None:
    text = f'{condition}\n\nput b "hi there"\nget a\ndel c --prev-kv\n\nget --prefix ""\n\n'
    outputs = []
    for command in (lambda *a, **k: run(*a, **k).out, etcdctl):
        run("del", "--prefix", "")
        run("txn", stdin=RESET)
        outputs.append(command("-w", write_out, "txn", stdin=text.encode()))
    same(*outputs)


def test_hex_shows_bytes_and_ids(run: Run, etcdctl: Etcdctl) -> None:
    run("put", "h\tx", "\udcff")
    assert run("get", "h\tx", "--hex").out == etcdctl("get", "h\tx", "--hex")
    assert run("get", "h\tx", "--hex").out == b"\\x68\\x09\\x78\n\\xff\n"
    assert b'"MemberID" : %x\n' % member_id(run) in run("--hex", "-w", "fields", "get", "a").out
    assert run("--hex", "-w", "json", "get", "a").out == run("-w", "json", "get", "a").out


def member_id(run: Run) -> int:
    found: int = json.loads(run("-w", "json", "get", "a").out)["header"]["member_id"]
    return found


def test_values_alone(run: Run, etcdctl: Etcdctl) -> None:
    run("txn", stdin=RESET)
    arguments = ("get", "--prefix", "", "--print-value-only")
    assert run(*arguments).out == etcdctl(*arguments)


def test_counting_prints_the_number(run: Run, endpoint: str) -> None:
    run("put", "count/1", "")
    run("put", "count/2", "")
    assert run("get", "--prefix", "count/", "--count-only").out == b"2\n"


def test_a_value_may_come_from_standard_input(run: Run, endpoint: str) -> None:
    assert run("put", "stdin", stdin=b"\x00\xffno newline").out == b"OK\n"
    assert run("get", "stdin", "--print-value-only").out == b"\x00\xffno newline\n"


def test_keys_with_a_dash_follow_two_dashes(run: Run, endpoint: str) -> None:
    assert run("put", "--", "-dash", "-v").out == b"OK\n"
    assert run("get", "--", "-dash").out == b"-dash\n-v\n"


def test_the_interactive_transaction_announces_each_block(run: Run, endpoint: str) -> None:
    out = run("txn", "-i", stdin=b'mod("i") = "0"\n\nput i 1\n\n\n').out
    assert out == (
        b"compares:\nsuccess requests (get, put, del):\n"
        b"failure requests (get, put, del):\nSUCCESS\n\nOK\n"
    )


def test_compaction_and_reading_behind_it(run: Run, endpoint: str) -> None:
    run("put", "z", "1")
    revision = json.loads(run("put", "z", "2", "-w", "json").out)["header"]["revision"]
    done = run("compact", str(revision), "--physical")
    assert done.out == b"compacted revision %d\n" % revision
    behind = run("get", "z", "--rev", str(revision - 1))
    assert behind.code == 1
    assert "Error: etcdserver: mvcc: required revision has been compacted\nTry: " in behind.err


def test_status_in_every_format(run: Run, etcdctl: Etcdctl, endpoint: str) -> None:
    assert b" ENDPOINT " in run("status").out
    row = run("status", "-w", "simple").out.decode().split(", ")
    assert row[0] == endpoint
    assert row[8] == "true"
    same(run("status", "-w", "json").out, etcdctl("-w", "json", "endpoint", "status"))
    theirs = etcdctl("-w", "fields", "endpoint", "status").splitlines()
    ours = run("status", "-w", "fields").out.splitlines()
    assert {line for line in theirs if b"DB" not in line} <= set(ours)


def test_status_goes_on_past_an_endpoint_that_does_not_answer(run: Run, endpoint: str) -> None:
    dead = f"127.0.0.1:{free_port()}"
    done = run("--endpoints", f"{dead},{endpoint}", "status", "-w", "json")
    assert done.code == 1
    assert [entry["Endpoint"] for entry in json.loads(done.out)] == [endpoint]
    assert f"Failed to get the status of endpoint {dead}" in done.err


def test_options_behind_the_command_count_before_those_in_front(run: Run, endpoint: str) -> None:
    dead = f"127.0.0.1:{free_port()}"
    assert run("--endpoints", dead, "put", "k", "v", "--endpoints", endpoint).out == b"OK\n"


def test_etcdctls_variable_is_a_fallback(
    run: Run, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHAINFIRE_ENDPOINTS")
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", f"http://{endpoint}")
    assert run("put", "k", "v").out == b"OK\n"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["get"], 128, "Missing argument 'KEY'"),
        (["get", "a", "--foo"], 128, "No such option"),
        (["get", "a", "b", "--prefix"], 128, "a range end does not fit"),
        (["get", "a", "--prefix", "--from-key"], 128, "cannot be set at the same time"),
        (["put", "a", "b", "--lease", "xyz"], 128, "not a lease id"),
        (["put", "a", "b", "--ignore-value"], 128, "cannot be given together"),
        (["put", "a", "b", "-w", "table"], 128, "-w table does not fit here"),
        (["compact", "0"], 128, "Invalid value"),
        (["compact", str(2**63)], 128, "is not a whole number from 1 to 9223372036854775807"),
        (["get", "a", "--rev", str(2**63)], 128, "Invalid value"),
        (["get", "a", "--limit", "many"], 128, "'many' is not a whole number"),
        (["put", "", "b"], 1, "etcdserver: key is not provided"),
        (["get", "a", "--rev", "99999999"], 1, "required revision is a future revision"),
        (["--cacert", "/nowhere", "get", "a"], 3, "TLS: /nowhere: No such file or directory"),
        (["--cert", __file__, "get", "a"], 3, "TLS: a certificate and its key go together"),
        (["--command-timeout", "soon", "get", "a"], 128, "must be a duration"),
        (["gte", "a"], 128, "no such command 'gte'; did you mean get?"),
    ],
)
def test_what_is_wrong_is_said_with_etcdctls_exit_codes(
    run: Run, endpoint: str, arguments: list[str], code: int, text: str
) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (code, b"")
    assert text in done.err


def test_a_malformed_transaction_is_invalid_input(run: Run, endpoint: str) -> None:
    done = run("txn", stdin=b'foo("a") = "1"\n\n\n')
    assert (done.code, done.out) == (3, b"")
    assert "unknown target foo" in done.err
    done = run("txn", stdin=b"\nget a --rev=%d\n\n" % (2**63))
    assert (done.code, done.out) == (3, b"")
    assert "is not a whole number" in done.err


def test_no_server_is_a_bad_connection_with_advice(run: Run) -> None:
    done = run("--endpoints", f"127.0.0.1:{free_port()}", "get", "a")
    assert done.code == 2
    assert "chainfire serve" in done.err


def test_sizes_are_written_as_etcdctl_writes_them() -> None:
    assert [bytes_text(size) for size in (0, 9, 20480, 1_500_000, 999, 2_147_483_648)] == [
        "0 B",
        "9 B",
        "20 kB",
        "1.5 MB",
        "999 B",
        "2.1 GB",
    ]


def test_a_table_of_nothing_has_its_head() -> None:
    assert table(["a"], []) == "+---+\n| A |\n+---+"
