"""`python -m bench.stages LOAD`: where the CPU time of a call goes, stage by stage.

A whole member without its door and its timers, on a real disk, is handed calls in turns of a fixed
size; each stage is timed with the thread's own CPU clock. What is printed is a low quantile over
many runs of turns, so that other programs on the machine hardly show. The door's share is what
`chainfire bench` counts for the server, less these. Stages are timed by taking parts out of their
modules, so the interpreted ones must run: CHAINFIRE_PURE=1. Compiled, they take about half.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from chainfire import compiled
from chainfire.api.call import Call
from chainfire.api.services import Services
from chainfire.api.table import METHODS, run
from chainfire.config import Config, MemberConfig
from chainfire.node.applying import HOLD_SECONDS
from chainfire.node.registry import Registry
from chainfire.node.shell import Node
from chainfire.proto import kv_pb2
from chainfire.server.member import make_node, opening_settings
from chainfire.server.opened import Opened
from chainfire.server.opening import open_member

QUANTILE = 0.02
CALLS_PER_RUN = 64  # at least: what is put off in one turn is made up for in another
_now = time.thread_time_ns


class BenchCall(Call):
    """What the native door makes of a call, as cheap."""

    __slots__ = ()

    def send_reply(self, body: bytes) -> None:
        ANSWERS.append((0, 0, body))


ANSWERS: list[tuple[int, int, bytes]] = []


class Stages:
    """CPU nanoseconds of each stage, run by run."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.turns_per_run = 1 + (CALLS_PER_RUN - 1) // batch
        self.runs: defaultdict[str, list[int]] = defaultdict(list)
        self._run: defaultdict[str, int] = defaultdict(int)
        self.turns = 0
        self.is_on = True

    def turn_ended(self) -> None:
        self.turns += 1
        if self.turns % self.turns_per_run == 0:
            for name, taken in self._run.items():
                self.runs[name].append(taken)
            self._run.clear()

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = _now()
            try:
                return work(*args)
            finally:
                if self.is_on:
                    self._run[name] += _now() - began

        return call

    def us_per_call(self, name: str) -> float:
        taken = sorted(self.runs[name])
        quantile = taken[int(len(taken) * QUANTILE)] if taken else 0
        return quantile / self.turns_per_run / self.batch / 1000


@dataclass(frozen=True, slots=True)
class Load:
    method: str
    request: Callable[[bytes, bytes], Message]  # of a key and a value
    is_write: bool = True


def _ten_keys(key: bytes, _: bytes) -> Message:
    end = key[:-10] + b"%010d" % (int(key[-10:]) + 10)
    return kv_pb2.RangeRequest(key=key, range_end=end)


def _txn(key: bytes, value: bytes) -> Message:
    exists = kv_pb2.Compare(result=kv_pb2.Compare.GREATER, target=kv_pb2.Compare.VERSION, key=key)
    put = kv_pb2.RequestOp(request_put=kv_pb2.PutRequest(key=key, value=value))
    return kv_pb2.TxnRequest(compare=[exists], success=[put])


LOADS = {
    "put": Load("Put", lambda key, value: kv_pb2.PutRequest(key=key, value=value)),
    "txn": Load("Txn", _txn),
    "delete": Load("DeleteRange", lambda key, _: kv_pb2.DeleteRangeRequest(key=key)),
    "range": Load("Range", lambda key, _: kv_pb2.RangeRequest(key=key), is_write=False),
    "range10": Load("Range", _ten_keys, is_write=False),
}


