"""Watches and leases of three real members under faults: each promise holds, over a million events.

Members are killed, cut off and paused; history is compacted every 100 ms; some clients read
slowly; clocks run a fifth fast and slow, and the wall clock of one member steps by ten seconds.
A run whose faults did not land, or whose load stayed below its floor, tells nothing, and fails.
"""

from __future__ import annotations

import asyncio
import copy
import random
import re
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chainfire.proto.watch_pb2 import WatchResponse as Message
from chainfire.sim.history import LeaseCall, Violation
from tests import report
from tests.cluster import clocks
from tests.cluster.judging import LATE_NS_MAX, NS, Heard, Judged, Record, judge
from tests.cluster.scene import PATIENCE_SECONDS, Scene
from tests.cluster.watching import ALL
from tests.clusters import Cluster, Member
from tests.peers import need_chainfire
from tests.servers import free_port

RATES = (0.8, 1.0, 1.2)
STEP_SECONDS = 10.0
FLAGS = ("--watch-progress-notify-interval=300ms",)
SLOW = re.compile(r"^etcd_debugging_mvcc_slow_watcher_total (\S+)", re.MULTILINE)


class Faults:
    """What happens to members, one thing after the other; `landed` counts what did have effect."""

    def __init__(self, cluster: Cluster, bent: list[clocks.Clock], scene: Scene) -> None:
        self._cluster = cluster
        self._clocks = bent
        self._scene = scene
        self._dice = random.Random(7)
        self.landed: Counter[str] = Counter()

    def strike(self, events: int, each: int) -> None:
        """Until so many events were told, and every kind of fault has landed so often."""
        kinds: list[Callable[[], str]] = [
            self._kill_leader, self._kill_follower, self._cut_leader, self._cut_follower,
            self._pause_leader, self._pause_follower, self._step_wall,
        ]  # fmt: skip
        rounds = 0
        while rounds < each or self._scene.tally.events < events:
            self._dice.shuffle(kinds)
            for fault in kinds:
                self._scene.go_on(150)
                self.landed[fault()] += 1
                self._count_slow_watchers()
            rounds += 1

    # ── of leaders: landed when another one leads ───────────────────────────

    def _replaced(self, strike: Callable[[Member], None]) -> Member:
        scene = self._scene
        scene.until(lambda: scene.leads[1] >= 0, "no leader")
        term, at = scene.leads
        victim = self._cluster.members[at]
        strike(victim)
        scene.until(lambda: scene.leads[0] > term and scene.leads[1] != at, "no other leader")
        scene.go_on()
        return victim

    def _kill_leader(self) -> str:
        self._replaced(Member.kill).start(PATIENCE_SECONDS)
        return "leaders killed"

    def _cut_leader(self) -> str:
        self._replaced(self._cluster.cut_off)
        self._cluster.heal()
        return "leaders cut off"

    def _pause_leader(self) -> str:
        self._replaced(Member.pause).resume()
        return "leaders paused"

    # ── of others ───────────────────────────────────────────────────────────

    def _follower(self) -> Member:
        self._scene.until(lambda: self._scene.leads[1] >= 0, "no leader")
        leads = self._scene.leads[1]
        return self._dice.choice([m for at, m in enumerate(self._cluster.members) if at != leads])

    def _kill_follower(self) -> str:
        victim = self._follower()
        victim.kill()
        self._scene.go_on()
        victim.start(PATIENCE_SECONDS)
        return "followers killed"

    def _cut_follower(self) -> str:
        victim = self._follower()
        self._cluster.cut_off(victim)
        self._scene.go_on()
        before = victim.status().raftAppliedIndex
        self._scene.go_on()
        assert victim.status().raftAppliedIndex == before, "it was not cut off"
        self._cluster.heal()
        return "followers cut off"

    def _pause_follower(self) -> str:
        victim = self._follower()
        victim.pause()
        self._scene.go_on()
        state = Path(f"/proc/{victim.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        assert state == "T", "it was not paused"
        victim.resume()
        return "followers paused"

    def _step_wall(self) -> str:
        clock = self._dice.choice(self._clocks)
        before = clock.readings[1]
        clock.step_wall(self._dice.choice((STEP_SECONDS, -STEP_SECONDS)))
        self._scene.until(lambda: clock.readings[1] > before, "nobody looked at the wall clock")
        self._scene.go_on()
        clock.step_wall(0)
        return "steps of wall clocks"

    def _count_slow_watchers(self) -> None:
        for member in self._cluster.running:
            url = f"http://127.0.0.1:{_metrics_port(member)}/metrics"
            try:
                with urllib.request.urlopen(url, timeout=5) as page:
                    found = SLOW.search(page.read().decode())
            except OSError:  # busy starting
                continue
            self.landed["slow watchers seen"] += int(float(found[1])) if found else 0


def _metrics_port(member: Member) -> int:
    [flag] = [flag for flag in member.flags if flag.startswith("--listen-metrics-urls")]
    return int(flag.rsplit(":", 1)[1])


def run(directory: Path, door: str, events: int, each: int) -> tuple[Record, Counter[str]]:
    flags = (*FLAGS, f"--door={door}")
    library = clocks.build(directory)
    with Cluster(need_chainfire(), directory, flags=flags, proxied=True) as cluster:
        bent = []
        for member, rate in zip(cluster.members, RATES, strict=True):
            bent.append(clocks.Clock(library, directory, member.name, rate))
            member.env |= bent[-1].env
            member.flags += (f"--listen-metrics-urls=http://127.0.0.1:{free_port()}",)
        for member in cluster.members:
            member.spawn()
        cluster.wait_ready(PATIENCE_SECONDS)
        scene = Scene(cluster, RATES)
        faults = Faults(cluster, bent, scene)
        record = asyncio.run(scene.run(lambda _: faults.strike(events, each)))
        cluster.wait_equal(seconds=PATIENCE_SECONDS)
        landed = faults.landed
        landed["compactions"] = scene.compactions
        for name in ("broken", "compacted", "progress", "fragments", "cancelled"):
            landed[f"streams and watches: {name}"] = getattr(scene.tally, name)
        for rate in RATES:
            landed[f"sightings of leaders at rate {rate}"] = sum(s.rate == rate for s in record.led)
        return record, landed


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("door", "events", "each"), [("native", 1_000_000, 8), ("grpcio", 100_000, 1)]
)
def test_watches_and_leases_keep_their_promises_under_faults(
    tmp_path: Path, door: str, events: int, each: int
) -> None:
    record, landed = run(tmp_path, door, events, each)
    judged = judge(record)
    for what, count in landed.items():
        report.count(f"{what} ({door})", count)
    report.count(f"watch events checked under faults ({door})", judged.events)
    report.count(f"leases checked under faults ({door})", judged.leases)
    ensure_conclusive(judged, landed, events, each)


