"""TLS on every door: who is let in, and that renewed files are shown without a restart."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from chainfire.config import TlsConfig
from chainfire.errors import ConfigError
from chainfire.gateway.http import probe_app
from chainfire.gateway.http_server import HttpServer
from chainfire.gateway.tls import Certificates
from chainfire.proto import kv_pb2
from tests import http2
from tests.api.fake_node import Api
from tests.certificates import revoked
from tests.gateway.doors import HAS_NATIVE, GrpcDoor, LoopThread, metrics_of, status_of
from tests.pki import Pki
from tests.waiting import until

needs_native = pytest.mark.skipif(not HAS_NATIVE, reason="chainfire-native is not installed")
STATUS = "/etcdserverpb.Maintenance/Status"
DEADLINE_SECONDS = 20.0


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki")).make_all()


@pytest.fixture
def own_pki(tmp_path: Path) -> Pki:
    """One whose files the test may replace."""
    return Pki(tmp_path).make_all()


def files(pki: Pki, *, ca: bool = False, **fields: Any) -> TlsConfig:
    chosen = TlsConfig(cert_file=pki.file("server.pem"), key_file=pki.file("server.key"))
    if ca:
        chosen = replace(chosen, trusted_ca_file=pki.file("ca.pem"))
    return replace(chosen, **fields)


@contextmanager
def served(kind: str, config: TlsConfig) -> Iterator[GrpcDoor]:
    door = GrpcDoor(None, "https://127.0.0.1:0", kind=kind, certificates=Certificates(config))
    try:
        yield door
    finally:
        door.close()


def status(door: GrpcDoor, credentials: grpc.ChannelCredentials) -> grpc.StatusCode:
    port = door.server.ports[0]
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        return status_of(lambda: channel.unary_unary(STATUS)(b"", timeout=5))[0]


def shown(port: int, context: ssl.SSLContext | None = None) -> bytes:
    """The certificate that the server shows, DER."""
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        found = wrapped.getpeercert(binary_form=True)
        assert found is not None
        return found


def wait_until_shown(port: int, pem: bytes) -> None:
    wanted = ssl.PEM_cert_to_DER_cert(pem.decode())
    until(lambda: shown(port) == wanted, "the renewed certificate is not shown")


def test_https_urls_serve_who_trusts_the_certificate(kind: str, pki: Pki) -> None:
    with served(kind, files(pki)) as door:
        trusting = grpc.ssl_channel_credentials(pki.read("ca.pem"))
        assert status(door, trusting) is grpc.StatusCode.OK
        code, _ = status_of(lambda: door.unary(STATUS, b"", timeout=5))  # in the clear
        assert code is grpc.StatusCode.UNAVAILABLE


def test_with_a_ca_clients_must_show_a_certificate_of_it(kind: str, own_pki: Pki) -> None:
    pki = own_pki
    pki.make("stranger")
    with served(kind, files(pki, ca=True)) as door:
        ca = pki.read("ca.pem")
        for name, expected in (
            ("client", grpc.StatusCode.OK),
            ("stranger", grpc.StatusCode.UNAVAILABLE),
        ):
            key, cert = pki.read(f"{name}.key"), pki.read(f"{name}.pem")
            assert status(door, grpc.ssl_channel_credentials(ca, key, cert)) is expected
        none = grpc.ssl_channel_credentials(ca)
        assert status(door, none) is grpc.StatusCode.UNAVAILABLE


def shows(door: GrpcDoor, pki: Pki, name: str) -> grpc.StatusCode:
    key, cert = pki.read(f"{name}.key"), pki.read(f"{name}.pem")
    return status(door, grpc.ssl_channel_credentials(pki.read("ca.pem"), key, cert))


@needs_native
def test_revoked_certificates_are_refused_as_soon_as_the_list_says_so(own_pki: Pki) -> None:
    pki = own_pki
    pki.make("other", "ca")
    crl = revoked(pki.path, "other")
    with served("native", files(pki, ca=True, client_crl_file=str(crl))) as door:
        assert shows(door, pki, "client") is grpc.StatusCode.OK
        assert shows(door, pki, "other") is grpc.StatusCode.UNAVAILABLE
        revoked(pki.path, "client")
        refused = lambda: shows(door, pki, "client") is not grpc.StatusCode.OK  # noqa: E731
        until(refused, "the renewed list is not taken")
        assert shows(door, pki, "other") is grpc.StatusCode.OK


@needs_native
def test_only_clients_with_an_allowed_name_are_served(own_pki: Pki) -> None:
    pki = own_pki
    pki.make("named", "ca", "DNS:a.example")
    names = ("b.example", "a.example")
    config = files(pki, ca=True, client_cert_allowed_hostname=names)
    with served("native", config) as door:
        assert shows(door, pki, "named") is grpc.StatusCode.OK
        assert shows(door, pki, "client") is grpc.StatusCode.UNAVAILABLE


def test_a_revocation_list_that_is_none_is_named(own_pki: Pki) -> None:
    config = files(own_pki, ca=True, client_crl_file=own_pki.file("client.key"))
    with pytest.raises(ConfigError, match="client-crl-file: "):
        Certificates(config)


def test_a_renewed_certificate_is_shown_without_a_restart(kind: str, own_pki: Pki) -> None:
    pki = own_pki
    with served(kind, files(pki)) as door:
        port = door.server.ports[0]
        wait_until_shown(port, pki.read("server.pem"))
        pki.make("next", "ca", "DNS:localhost")
        renewed = pki.read("next.pem")
        pki.replace("server", by="next")
        wait_until_shown(port, renewed)
        trusting = grpc.ssl_channel_credentials(pki.read("ca.pem"))
        assert status(door, trusting) is grpc.StatusCode.OK


def test_another_ca_counts_without_a_restart(kind: str, own_pki: Pki) -> None:
    pki = own_pki
    with served(kind, files(pki, ca=True)) as door:
        pki.make("ca2")
        pki.make("client2", "ca2")
        ca, ca2 = pki.read("ca.pem"), pki.read("ca2.pem")
        client2 = grpc.ssl_channel_credentials(ca, pki.read("client2.key"), pki.read("client2.pem"))
        assert status(door, client2) is grpc.StatusCode.UNAVAILABLE
        Path(pki.file("ca.pem")).write_bytes(ca2)
        counts = lambda: status(door, client2) is grpc.StatusCode.OK  # noqa: E731
        until(counts, "the renewed authority does not count")
        client = grpc.ssl_channel_credentials(ca, pki.read("client.key"), pki.read("client.pem"))
        assert status(door, client) is grpc.StatusCode.UNAVAILABLE


def test_files_that_do_not_fit_leave_what_was(
    own_pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    pki = own_pki
    certificates = Certificates(files(pki))
    before = certificates.pem
    pki.make("next", "ca", "DNS:localhost")
    Path(pki.file("next.pem")).replace(pki.file("server.pem"))  # its key is not there yet
    assert [certificates.refresh() for _ in range(3)] == [0, 0, 0]
    assert certificates.pem == before
    assert len(caplog.messages) == 1
    Path(pki.file("next.key")).replace(pki.file("server.key"))
    assert certificates.refresh() == 1
    assert certificates.pem != before


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"cert_file": "/nowhere"}, "cert-file: /nowhere: No such file"),
        ({"key_file": "ca.key"}, "cert-file, key-file: "),
        ({"trusted_ca_file": "server.key"}, "trusted-ca-file: "),
        ({"cipher_suites": ("TLS_RSA_WITH_RC4_128_SHA",)}, "unexpected TLS cipher suite"),
    ],
)
def test_what_cannot_be_used_is_said_at_the_start(
    pki: Pki, fields: dict[str, Any], expected: str
) -> None:
    given = {
        name: pki.file(value) if isinstance(value, str) and not value.startswith("/") else value
        for name, value in fields.items()
    }
    with pytest.raises(ConfigError, match=expected):
        Certificates(files(pki, **given))


def test_tls_without_a_certificate_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="TLS needs a certificate"):
        GrpcDoor(None, "https://127.0.0.1:0", kind=kind)


CHOICES = (
    {"tls_min_version": "TLS1.3"},
    {"tls_max_version": "TLS1.2"},
    {"cipher_suites": ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",), "tls_max_version": "TLS1.2"},
)


@pytest.mark.parametrize("fields", CHOICES)
def test_versions_and_ciphers_are_as_chosen_or_refused(
    kind: str, pki: Pki, fields: dict[str, Any]
) -> None:
    config = files(pki, **fields)
    if kind == "grpcio":
        with pytest.raises(ConfigError, match="the door grpcio cannot choose them"):
            GrpcDoor(None, "https://127.0.0.1:0", kind=kind, certificates=Certificates(config))
        return
    with served(kind, config) as door:
        assert negotiated(door.server.ports[0]) == as_chosen(config)


def negotiated(port: int) -> tuple[str | None, str | None]:
    """(version, cipher of TLS 1.2)"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        cipher = wrapped.cipher()
        version = wrapped.version()
        return version, cipher[0] if cipher and version == "TLSv1.2" else None


