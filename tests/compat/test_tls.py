"""A member that serves over TLS, as the stock etcdctl and our own client see it; etcd beside it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chainfire.client import Tls, Unreachable, connect_sync
from tests import peers
from tests.compat.ctl import Ctl
from tests.pki import Pki
from tests.servers import READY_SECONDS, ROOT, Kind, Server, etcds, free_port


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki")).make_all()


def kinds() -> list[Kind]:
    theirs = peers.need_kind(next(iter(etcds()), None), "a real etcd")
    return [peers.need_chainfire(), theirs]


@contextmanager
def serving(
    kind: Kind, directory: Path, ctl_flags: str, *flags: str, peer_port: int = 0
) -> Iterator[str]:
    """The https:// endpoint of a server that answers etcdctl with these flags."""
    port = free_port()
    url = f"https://localhost:{port}"
    listen = f"--listen-client-urls=https://127.0.0.1:{port}"
    server = Server(
        kind,
        directory / "data",
        (listen, f"--advertise-client-urls={url}", *flags),
        port=port,
        peer_port=peer_port,
    )
    server.spawn()
    try:
        ctl = Ctl(peers.need_tool("etcdctl"), url)
        end = time.monotonic() + READY_SECONDS
        while (done := ctl(f"{ctl_flags} get x")).code:
            assert time.monotonic() < end, (done.error, server.log())
        yield url
    finally:
        server.kill()


@pytest.mark.lone
def test_etcdctl_with_a_client_certificate_and_without(pki: Pki, tmp_path: Path) -> None:
    trust = f"--cacert={pki.file('ca.pem')}"
    shown = f"{trust} --cert={pki.file('client.pem')} --key={pki.file('client.key')}"
    flags = (
        f"--cert-file={pki.file('server.pem')}",
        f"--key-file={pki.file('server.key')}",
        f"--trusted-ca-file={pki.file('ca.pem')}",
        "--client-cert-auth",
    )
    seen = []
    for place, kind in enumerate(kinds()):
        directory = tmp_path / str(place)
        directory.mkdir()
        with serving(kind, directory, shown, *flags) as url:
            ctl = Ctl(peers.need_tool("etcdctl"), url)
            outputs = [ctl(f"{shown} {command}") for command in ("put a b", "get a", "del a")]
            outputs.append(ctl(f"{shown} endpoint health"))
            refused = [ctl(f"--command-timeout=1s {options} get a") for options in (trust, "")]
            seen.append((outputs[:3], outputs[3].code, [output.code for output in refused]))
            if kind.is_chainfire:
                check_our_client(url, pki)
    assert seen[0] == seen[1]


def check_our_client(url: str, pki: Pki) -> None:
    files = [pki.file(name) for name in ("ca.pem", "client.pem", "client.key")]
    with connect_sync(url, tls=Tls.of_files(*files)) as client:
        client.put("ours", "1")
    with (
        connect_sync(url, timeout=1.0, tls=Tls.of_files(files[0])) as client,
        pytest.raises(Unreachable),
    ):
        client.get("ours")
    options = [
        f"--{name}={file}" for name, file in zip(("cacert", "cert", "key"), files, strict=True)
    ]
    host = url.removeprefix("https://")  # as etcd: no scheme, but something for TLS
    done = subprocess.run(
        [sys.executable, "-m", "chainfire", f"--endpoints={host}", *options, "get", "ours"],
        capture_output=True,
        env={"PYTHONPATH": str(ROOT / "src")},
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"ours\n1\n"), done.stderr


@pytest.mark.lone
def test_auto_tls_makes_a_certificate_that_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("chainfire_native")
    blind = "--insecure-transport=false --insecure-skip-tls-verify"
    found, kind, peer_port = [], peers.need_chainfire(), free_port()
    for _ in range(2):
        with serving(kind, tmp_path, blind, "--auto-tls", peer_port=peer_port) as url:
            certificate = (tmp_path / "data" / "fixtures" / "client" / "cert.pem").read_bytes()
            found.append(certificate)
            with connect_sync(url, tls=Tls(ca=certificate)) as client:
                client.put("a", "b")
    assert found[0] == found[1]
    key = tmp_path / "data" / "fixtures" / "client" / "key.pem"
    assert key.stat().st_mode & 0o777 == 0o600
