"""`chainfire bench` over TLS, against Chainfire and etcd: every workload, and every way to fail.

What an expired certificate and a server without HTTP/2 lead to is held by native/tests/load_tls.rs.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chainfire import wheel
from tests.cli.conftest import Run
from tests.peers import need_chainfire, need_kind
from tests.pki import Pki
from tests.servers import Server, etcds, free_port

if wheel.FAULT is not None:
    pytest.skip(wheel.FAULT, allow_module_level=True)


@dataclass(frozen=True, slots=True)
class Doors:
    """One server: plain on one port, with TLS and client certificates on another."""

    plain: str
    tls: str  # both without a scheme, by name
    pki: Pki

    def files(self, client: str = "client", ca: str = "ca") -> list[str]:
        shown = [
            f"--cert={self.pki.file(f'{client}.pem')}",
            f"--key={self.pki.file(f'{client}.key')}",
        ]
        return [f"--cacert={self.pki.file(f'{ca}.pem')}", *(shown if client else [])]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    pki = Pki(tmp_path_factory.mktemp("pki")).make_all()
    pki.make("named", "ca", "DNS:localhost")  # not 127.0.0.1
    pki.make("other-ca")
    pki.make("stranger", "other-ca")
    return pki


@pytest.fixture(scope="module", params=["chainfire", "etcd"])
def doors(
    request: pytest.FixtureRequest, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Doors]:
    is_etcd = request.param == "etcd"
    kind = need_kind(next(iter(etcds()), None), "etcd") if is_etcd else need_chainfire()
    port, tls_port = free_port(), free_port()
    flags = (
        f"--listen-client-urls=http://127.0.0.1:{port},https://127.0.0.1:{tls_port}",
        f"--cert-file={pki.file('named.pem')}",
        f"--key-file={pki.file('named.key')}",
        f"--trusted-ca-file={pki.file('ca.pem')}",
        "--client-cert-auth",
    )
    directory = tmp_path_factory.mktemp("server") / "data"
    with Server(kind, directory, flags, port=port):
        yield Doors(f"localhost:{port}", f"localhost:{tls_port}", pki)


@pytest.mark.parametrize(
    "arguments",
    [
        ("put", "--keys=200", "--value-size=5000"),
        ("range", "--keys=200", "--rate=400", "--in-flight=8"),
        ("txn", "--keys=200", "--lease", "--prefix=lease/"),
        ("mixed", "--keys=200"),
        ("delete", "--keys=200"),
        ("watch", "--watchers=20", "--streams=4", "--connections=2"),
        ("lease-grant",),
        ("keepalive", "--leases=50"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_each_workload_runs_over_tls(run: Run, doors: Doors, arguments: tuple[str, ...]) -> None:
    where = (f"--endpoints=https://{doors.tls}", *doors.files())
    done = run("bench", *arguments, "--total=200", "--warm-up=0", "--json", *where)
    assert done.code == 0, done.err
    (found,) = json.loads(done.out)["runs"]
    assert found["system"].startswith(f"https://{doors.tls} (")
    assert (found["errors"], found["redials"]) == ([], 0)
    assert not any((found["told"] or {}).values())
    assert found["answers"] == 200 * (20 if arguments[0] == "watch" else 1)


def test_one_side_of_a_comparison_may_be_plain(run: Run, doors: Doors) -> None:
    sizes = ("--total=100", "--keys=100", "--warm-up=0", "--in-flight=4", "--rounds=2")
    # Without a scheme, as etcdctl: TLS, since there are files for it.
    sides = (f"--endpoints={doors.tls}", f"--compare=http://{doors.plain}")
    done = run(*doors.files(), "bench", "put", *sides, *sizes)
    assert done.code == 0, done.err
    assert done.out.decode().count(f"https://{doors.tls}") == 3  # in two rounds, and the table
    assert "medians of 2 rounds" in done.out.decode()


@pytest.mark.parametrize(
    ("endpoint", "client", "ca", "text"),
    [
        ("https://{tls}", "client", "other-ca", "no authority that is trusted has signed it"),
        ("https://127.0.0.1:{port}", "client", "ca", 'not valid for name "127.0.0.1"'),
        ("https://{tls}", "", "ca", "client certificate"),
        ("https://{tls}", "stranger", "ca", "client certificate"),
        ("https://{plain}", "client", "ca", "does not speak TLS"),
        ("http://{tls}", "client", "ca", "TLS"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    run: Run, doors: Doors, endpoint: str, client: str, ca: str, text: str
) -> None:
    where = endpoint.format(tls=doors.tls, plain=doors.plain, port=doors.tls.split(":")[1])
    done = run("bench", "put", f"--endpoints={where}", *doors.files(client, ca))
    assert (done.code, done.out) == (3, b"")
    assert done.err.startswith(f"Error: {where}: the server"), done.err
    assert text in done.err


@pytest.mark.parametrize(
    ("scheme", "text"),
    [("https", "perhaps it does not speak TLS"), ("http", "perhaps it speaks TLS, or no HTTP/2")],
)
def test_a_server_that_resets_the_connection_is_told_from_one_that_is_not_there(
    run: Run, doors: Doors, scheme: str, text: str
) -> None:
    """So ends a close with bytes unread, which may overtake what the server had to say."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reset() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=reset)
        thread.start()
        where = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        done = run("bench", "put", f"--endpoints={where}", *doors.files("client", "ca"))
        thread.join()
    assert (done.code, done.out) == (3, b"")
    assert done.err.startswith(f"Error: {where}: the server closed the connection"), done.err
    assert text in done.err


def test_tls_may_be_asked_for_without_files(run: Run, doors: Doors) -> None:
    done = run("bench", "put", f"--endpoints={doors.tls}", "--tls")
    assert f"Error: https://{doors.tls}: the server's certificate is refused" in done.err


def test_files_that_do_not_fit_are_named(run: Run, pki: Pki, tmp_path: Path) -> None:
    no_key = tmp_path / "key"
    no_key.write_text("nothing")
    for files, text in (
        ((f"--cacert={no_key}",), "TLS: CA: no certificate"),
        ((f"--cacert={pki.file('ca.pem')}", f"--cert={pki.file('client.pem')}"), "go together"),
        ((f"--cert={pki.file('client.pem')}", f"--key={no_key}"), "TLS: key: "),
        ((f"--cacert={tmp_path / 'nowhere'}",), "nowhere: No such file"),
    ):
        done = run("bench", "put", "--endpoints=https://localhost:1", *files)
        assert done.code == 3, done.err
        assert text in done.err
