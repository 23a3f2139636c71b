"""One run: a cluster drawn from a seed, its clients, the faults that strike it, and the verdict."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import grpc

from chainfire.proto import cluster_pb2, kv_pb2
from chainfire.sim.history import Compact, CompactDone, Operation, Revision, Violation
from tests.cluster.clocks import Clock
from tests.cluster.clocks import build as build_clock
from tests.cluster.feed import feed
from tests.clusters import Cluster, Member
from tests.faults.clients import Clients
from tests.faults.crashing import VARIABLE
from tests.faults.judge import confession, judge
from tests.faults.kinds import KINDS, Inconclusive, at_once, mended_in_turn
from tests.faults.shim import Switches, library
from tests.servers import ROOT, Kind, ServerFailed

WRITES_MIN: Final = 100  # a run with fewer acknowledged writes shows nothing
STRUCK_SECONDS: Final = (0.5, 2.0)  # how long a fault lasts, at least
BACK_SECONDS: Final = 180.0  # a bound for whoever hangs: it must be too long for a busy machine
LOOK_SECONDS: Final = 10.0  # after so long it is looked whether a bug is told of
FLAGS: Final[tuple[tuple[str, ...], ...]] = (
    (),
    ("--snapshot-count=200", "--snapshot-catchup-entries=100"),
    ("--snapshot-count=50", "--snapshot-catchup-entries=5"),
    ("--heartbeat-interval=50", "--election-timeout=500"),
)


@dataclass(slots=True)
class Verdict:
    seed: int
    door: str
    faults: list[str]
    broken: str = ""  # the promise that was
    is_proved: bool = False  # ... by what was said; else something did not come in time, say
    inconclusive: str = ""
    together: list[str] = field(default_factory=list)  # of the faults: those that overlapped
    notes: list[str] = field(default_factory=list)  # which file, which step of the code, …
    acknowledged: int = 0
    operations: int = 0
    events: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.broken and not self.inconclusive


class Scene:
    """What a fault sees of the run."""

    def __init__(
        self, kind: Kind, directory: Path, seed: int, flags: tuple[str, ...], size: int
    ) -> None:
        self.flags = flags
        self.cluster = Cluster(kind, directory, size, flags, proxied=True)
        self.switches: dict[str, Switches] = {}
        for member in self.cluster.members:
            switches = Switches(directory / f"{member.name}.switches")
            member.env.update(switches.env)
            self.switches[member.name] = switches
        self.clients = Clients(self.cluster.endpoints, seed)
        self.rate_max = 1.0
        self._clock_library: Path | None = None
        self.hurt: set[str] = set()  # names of members that a fault holds down
        self.together: list[str] = []  # the faults that overlap
        self.notes: list[str] = []
        self.revisions: list[Revision] = []  # what was told before it was compacted
        self.compacted = 0

    @property
    def members(self) -> list[Member]:
        return self.cluster.members

    def note(self, text: str) -> None:
        self.notes.append(text)

    def pick(self, rng: random.Random) -> Member:
        """The leader half of the times, else anybody; nobody who is hurt already."""
        whole = [m for m in self.members if m.runs and m.name not in self.hurt]
        if not self.hurt and rng.random() < 0.5:
            return self.cluster.leader()
        return rng.choice(whole)

    def any_member(self, rng: random.Random, *, but: Member | None = None) -> Member:
        whole = [m for m in self.members if m.runs and m.name not in self.hurt and m is not but]
        return rng.choice(whole)

    @property
    def has_small_log(self) -> bool:
        """A member that was away for 400 writes needs a snapshot."""
        return any(flag.startswith("--snapshot-count") for flag in self.flags)

    @property
    def has_quorum(self) -> bool:
        return len(self.members) - len(self.hurt) > len(self.members) // 2

    def go_on(self, writes: int, seconds: float = BACK_SECONDS) -> None:
        """Returns when so many more writes were acknowledged."""
        record = self.clients.record
        wanted, give_up = record.acknowledged + writes, time.monotonic() + seconds
        while record.acknowledged < wanted:
            if time.monotonic() > give_up:
                raise ServerFailed("clients got no further", self.cluster.log())
            time.sleep(0.01)

    def wait_ready(self) -> None:
        """Returns when all members serve. Raises Violation if one tells of a bug instead."""
        give_up = time.monotonic() + BACK_SECONDS
        waiting = list(self.members)
        while waiting:
            try:
                waiting[0].wait_ready(LOOK_SECONDS)
            except ServerFailed:
                if heard := confession(self.members):
                    raise Violation(heard) from None
                if not waiting[0].runs or time.monotonic() > give_up:
                    raise
            else:
                del waiting[0]

    # ── clocks ──────────────────────────────────────────────────────────────

    def bend_clock(self, victim: Member, rate: float) -> Clock:
        """Start it again with a monotonic clock of this rate."""
        if self._clock_library is None:
            self._clock_library = build_clock(self.cluster.directory)
        self.rate_max = max(self.rate_max, rate)
        clock = Clock(self._clock_library, self.cluster.directory, victim.name, rate)
        libraries = [self.switches[victim.name].env["LD_PRELOAD"], clock.env["LD_PRELOAD"]]
        victim.env = {**victim.env, **clock.env, "LD_PRELOAD": ":".join(libraries)}
        victim.kill()
        victim.start(BACK_SECONDS)
        return clock

    # ── networks ────────────────────────────────────────────────────────────

    def cut(self, receiver: Member, senders: Iterable[Member]) -> None:
        """What these send to the receiver does not arrive."""
        assert receiver.proxy is not None
        self.cluster.run_proxy(receiver.proxy.cut({sender.id for sender in senders}))

    def delay(self, receiver: Member, seconds: float) -> None:
        assert receiver.proxy is not None
        self.cluster.run_proxy(receiver.proxy.delay(seconds))

    def reset(self, receiver: Member) -> None:
        assert receiver.proxy is not None
        self.cluster.run_proxy(receiver.proxy.reset())

    # ── members that cannot come back as they were ──────────────────────────

    def wait_or_replace(self, victim: Member) -> None:
        """It serves again by itself, or says why not and is replaced as an operator would."""
        try:
            victim.wait_ready(BACK_SECONDS)
        except ServerFailed:
            if victim.runs:
                raise
            self.note(f"{victim.name} refused: {_last_words(victim)}")
            self.replace(victim)

    def replace(self, victim: Member) -> None:
        """Remove it, add it anew with an empty disk, and start it."""
        self.make_room_for(victim)
        victim.start(BACK_SECONDS)

    def make_room_for(self, victim: Member) -> None:
        """Remove it and add it anew; its disk is empty, and it is not started."""
        unhurt = (m for m in self.members if m.runs and m.name not in self.hurt)
        helper = next(m for m in unhurt if m is not victim)
        remove = cluster_pb2.MemberRemoveRequest(ID=victim.id)
        self._until_taken(helper, "MemberRemove", remove, cluster_pb2.MemberRemoveResponse)
        add = cluster_pb2.MemberAddRequest(peerURLs=[victim.peer_url])
        reply = self._until_taken(helper, "MemberAdd", add, cluster_pb2.MemberAddResponse)
        victim.id = reply.member.ID
        victim.state = "existing"
        shutil.rmtree(victim.data_dir, ignore_errors=True)

    def _until_taken(
        self, helper: Member, method: str, request: object, reply: type
    ) -> cluster_pb2.MemberAddResponse:
        """Refused as "unhealthy" until all have been connected for five seconds, as by etcd."""
        answers: list[cluster_pb2.MemberAddResponse] = []

        def taken() -> bool:
            with suppress(grpc.RpcError):
                answers.append(helper.call(f"Cluster/{method}", request, reply))
            return bool(answers)

        self.cluster.wait(taken, f"{method} is never taken", BACK_SECONDS)
        return answers[0]

    def spawn_dying(self, victim: Member, point: str, count: int) -> None:
        """Start it so that it kills itself at this point; its next start is like any other."""
        kind, env = victim.kind, victim.env
        program = (
            "tests.faults.crashing" if part == "chainfire" else part for part in kind.command
        )
        victim.kind = replace(kind, command=tuple(program))
        paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
        victim.env = {**env, VARIABLE: f"{point}:{count}", "PYTHONPATH": paths}
        victim.spawn()
        victim.kind, victim.env = kind, env

    # ── history ─────────────────────────────────────────────────────────────

    def keep_feed(self, *, but: Member | None = None) -> int:
        """Ask what has happened so far, before it is compacted; the revision known up to."""
        unhurt = (m for m in self.members if m.runs and m.name not in self.hurt)
        member = next(m for m in unhurt if m is not but)
        last = member.status().header.revision
        first = self.revisions[-1].main + 1 if self.revisions else 2
        self.revisions += feed(member, first, last)
        return last

    def fill_log(self, member: Member) -> None:
        """Much for the members' logs that changes nothing: its condition does not hold."""
        compare = kv_pb2.Compare(
            target=kv_pb2.Compare.VERSION, result=kv_pb2.Compare.GREATER, key=b"never", version=0
        )
        put = kv_pb2.RequestOp(request_put=kv_pb2.PutRequest(key=b"never", value=bytes(500_000)))
        request = kv_pb2.TxnRequest(compare=[compare], success=[put])
        member.call("KV/Txn", request, kv_pb2.TxnResponse)

    def compact(self, revision: int, member: Member) -> None:
        if revision <= self.compacted:
            return
        self.compacted = revision
        operation = Operation(-1, -1, -1, time.monotonic_ns(), Compact(revision))
        self.clients.record.history.operations.append(operation)
        request = kv_pb2.CompactionRequest(revision=revision)
        reply = member.call("KV/Compact", request, kv_pb2.CompactionResponse)
        operation.ret = time.monotonic_ns()
        operation.response = CompactDone(reply.header.revision)