def as_chosen(config: TlsConfig) -> tuple[str, str | None]:
    if config.tls_max_version != "TLS1.2":
        return "TLSv1.3", None
    if config.cipher_suites:
        return "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"
    return "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"  # rustls' first choice


@pytest.mark.parametrize("fields", CHOICES)
def test_http_listeners_have_the_same_tls(own_pki: Pki, fields: dict[str, Any]) -> None:
    pki = own_pki
    config = files(pki, **fields)
    thread, api = LoopThread(), Api()

    async def start() -> HttpServer:
        app = probe_app(api.services, metrics_of(api))
        server = HttpServer(app, ["https://127.0.0.1:0"], Certificates(config))
        await server.start()
        return server

    server = thread.run(start())
    try:
        port = server.ports[0]
        version, cipher = as_chosen(config)
        assert negotiated(port) == (version, cipher)
        pki.make("next", "ca", "DNS:localhost")
        renewed = pki.read("next.pem")
        pki.replace("server", by="next")
        wait_until_shown(port, renewed)
    finally:
        thread.run(server.aclose())
        thread.close()


@needs_native
def test_who_reads_slower_than_the_door_writes_gets_the_whole_answer(pki: Pki) -> None:
    """Of whatever size: one of them leaves its last bytes in TLS when the socket takes no more."""
    row, rows = bytes(48_000), 80
    context = ssl.create_default_context(cafile=pki.file("ca.pem"))
    context.set_alpn_protocols(["h2"])
    credentials = grpc.ssl_channel_credentials(pki.read("ca.pem"))
    with served("native", files(pki)) as door:
        port = door.server.ports[0]
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            for n in range(rows):
                put = kv_pb2.PutRequest(key=b"row%04d" % n, value=row)
                channel.unary_unary("/etcdserverpb.KV/Put")(put.SerializeToString(), timeout=10)
        for limit in range(1, rows + 1):
            assert answer_bytes(port, context, limit) > limit * len(row)


def answer_bytes(port: int, context: ssl.SSLContext, limit: int) -> int:
    """The size of the answer to a range of so many rows, read in small pieces."""
    ranged = kv_pb2.RangeRequest(key=b"row", range_end=b"rox", limit=limit).SerializeToString()
    window = (1 << 30).to_bytes(4, "big")
    opening = http2.PREFACE + http2.frame(http2.SETTINGS, b"\0\4" + window)  # for each stream
    opening += http2.frame(http2.WINDOW_UPDATE, window)
    opening += http2.unary("/etcdserverpb.KV/Range", ranged)
    found = 0
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        plain.settimeout(DEADLINE_SECONDS)
        plain.connect(("127.0.0.1", port))
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(opening)
            for kind, flags, payload in http2.frames(client):
                found += len(payload) if kind == http2.DATA else 0
                if kind == http2.HEADERS and flags & http2.END_STREAM:
                    return found
    raise AssertionError("closed")