def ensure_conclusive(judged: Judged, landed: Counter[str], events: int, each: int) -> None:
    too_few = {what: count for what, count in landed.items() if count < each}
    assert not too_few, f"inconclusive, these did not land often enough: {too_few}"
    assert landed["compactions"] >= 50 * each, f"inconclusive, too few compactions: {landed}"
    assert judged.events >= events, "the load stayed below its floor: inconclusive"
    assert judged.revisions * 200 >= events, "too few writes: inconclusive"
    assert judged.punctual >= 10 * each, "too few leases ran out: inconclusive"


# ── can the judge fail? ─────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def peaceful(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """What a short run without faults left behind."""
    with Cluster(need_chainfire(), tmp_path_factory.mktemp("peaceful"), size=1) as cluster:
        scene = Scene(cluster.start(), (1.0,))
        record = asyncio.run(scene.run(lambda scene: scene.go_on(300)))
    record.lease_calls.sort(key=lambda call: call.lease)
    return record


def test_a_run_without_faults_is_judged_well(peaceful: Record) -> None:
    judged = judge(peaceful)
    assert judged.events > 1000
    assert judged.punctual >= 1
    report.count("watch events checked", judged.events)


def _longest(record: Record) -> Heard:
    return max((*record.live, *record.ended), key=lambda heard: len(heard.responses))


def _lose_a_response(record: Record) -> None:
    del _longest(record).responses[10]


def _repeat_a_response(record: Record) -> None:
    responses = _longest(record).responses
    at = next(at for at, parts in enumerate(responses) if Message.FromString(parts[0]).events)
    responses.insert(at, responses[at])