def run(
    kind: Kind,
    directory: Path,
    seed: int,
    *,
    door: str,
    only: Sequence[str] = (),
    source: Path | None = None,
) -> Verdict:
    """Everything is drawn from the seed; `only` names the faults instead.

    `source`: members run from there instead of from this tree.
    """
    rng = random.Random(seed)
    if library() is None:
        raise RuntimeError("no C compiler: disks and clocks cannot be made to fail")
    names = list(only) or rng.sample(sorted(KINDS), rng.choice((1, 2, 2, 3)))
    flags = (*rng.choice(FLAGS), f"--door={door}")
    verdict = Verdict(seed, door, names)
    begun = time.monotonic()
    scene = Scene(kind, directory, seed, flags, size=5 if rng.random() < 0.1 else 3)
    if source is not None:
        for member in scene.members:
            member.env["PYTHONPATH"] = str(source)
    with scene.cluster:
        try:
            scene.cluster.start(BACK_SECONDS)
            asyncio.run(_under_load(scene, names, rng))
            scene.cluster.wait_equal(seconds=BACK_SECONDS)
            scene.keep_feed()
            verdict.events = judge(
                scene.clients.record, scene.revisions, scene.members, rate_max=scene.rate_max
            )
        except Inconclusive as reason:
            verdict.inconclusive = str(reason)
        except Exception as failed:  # whatever it is, this run has not passed
            verdict.broken = f"{type(failed).__name__}: {failed}"
            verdict.is_proved = isinstance(failed, Violation)
        if not verdict.is_proved and (heard := confession(scene.members)):
            verdict.broken, verdict.is_proved = heard, True
    record = scene.clients.record
    verdict.acknowledged, verdict.counts = record.acknowledged, record.counts
    verdict.operations = len(record.history.operations)
    verdict.seconds = time.monotonic() - begun
    verdict.faults, verdict.notes, verdict.together = names, scene.notes, scene.together
    if not verdict.broken and not verdict.inconclusive and record.acknowledged < WRITES_MIN:
        verdict.inconclusive = f"{record.acknowledged} writes only"
    if verdict.broken:
        (directory / "record.txt").write_text("\n".join(_written_down(scene)))
    return verdict


