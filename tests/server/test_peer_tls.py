"""Three real members that speak TLS with each other, by etcd's --peer-… flags."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chainfire.client import connect_sync
from tests import peers
from tests.pki import Pki
from tests.servers import Server, free_port

NAMES = ("a", "b", "c")
READY_SECONDS = 60.0


@contextmanager
def members(directory: Path, flags: Callable[[str], tuple[str, ...]]) -> Iterator[list[Server]]:
    ports = {name: free_port() for name in NAMES}
    url = "https://127.0.0.1:{}".format
    founders = ",".join(f"{name}={url(port)}" for name, port in ports.items())
    with ExitStack() as stack:
        servers = []
        for name, port in ports.items():
            own = (
                f"--name={name}",
                f"--listen-peer-urls={url(port)}",
                f"--initial-advertise-peer-urls={url(port)}",
                f"--initial-cluster={founders}",
            )
            made = Server(peers.need_chainfire(), directory / name, (*own, *flags(name)))
            made.spawn()
            stack.callback(made.kill)
            servers.append(made)
        yield servers


def check_serving(servers: list[Server]) -> None:
    for server in servers:
        server.wait_ready(READY_SECONDS)
    for number, server in enumerate(servers):
        with connect_sync(server.url, timeout=20.0) as client:
            client.put(f"from{number}", "1")
    with connect_sync(servers[0].url) as client:
        assert len(client.get_prefix("from").kvs) == len(servers)


def test_members_with_certificates_of_one_authority_form_a_cluster(tmp_path: Path) -> None:
    pki = Pki(tmp_path).make_all()
    flags = (
        f"--peer-cert-file={pki.file('server.pem')}",
        f"--peer-key-file={pki.file('server.key')}",
        f"--peer-trusted-ca-file={pki.file('ca.pem')}",
        "--peer-client-cert-auth",
    )
    with members(tmp_path, lambda _: flags) as servers:
        check_serving(servers)


@pytest.mark.slow
def test_a_member_with_a_certificate_of_another_authority_is_kept_out(tmp_path: Path) -> None:
    pki = Pki(tmp_path).make_all()
    pki.make("other")
    pki.make("stranger", "other", "IP:127.0.0.1")

    def flags(name: str) -> tuple[str, ...]:
        certificate = "stranger" if name == "c" else "server"
        return (
            f"--peer-cert-file={pki.file(certificate + '.pem')}",
            f"--peer-key-file={pki.file(certificate + '.key')}",
            f"--peer-trusted-ca-file={pki.file('ca.pem')}",
        )

    with members(tmp_path, flags) as servers:
        end = time.monotonic() + READY_SECONDS
        while "certificate" not in servers[0].log(20_000).lower():
            assert time.monotonic() < end, servers[0].log()
            time.sleep(0.1)
        assert servers[2].process is not None
        assert servers[2].process.poll() is None  # it waits; nobody lets it in


@pytest.mark.slow
def test_members_with_certificates_of_their_own_making_form_a_cluster(tmp_path: Path) -> None:
    pytest.importorskip("chainfire_native")
    with members(tmp_path, lambda _: ("--peer-auto-tls",)) as servers:
        check_serving(servers)
    for name in NAMES:
        assert (tmp_path / name / "fixtures" / "peer" / "key.pem").exists()