def _split_a_revision(record: Record) -> None:
    responses = _longest(record).responses
    for at, parts in enumerate(responses):
        whole = Message.FromString(parts[0])
        if len(whole.events) > 1 and len({e.kv.mod_revision for e in whole.events}) == 1:
            first, second = Message(), Message()
            first.CopyFrom(whole)
            second.CopyFrom(whole)
            del first.events[1:]
            del second.events[:1]
            responses[at : at + 1] = [[first.SerializeToString()], [second.SerializeToString()]]
            return
    raise AssertionError("no revision could be split")


def _leave_out_the_end(record: Record) -> None:
    heard = next(heard for heard in record.live if heard.asked.end == ALL[1])
    kept = [parts for parts in heard.responses if Message.FromString(parts[0]).events]
    heard.responses = kept[:-3]


def _claim_progress_too_soon(record: Record) -> None:
    responses = _longest(record).responses
    top = max(record.feed)
    responses.insert(10, [Message(header={"revision": top}, watch_id=-1).SerializeToString()])


def _forget_an_acknowledged_write(record: Record) -> None:
    """Everybody agrees that it never was: only the one whose write it was knows better."""
    at = max(record.feed) // 2
    del record.feed[at]


def _revision_that_no_member_agrees_on(record: Record) -> None:
    at = next(main for main, revision in record.feed.items() if not revision.changes[0].deleted)
    first, *rest = record.feed[at].changes
    lie = first._replace(kv=first.kv._replace(value=b"never"))
    record.feed[at] = record.feed[at]._replace(changes=(lie, *rest))


def _expired(record: Record) -> tuple[int, LeaseCall, int]:
    """A revision that ended a lease for its time was over, and the call that kept it last."""
    revoked = {call.lease for call in record.lease_calls if not call.ttl}
    for main, revision in record.feed.items():
        if revision.by_lease:
            lease = int(revision.changes[0].kv.key.split(b"/")[1], 16)
            kept = [c for c in record.lease_calls if c.lease == lease and c.ok]
            if lease not in revoked and kept:
                return main, kept[-1], lease
    raise AssertionError("no lease ran out")


def _end_a_lease_early(record: Record) -> None:
    main, kept, _ = _expired(record)
    record.first_heard_at[main] = kept.call + kept.ttl - 1


def _end_a_lease_late(record: Record) -> None:
    main, kept, _ = _expired(record)
    late = kept.ret + kept.ttl + LATE_NS_MAX + NS // 2
    record.first_heard_at[main] = late
    record.acknowledged_at = list(range(kept.call, late, NS // 100))


def _keep_a_dead_lease_alive(record: Record) -> None:
    main, kept, lease = _expired(record)
    at = record.first_heard_at[main] + 1
    record.lease_calls.append(LeaseCall(lease, at, at + 1, kept.ttl, ok=True, renews=True))


def _leave_a_key_of_a_lease(record: Record) -> None:
    main = next(m for m, r in record.feed.items() if r.by_lease and len(r.changes) > 1)
    record.feed[main] = record.feed[main]._replace(changes=record.feed[main].changes[1:])


def _let_a_lease_live_for_ever(record: Record) -> None:
    _, kept, _ = _expired(record)
    ghost = 7 << 60
    record.lease_calls.append(replace(kept, lease=ghost))
    record.alive = [ghost]


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (_lose_a_response, "expected|never delivered"),
        (_repeat_a_response, "split or repeated|after progress"),
        (_split_a_revision, "split or repeated"),
        (_leave_out_the_end, "never delivered"),
        (_claim_progress_too_soon, "after progress"),
        (_forget_an_acknowledged_write, "follows|should have|cannot have made|lost"),
        (_revision_that_no_member_agrees_on, "should have made|nobody's"),
        (_end_a_lease_early, "had it until"),
        (_end_a_lease_late, "s late"),
        (_keep_a_dead_lease_alive, "and answered"),
        (_leave_a_key_of_a_lease, "whose keys are"),
        (_let_a_lease_live_for_ever, "is alive at"),
    ],
)
def test_a_planted_violation_is_found(
    peaceful: Record, lie: Callable[[Record], None], words: str
) -> None:
    planted = copy.deepcopy(peaceful)
    lie(planted)
    with pytest.raises(Violation, match=words):
        judge(planted)
    report.count("planted violations found by checkers")
