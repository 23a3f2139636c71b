"""kill -9 at any moment under load: nothing acknowledged is lost, nothing is half done.

One data directory goes through all rounds of a test. Some rounds also kill the member while it
starts (in the middle of its replay), some kill it idle, after which nothing at all may differ.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from tests import peers, report
from tests.crash.check import check
from tests.crash.load import History, Load
from tests.servers import Server

WRITERS = 25
# Often truncated logs and often synced states are what a crash can hit.
FLAGS = ("--snapshot-count=300",)


@pytest.mark.timeout(180)
def test_nothing_acknowledged_is_lost_in_a_few_kills(tmp_path: Path) -> None:
    run_rounds(tmp_path, rounds=4, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_acknowledged_is_lost_in_fifty_kills(tmp_path: Path) -> None:
    run_rounds(tmp_path, rounds=50, seed=random.SystemRandom().randrange(2**32))


def run_rounds(tmp_path: Path, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    history = History()
    server = Server(peers.need_chainfire(), tmp_path / "data", FLAGS)
    try:
        server.start()
        for number in range(rounds):
            one_round(server, history, rng, number, seed)
    finally:
        server.kill()
    assert history.acknowledged > rounds * 200, "the load stayed below its floor: inconclusive"
    report.count("kill -9 rounds", rounds)
    report.count("acknowledged writes checked after kill -9", history.acknowledged)


def one_round(server: Server, history: History, rng: random.Random, number: int, seed: int) -> None:
    load = Load(history, rng, f"{seed}-{number}")
    asyncio.run(load.run(server.target, WRITERS, server.kill, after=rng.randint(250, 1500)))
    assert not load.running, "the kill must land while calls are in flight"
    if number % 3 == 1:
        kill_while_starting(server, rng)
    server.start()
    found, wrong = asyncio.run(check(server.target, history, rng))
    assert not wrong, f"seed {seed}, round {number}:\n" + "\n".join(wrong[:20])
    if number % 5 == 3:
        server.kill()
        server.start()
        again, wrong = asyncio.run(check(server.target, history, rng))
        assert not wrong, f"seed {seed}, round {number}, idle:\n" + "\n".join(wrong[:20])
        assert again == found, f"seed {seed}, round {number}: an idle kill changed the store"


def kill_while_starting(server: Server, rng: random.Random) -> None:
    server.spawn()
    deadline = time.monotonic() + rng.uniform(0.1, 1.0)
    while time.monotonic() < deadline and server.process and server.process.poll() is None:
        time.sleep(0.005)
    server.kill()
