"""TLS between members, mutual where a CA is named."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chainfire.errors import ConfigError
from chainfire.node import tlsdoor, transport
from chainfire.node.frames import Chain, framed
from chainfire.node.handshake import HELLO, Channel, encode_hello
from chainfire.node.peertls import PeerTls, PeerTlsFiles, is_for
from tests.certificates import Authority, revoked
from tests.node.peering import Station
from tests.node.running import on_servers_loop, until
from tests.node.strangers import strangers
from tests.servers import free_port


def files(
    authority: Authority, name: str, hosts: str = "IP:127.0.0.1,DNS:localhost", **options: Any
) -> PeerTlsFiles:
    cert, key = authority.issue(name, hosts)
    return PeerTlsFiles(
        cert_file=str(cert),
        key_file=str(key),
        trusted_ca_file=str(authority.cert_file),
        **options,
    )


async def station(id: int, tls: PeerTlsFiles) -> Station:
    made = Station(id, free_port(), tls=tls)
    made.scheme = "https"
    await made.begin()
    return made


@on_servers_loop
async def test_members_of_one_authority_talk(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one = await station(1, files(authority, "one", client_cert_auth=True))
    two = await station(2, files(authority, "two", client_cert_auth=True))
    one.sees(two)
    two.sees(one)
    await until(lambda: one.is_up(two) and two.is_up(one))
    one.transport.send(2, [Chain(1, 2)])
    await until(lambda: two.ears.frames == [(1, Chain(1, 2))])
    await one.end()
    await until(lambda: two.ears.gones == [1])
    await two.end()


@on_servers_loop
async def test_without_a_certificate_of_the_authority_nobody_gets_in(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    one = await station(1, files(other, "one"))
    two = await station(2, files(authority, "two"))
    one.sees(two)
    two.sees(one)
    await until(lambda: one.transport._seldom._last and two.transport._seldom._last)
    assert one.ears.hellos == two.ears.hellos == []
    await one.end()
    await two.end()


@on_servers_loop
async def test_a_member_whose_certificate_is_revoked_is_kept_out(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one_files, two_files = files(authority, "one"), files(authority, "two")
    list_file = str(revoked(tmp_path, "one"))
    one = await station(1, one_files)
    two = await station(2, replace(two_files, crl_file=list_file))
    one.sees(two)
    await until(lambda: one.transport._seldom._last)
    assert two.ears.hellos == []
    await one.end()
    await two.end()


@on_servers_loop
@pytest.mark.parametrize(
    ("option", "names"),
    [("allowed_common_names", ("one",)), ("allowed_host_names", ("localhost",))],
)
async def test_only_members_with_an_allowed_name_are_let_in(
    tmp_path: Path, option: str, names: tuple[str, ...]
) -> None:
    authority = Authority(tmp_path)
    one = await station(1, files(authority, "one"))
    other = await station(3, files(authority, "other", hosts="IP:127.0.0.1"))
    two = await station(2, replace(files(authority, "two"), **{option: names}))
    two.sees(one, other)
    one.sees(two)
    other.sees(two)
    await until(lambda: one.is_up(two) and bool(two.transport._seldom._last))
    assert not other.is_up(two)
    for each in (one, other, two):
        await each.end()


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        (("DNS", "a.example"), "A.example", True),
        (("DNS", "*.example"), "a.example", True),
        (("DNS", "*.example"), "a.b.example", False),
        (("DNS", "*.example"), "example", False),
        (("DNS", "*"), "a", False),
        (("IP Address", "127.0.0.1"), "127.0.0.1", True),
        (("URI", "a.example"), "a.example", False),
    ],
)
def test_host_names_are_compared_as_for_servers(
    given: tuple[str, str], name: str, expected: bool
) -> None:
    assert is_for({"subjectAltName": (given,)}, name) is expected
    assert not is_for(None, name)


@on_servers_loop
async def test_plain_bytes_do_not_get_into_a_tls_port(tmp_path: Path) -> None:
    one = Station(1, free_port())
    await one.begin()
    two = await station(2, files(Authority(tmp_path), "two"))
    two.scheme = "http"
    one.sees(two)
    await until(lambda: one.transport._seldom._last)
    assert one.ears.hellos == []
    await one.end()
    await two.end()


@on_servers_loop
async def test_a_flood_of_half_done_handshakes_is_bounded_and_keeps_no_member_out(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    one = await station(1, files(authority, "one"))
    two = await station(2, files(authority, "two"))
    floods = [await asyncio.open_connection("127.0.0.1", two.port) for _ in range(100)]
    async with asyncio.timeout(2):  # well before their time is over
        for reader, _ in floods[: 100 - tlsdoor.HANDSHAKES_MAX]:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
    one.sees(two)
    two.sees(one)
    await until(lambda: one.is_up(two) and two.is_up(one))
    await two.end()
    for reader, writer in floods:
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    await one.end()


@on_servers_loop
async def test_a_flood_from_elsewhere_ends_no_members_handshake(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    two = await station(2, files(authority, "two"))
    two.sees(Station(1, free_port()))
    try:
        with socket.create_connection(("127.0.0.1", two.port)) as slow, strangers(two.port, 90):
            slow.setblocking(False)
            (door,) = two.transport._tls_doors
            await until(lambda: len(door._half_done) == tlsdoor.HANDSHAKES_MAX)
            context = PeerTls(files(authority, "one")).client()
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(
                    sock=slow, ssl=context, server_hostname="127.0.0.1"
                )
            mine = replace(two.hello, sender=1, to=2, channel=Channel.URGENT)
            writer.write(framed(encode_hello(HELLO, mine)))
            assert await asyncio.wait_for(reader.read(100), 2)
            writer.close()
    finally:
        await two.end()


@on_servers_loop
async def test_self_signed_members_talk_without_verifying_each_other(tmp_path: Path) -> None:
    made = []
    for id in (1, 2):
        authority = Authority(tmp_path, f"self{id}")
        key = authority.cert_file.with_suffix(".key")
        tls = PeerTlsFiles(cert_file=str(authority.cert_file), key_file=str(key), self_signed=True)
        made.append(await station(id, tls))
    one, two = made
    one.sees(two)
    two.sees(one)
    await until(lambda: one.is_up(two) and two.is_up(one))
    await one.end()
    await two.end()


@on_servers_loop
async def test_a_renewed_certificate_is_taken_without_a_restart_or_an_election(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "WATCH_SECONDS", 0.02)
    authority = Authority(tmp_path)
    one = await station(1, files(authority, "one"))
    two = await station(2, files(authority, "two"))
    one.sees(two)
    two.sees(one)
    await until(lambda: one.is_up(two) and two.is_up(one))
    tls = two.transport._tls
    assert tls is not None
    before = tls._stamp
    cert, key = authority.issue("renewed")
    shutil.copy(cert, tmp_path / "two.pem")
    shutil.copy(key, tmp_path / "two.key")
    for name in ("two.pem", "two.key"):
        os.utime(tmp_path / name, (1, 1))
    await until(lambda: tls._stamp != before)
    assert one.is_up(two)
    assert one.ears.gones == two.ears.gones == []
    await one.end()
    await two.end()


@pytest.mark.parametrize("broken", ["cert_file", "trusted_ca_file"])
def test_a_file_that_is_no_certificate_is_named(broken: str, tmp_path: Path) -> None:
    good = files(Authority(tmp_path), "one")
    (tmp_path / "broken.pem").write_text("no certificate")
    names = {
        "cert_file": good.cert_file,
        "key_file": good.key_file,
        "trusted_ca_file": good.trusted_ca_file,
        broken: str(tmp_path / "broken.pem"),
    }
    with pytest.raises(ConfigError, match=r"broken\.pem"):
        PeerTls(PeerTlsFiles(**names))