def _written_down(scene: Scene) -> Iterator[str]:
    """All that the judge was told, to read what has happened."""
    history = scene.clients.record.history
    for part in (history.operations, history.leases, history.watches, scene.clients.record.locks):
        yield from map(repr, part)
    yield from map(repr, scene.revisions)


async def _under_load(scene: Scene, names: list[str], rng: random.Random) -> None:
    load = asyncio.create_task(scene.clients.run())
    try:
        await asyncio.to_thread(_strike, scene, names, rng)
    finally:
        scene.clients.stop()
        await load


def _strike(scene: Scene, names: list[str], rng: random.Random) -> None:
    """Some faults before the first of them is mended, perhaps; the others one after the other."""
    scene.go_on(50)
    together = at_once(names, len(scene.members))
    if len(together) > 1 and rng.random() < 0.6:
        scene.together = together
        _strike_together(scene, together, rng)
    for name in names:
        if name not in scene.together:
            _strike_together(scene, [name], rng)
    scene.go_on(max(50, WRITES_MIN - scene.clients.record.acknowledged))


def _strike_together(scene: Scene, names: Sequence[str], rng: random.Random) -> None:
    struck = {}
    for name in names:
        struck[name] = KINDS[name](scene, rng)
        scene.hurt |= next(struck[name])
        if len(names) > 1:
            time.sleep(rng.uniform(0, 1))
    _endure(scene, rng)
    mending = [struck[name] for name in sorted(struck, key=mended_in_turn)]
    for fault in (*mending, *mending):
        next(fault, None)
    scene.hurt.clear()
    scene.wait_ready()
    scene.go_on(20)


def _endure(scene: Scene, rng: random.Random) -> None:
    time.sleep(rng.uniform(*STRUCK_SECONDS))
    if scene.has_quorum:
        scene.go_on(20)


def _last_words(member: Member) -> str:
    """Why it ended, as its log says, without the ids."""
    for line in reversed(member.log().splitlines()):
        with suppress(ValueError):
            told = json.loads(line)
            if told["level"] in ("error", "fatal"):
                return re.sub(r"\b[0-9a-f]{15,16}\b", "…", told.get("error", told["msg"]))[:100]
    return ""