class Bench:
    """A member without its door and its timers, and calls for it."""

    def __init__(self, opened: Opened, node: Node, options: argparse.Namespace) -> None:
        self.opened = opened
        self.node = node
        self.services = Services(node)
        self.dice = random.Random(1)
        self.value = self.dice.randbytes(options.value_size)
        self.driver = node._driver
        node._turn_scheduled = True  # turns are taken here, not by the loop
        self._held_since = 0.0
        self.driver.begin(0)
        self.driver.raft.campaign()
        self.turn()

    def turn(self) -> None:
        """What the shell does for the calls that have come, its sync inline."""
        driver = self.driver
        more = True
        while more:
            effects = driver.turn()
            answers, more = effects.answers, effects.more
            if effects.sync is not None:
                self.opened.log_backend.sync()
                answers += driver.synced(effects.sync)
                more |= driver.is_due
            if answers:
                self.node._audience.answer(answers)
        now = time.monotonic()
        if not driver.lags:
            self._held_since = 0.0
        elif not self._held_since:
            self._held_since = now
        elif now - self._held_since > HOLD_SECONDS:
            driver.let_go()
            self.turn()

    def serve(self, name: str, bodies: list[bytes]) -> None:
        handler = METHODS[f"/etcdserverpb.KV/{name}"].unary
        assert handler is not None
        for body in bodies:
            run(handler, BenchCall(self.services, "", body))

    def body(self, load: str, number: int) -> bytes:
        return LOADS[load].request(b"bench/%010d" % number, self.value).SerializeToString()

    def fill(self, numbers: Sequence[int]) -> None:
        for first in range(0, len(numbers), 500):
            self.serve("Put", [self.body("put", n) for n in numbers[first : first + 500]])
            self.turn()
        ANSWERS.clear()

    def time_parts(self, stages: Stages) -> None:
        log, machine, node = self.opened.log, self.opened.machine, self.node
        for owner, part, name in (
            (log, "append", "log append"),
            (self.opened.log_backend, "sync", "log sync"),
            (machine, "_decode", "decode"),
            (machine, "_stage", "stage"),
            (machine, "_write", "write"),
            (node._audience, "answer", "answers"),
        ):
            setattr(owner, part, stages.timed(name, getattr(owner, part)))


async def measure(options: argparse.Namespace, directory: Path) -> Stages:
    config = replace(Config(), member=replace(MemberConfig(), data_dir=str(directory / "member")))
    opened = open_member(opening_settings(config))
    stages = Stages(options.batch)
    try:
        registry = Registry(opened.log_backend, opened.machine)
        bench = Bench(opened, make_node(config, opened, registry), options)
        bench.fill(range(options.keys))
        gc.collect()
        gc.freeze()
        bench.time_parts(stages)
        turn, serve = stages.timed("turn", bench.turn), stages.timed("handlers", bench.serve)
        load = LOADS[options.load]
        deadline = time.monotonic() + options.seconds
        while time.monotonic() < deadline:
            numbers = bench.dice.sample(range(options.keys), options.batch)
            serve(load.method, [bench.body(options.load, number) for number in numbers])
            if load.is_write:
                turn()
            stages.turn_ended()
            assert len(ANSWERS) == options.batch, len(ANSWERS)
            ANSWERS.clear()
            if options.load == "delete":
                stages.is_on = False
                bench.fill(numbers)
                stages.is_on = True
            await asyncio.sleep(0)
        await bench.node.aclose()
    finally:
        opened.close()
    return stages


PARTS = ("handlers", "log append", "log sync", "decode", "stage", "write", "answers")


def tell(stages: Stages, options: argparse.Namespace) -> None:
    figures = {name: stages.us_per_call(name) for name in (*PARTS, "turn")}
    rest = figures["turn"] - sum(figures[name] for name in PARTS[1:])
    print(
        f"{options.load}, {options.batch} calls a turn, {options.keys} keys, "
        f"{stages.turns} turns; CPU µs per call:"
    )
    for name in PARTS:
        if figures[name]:
            print(f"  {name:12}{figures[name]:7.2f}")
    if figures["turn"]:
        print(f"  {'rest of turn':12}{rest:7.2f}")
    print(f"  {'all':12}{figures['handlers'] + figures['turn']:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("load", choices=tuple(LOADS))
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--value-size", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--directory", default=None)
    options = parser.parse_args()
    if compiled.FAULT is None:
        parser.error("compiled modules can't be timed part by part: set CHAINFIRE_PURE=1")
    with tempfile.TemporaryDirectory(prefix="chainfire-stages-", dir=options.directory) as name:
        tell(asyncio.run(measure(options, Path(name))), options)


if __name__ == "__main__":
    main()
