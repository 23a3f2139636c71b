"""Connections between members over loopback: delivery, bounds, refusals, and who is gone."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from dataclasses import replace

import pytest

from chainfire.errors import ConfigError
from chainfire.node import accepting, dialer, transport
from chainfire.node.frames import Chain, Forward, Refused, framed
from chainfire.node.handshake import HELLO, Channel, Reason, encode_hello
from chainfire.node.transport import TransportLimits
from chainfire.raft.messages import Message, MessageType
from chainfire.types import Entry
from tests.node.peering import Station, connected, stations
from tests.node.running import on_loop, on_servers_loop, until
from tests.node.strangers import is_closed, strangers
from tests.proxy import Proxy
from tests.servers import free_port


def heartbeat(to: int, sender: int, number: int = 0) -> Message:
    return Message(MessageType.HEARTBEAT, to, sender, term=1, commit=number)


def append(to: int, sender: int, size: int = 10) -> Message:
    return Message(MessageType.APPEND, to, sender, term=1, entries=[Entry(1, 1, data=bytes(size))])


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The once-a-second look, and what it allows, a good deal faster."""
    monkeypatch.setattr(transport, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(dialer, "SILENCE_SECONDS_MAX", dict.fromkeys(Channel, 0.2))
    monkeypatch.setattr(dialer, "DENIED_SECONDS", 0.05)
    monkeypatch.setattr(dialer, "CONNECT_SECONDS_MAX", 0.5)
    monkeypatch.setattr(dialer, "HANDSHAKE_SECONDS_MAX", 0.5)


@on_servers_loop
async def test_frames_arrive_in_order_and_whole() -> None:
    async with connected(3) as (one, two, three):
        sent = [append(2, 1), Forward([b"a", b"b"]), heartbeat(2, 1), Chain(1, 2)]
        one.transport.send(2, sent)
        one.transport.send(3, [Refused(1, (2,), 14)])
        await until(lambda: len(two.ears.frames) == 4 and three.ears.frames)
        bulk = [frame for _, frame in two.ears.frames if frame in sent[:2]]
        assert bulk == sent[:2]
        assert {id for id, _ in two.ears.frames} == {1}
        assert three.ears.frames == [(1, Refused(1, (2,), 14))]


@on_loop
async def test_any_event_loop_will_do() -> None:
    async with connected() as (one, two):
        one.transport.send(2, [append(2, 1), heartbeat(2, 1)])
        await until(lambda: len(two.ears.frames) == 2)


@on_servers_loop
async def test_a_read_is_handed_over_at_once() -> None:
    async with connected() as (one, two):
        one.transport.send(2, [Chain(number, 0) for number in range(100)])
        await until(lambda: len(two.ears.frames) == 100)
        assert len(two.ears.reads) < 100


@on_servers_loop
async def test_both_sides_hear_who_is_connected_and_store_it() -> None:
    async with connected() as (one, two):
        assert {(peer, welcomed) for peer, _, welcomed in one.ears.hellos} == {
            (2, True),
            (2, False),
        }
        assert one.ears.hellos[0][1].incarnation == 20
        assert two.registry.known[1].start_number == 1
        assert two.registry.stored == 1  # for four handshakes


@on_servers_loop
async def test_heartbeats_pass_what_waits_on_bulk() -> None:
    async with stations(limits=TransportLimits(bulk_bytes_max=200 << 20)) as (one, two):
        two.sees(one)
        one.sees(two)
        await until(lambda: one.is_up(two) and two.is_up(one))
        for _ in range(100):
            one.transport.send(2, [append(2, 1, 1 << 20)])
        one.transport.send(2, [heartbeat(2, 1)])
        await until(lambda: any(f == heartbeat(2, 1) for _, f in two.ears.frames))
        assert len(two.ears.frames) < 101


@on_servers_loop
async def test_a_peer_that_does_not_read_costs_a_bounded_buffer_and_the_others_nothing() -> None:
    limits = TransportLimits(bulk_bytes_max=1 << 20)
    async with connected(3, limits=limits) as (one, _, three):
        proxy = await Proxy(three.port).start()
        one.transport.set_peers({2: [one.url]})
        one.transport.set_peers({3: [f"http://127.0.0.1:{proxy.port}"]})
        await until(lambda: one.is_up(three))
        await proxy.stall()
        for _ in range(64):
            one.transport.send(3, [append(3, 1, 1 << 20)])
        (statistics,) = one.transport.statistics().peers
        assert statistics.waiting_bytes <= 2 << 20
        assert statistics.dropped > 0
        await until(lambda: 3 in one.ears.unreachables)
        await proxy.aclose()


@on_servers_loop
async def test_what_cannot_leave_is_reported_and_never_from_within_send() -> None:
    async with stations() as (one, two):
        await two.end()
        one.sees(two)
        one.transport.send(2, [heartbeat(2, 1)])
        assert one.ears.unreachables == []
        await until(lambda: one.ears.unreachables == [2])


# ── refusals ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "reason", "advice"),
    [
        ({"cluster_id": 8}, Reason.CLUSTER, "--initial-cluster-token"),
        ({"sender": 9}, Reason.STRANGER, "member add"),
        ({"format_oldest": 7, "format_newest": 7}, Reason.FORMAT, "upgrade one version at a time"),
    ],
)
@on_servers_loop
async def test_who_does_not_belong_here_is_refused_with_one_line_that_helps(
    change: dict[str, int], reason: Reason, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with stations() as (one, two):
        two.sees(one)
        one.transport.hello = replace(one.hello, **change)  # type: ignore[arg-type]
        with caplog.at_level(logging.WARNING, "chainfire.node.transport"):
            one.sees(two)
            await until(lambda: len(one.ears.denials) >= 2)
        assert {denial.reason for _, denial in one.ears.denials} == {reason}
        lines = [r for r in caplog.records if "refused a connection" in r.getMessage()]
        assert len(lines) == len({r.__dict__["peer"] for r in lines})  # urgent and bulk dial both
        assert any(advice in str(r.__dict__["detail"]) for r in lines)
        assert two.ears.hellos == []


@on_servers_loop
async def test_a_removed_member_hears_that_it_was() -> None:
    async with stations() as (one, two):
        two.registry.removed.add(1)
        one.sees(two)
        await until(lambda: one.ears.denials)
        assert one.ears.denials[0][1].reason is Reason.REMOVED


@pytest.mark.usefixtures("hasty")
@on_servers_loop
async def test_a_wiped_member_is_refused_under_its_old_id() -> None:
    async with connected() as (one, two):
        await two.end()
        await until(lambda: one.ears.gones == [2])
        two.hello = replace(two.hello, incarnation=99)
        await two.begin()
        two.sees(one)
        await until(lambda: two.ears.denials)
        assert two.ears.denials[0][1].reason is Reason.OTHER_INCARNATION
        assert not one.is_up(two)


@pytest.mark.usefixtures("hasty")
@on_servers_loop
async def test_a_member_that_was_added_late_gets_in_by_itself() -> None:
    async with stations() as (one, two):
        one.sees(two)
        await until(lambda: one.ears.denials)
        two.sees(one)
        await until(lambda: one.is_up(two) and two.is_up(one))


@on_servers_loop
async def test_noise_at_the_door_is_refused_with_one_line_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with connected() as (one, two):
        with caplog.at_level(logging.WARNING, "chainfire.node.transport"):
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
                writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                assert await reader.read() == b""
                writer.close()
        lines = [r for r in caplog.records if "refused a connection" in r.getMessage()]
        assert len(lines) == 1
        assert "client URLs" in str(lines[0].__dict__["detail"])
        one.transport.send(2, [Chain(1, 1)])
        await until(lambda: two.ears.frames)


@on_servers_loop
async def test_broken_frames_end_that_connection_and_nothing_else() -> None:
    async with connected() as (one, two):
        reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
        # Two members' worth of trust, and then nonsense.
        mine = replace(one.hello, to=2, channel=Channel.URGENT)
        writer.write(framed(encode_hello(HELLO, mine)))
        await reader.readexactly(8)
        writer.write(framed(b"\x01 this is no message"))
        while await reader.read(4096):
            pass
        writer.close()
        assert two.ears.frames == []
        one.transport.send(2, [append(2, 1)])
        await until(lambda: two.ears.frames == [(1, append(2, 1))])
        assert one.ears.gones == []


@on_servers_loop
async def test_a_message_in_another_members_name_is_a_broken_frame() -> None:
    async with connected() as (one, two):
        one.transport.send(2, [heartbeat(2, 3)])
        await until(lambda: one.transport.statistics().peers[0].disconnects)
        assert two.ears.frames == []


@on_servers_loop
async def test_a_flood_of_silent_strangers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (one, two):
        sockets = [socket.create_connection(("127.0.0.1", two.port)) for _ in range(100)]
        await until(lambda: len(two.transport._accepting._fresh) >= 60)
        assert len(two.transport._accepting._fresh) <= 64
        one.transport.send(2, [Chain(1, 1)])
        await until(lambda: two.ears.frames)
        for sock in sockets:
            sock.close()


@on_servers_loop
async def test_who_knocks_with_hundreds_of_others_need_not_dial_again() -> None:
    """What the loop has not taken yet waits in the kernel, which drops what it has no room for."""
    async with stations() as (one, two):
        with strangers(two.port, 500):
            one.sees(two)
            two.sees(one)
            await until(lambda: one.is_up(two))


@on_servers_loop
async def test_a_flood_from_elsewhere_does_not_push_a_member_out_that_takes_its_time() -> None:
    async with stations() as (one, two):
        two.sees(one)
        slow = socket.create_connection(("127.0.0.1", two.port))
        with slow, strangers(two.port, 90) as flood:
            await until(lambda: is_closed(flood[90 - accepting.FRESH_MAX - 1]))
            mine = replace(one.hello, to=2, channel=Channel.URGENT)
            slow.sendall(framed(encode_hello(HELLO, mine)))
            slow.setblocking(False)
            loop = asyncio.get_running_loop()
            assert await asyncio.wait_for(loop.sock_recv(slow, 100), 2)


@on_servers_loop
async def test_a_stop_closes_connections_whose_hello_is_being_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with connected() as (one, two):
        judging = asyncio.Event()

        async def never(*_: object) -> None:
            judging.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(two.transport, "admit", never)
        reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
        mine = replace(one.hello, to=2, channel=Channel.URGENT)
        writer.write(framed(encode_hello(HELLO, mine)))
        await judging.wait()
        await two.transport.aclose()
        async with asyncio.timeout(2):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()


# ── who is gone ─────────────────────────────────────────────────────────────


@on_servers_loop
async def test_closed_and_refused_is_gone_once_for_all_connections() -> None:
    async with connected(3) as (one, two, three):
        await two.end()
        await until(lambda: one.ears.gones and three.ears.gones)
        await until(lambda: one.transport.statistics().peers[0].disconnects == 2)
        assert one.ears.gones == three.ears.gones == [2]


@pytest.mark.usefixtures("hasty")
@on_servers_loop
async def test_a_later_start_is_gone_too() -> None:
    async with connected() as (one, two):
        # The process was replaced so quickly that no dial was refused.
        two.hello = replace(two.hello, start_number=5, life=5)
        two.transport.hello = two.hello
        for link in [*one.transport._accepting._open.values()]:
            link.fail(ConnectionAbortedError())
        await until(lambda: one.ears.gones == [2])
        await until(lambda: one.ears.hellos[-1][1].start_number == 5)


@on_servers_loop
async def test_a_reset_alone_is_not_gone() -> None:
    async with stations() as (one, two):
        proxy = await Proxy(two.port).start()
        two.sees(one)
        one.sees(two, through=proxy.port)
        await until(lambda: one.is_up(two))
        await proxy.reset()
        await until(lambda: one.transport.statistics().peers[0].disconnects == 2)
        await until(lambda: one.is_up(two))
        assert one.ears.gones == []
        await proxy.aclose()


@pytest.mark.usefixtures("hasty")
@on_servers_loop
async def test_a_half_open_connection_is_noticed_and_replaced() -> None:
    async with stations() as (one, two):
        proxy = await Proxy(two.port).start()
        two.sees(one)
        one.sees(two, through=proxy.port)
        await until(lambda: one.is_up(two))
        await proxy.stall()
        await until(lambda: one.transport.statistics().peers[0].disconnects >= 2)
        assert one.ears.gones == []
        await proxy.heal()
        await until(lambda: one.is_up(two))
        one.transport.send(2, [Chain(1, 1)])
        await until(lambda: two.ears.frames)
        await proxy.aclose()


@on_servers_loop
async def test_a_peer_that_comes_back_is_reconnected() -> None:
    async with connected() as (one, two):
        await two.end()
        await until(lambda: one.ears.gones == [2])
        await two.begin()
        two.sees(one)
        await until(lambda: one.is_up(two))
        assert one.ears.gones == [2]
        one.transport.send(2, [heartbeat(2, 1)])
        await until(lambda: two.ears.frames)


@on_servers_loop
async def test_a_peer_that_is_no_member_any_more_is_cut_off() -> None:
    async with connected() as (one, two):
        one.transport.set_peers({})
        await until(lambda: two.transport.statistics().peers[0].disconnects == 2)
        await until(lambda: two.ears.denials)
        assert two.ears.denials[0][1].reason is Reason.STRANGER
        assert one.transport.statistics().peers == ()


@pytest.mark.usefixtures("hasty")
@on_servers_loop
async def test_round_trips_are_measured() -> None:
    async with connected() as (one, _):
        await until(lambda: one.transport.statistics().peers[0].round_trips.sum_seconds > 0)


@on_servers_loop
async def test_a_port_that_is_taken_is_named() -> None:
    async with stations(1) as (one,):
        other = Station(2, one.port)
        with pytest.raises(ConfigError, match=f"cannot listen on http://127.0.0.1:{one.port}"):
            await other.begin()
        await other.end()


@on_servers_loop
async def test_a_lost_disk_is_told_in_the_handshake_and_that_it_was_made_good() -> None:
    async with stations(1) as (two,):
        one = Station(7, free_port())
        one.hello = replace(one.hello, lost_data=True)
        await one.begin()
        two.sees(one)
        one.sees(two)
        await until(lambda: two.ears.hellos)
        assert two.ears.hellos[0][1].lost_data
        one.transport.made_good(40)
        await until(lambda: not two.ears.hellos[-1][1].lost_data)
        assert two.ears.hellos[-1][1].log_end == 40
        await one.end()


@on_servers_loop
async def test_a_restart_whose_log_ends_before_what_was_applied_is_turned_away() -> None:
    async with connected() as (one, two):
        await two.end()
        one.ears.applied_index = 7
        two.hello = replace(two.hello, log_end=6)
        await two.begin()
        two.sees(one)
        await until(lambda: two.ears.denials)
        assert two.ears.denials[0][1].reason is Reason.OLDER_COPY


@on_servers_loop
async def test_tls_urls_need_files() -> None:
    station = Station(1, free_port())
    station.scheme = "https"
    with pytest.raises(ConfigError, match="peer-cert-file"):
        await station.begin()
    await station.end()
