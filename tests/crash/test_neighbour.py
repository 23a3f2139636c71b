"""How long a well-behaved client waits while others misbehave: `pytest -m slow -s` prints it.

Each abuse goes on for some seconds, between seconds without it. What is written
down in docs/verification.md is such a run: no test fails on a duration, but on
a call of the neighbour that fails.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chainfire.client import connect_sync
from tests import http2, peers
from tests.crash.abuses import FLOODS, header_bombs, narrow_windows, opened
from tests.servers import Server

SECONDS = 4.0
PUTS_MIN = 20
KEY = b"wide"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def one_connection(
    pieces: Callable[[], Iterator[bytes]], held_seconds: float = 0.1
) -> Callable[[Server], None]:
    def attack(server: Server) -> None:
        with contextlib.suppress(OSError), http2.connect(server.port) as client:
            http2.send(client, pieces())
            time.sleep(held_seconds)

    return attack


def slow_senders(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            client = socket.create_connection(("127.0.0.1", server.port), 10)
            stack.enter_context(client).sendall(http2.PREFACE[:10])
        time.sleep(0.5)


ATTACKS = {
    **{name: one_connection(pieces) for name, pieces in FLOODS.items()},
    "header bombs": one_connection(header_bombs),
    "60,000 idle streams": one_connection(lambda: opened(60_000), SECONDS),
    "windows byte by byte": one_connection(lambda: narrow_windows(KEY)),
    "300 slow senders": slow_senders,
}


def puts(server: Server, until: Callable[[], bool]) -> list[float]:
    """Seconds of each of a client's puts, one after the other."""
    took = []
    with connect_sync(server.url, timeout=20.0) as client:
        while not until() or len(took) < PUTS_MIN:
            begun = time.perf_counter()
            client.put("neighbour", "1")
            took.append(time.perf_counter() - begun)
    return took


def alone(server: Server) -> list[float]:
    ends = time.monotonic() + SECONDS
    return puts(server, lambda: time.monotonic() >= ends)


def beside(server: Server, attack: Callable[[Server], None]) -> list[float]:
    ends = time.monotonic() + SECONDS

    def attack_on() -> None:
        while time.monotonic() < ends:
            attack(server)

    attacker = threading.Thread(target=attack_on)
    attacker.start()
    try:
        return puts(server, lambda: not attacker.is_alive())
    finally:
        attacker.join()


def figures(took: list[float]) -> str:
    cuts = statistics.quantiles(took, n=100)
    return f"p50 {cuts[49] * 1e3:6.1f} ms, p99 {cuts[98] * 1e3:6.1f} ms of {len(took):,}"


def test_a_neighbour_is_served_whatever_others_do(tmp_path: Path) -> None:
    pytest.importorskip("chainfire_native")  # the portable door is grpcio's to harden
    with Server(peers.need_chainfire(), tmp_path / "data", ("--door=native",)) as server:
        with connect_sync(server.url, timeout=20.0) as client:
            client.put(KEY, "x" * 10_000)
        for name, attack in ATTACKS.items():
            before = alone(server)
            during = beside(server, attack)
            print(f"{name:>22}: {figures(during)}; without it {figures(before)}")
