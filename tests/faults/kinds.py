"""The faults: each strikes some members, says which, and then takes itself back.

A fault is a generator: it yields the members that it hurts after it has struck; what follows mends,
and starts the members that are down. One that has to wait for others then yields once more before.
It raises Inconclusive when it could not strike.
`at_once` says which may strike while others last, and `mended_in_turn` which of those ends first.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import grpc

from chainfire.proto import maintenance_pb2
from tests.clusters import Member
from tests.crash import damage
from tests.faults.crashing import POINTS
from tests.faults.shim import Switches
from tests.servers import ServerFailed

if TYPE_CHECKING:
    from tests.faults.scene import Scene

Strike = Generator[set[str], None, None]
Kind = Callable[["Scene", random.Random], Strike]

LANDS_SECONDS: Final = 60.0  # within which a fault has struck, on a busy machine too
CLOCK_RATES: Final = (0.8, 0.9, 1.1, 1.2)
SLOW_FLAGS: Final = (
    ("--heartbeat-interval=50", "--election-timeout=500"),
    ("--heartbeat-interval=30", "--election-timeout=300", "--snapshot-count=50"),
    ("--snapshot-count=100", "--snapshot-catchup-entries=20"),
)
CUT_AND_GONE: Final[tuple[tuple[str, str, damage.Damage], ...]] = (
    ("log", "deleted", damage.delete),
    ("log", "cut to half", damage.cut_record(0.5)),
    ("older log", "deleted", damage.delete),
    ("log directory", "deleted", damage.delete),
    ("state WAL", "deleted", damage.delete),
    ("state MANIFEST", "deleted", damage.delete),
    ("witness", "deleted", damage.delete),
)
FLIPPED: Final[tuple[tuple[str, str, damage.Damage], ...]] = (
    ("log", "flipped", damage.flip_record(0.5)),
    ("log", "flipped in its header", damage.flip_header),
    ("older log", "flipped", damage.flip_record(0.5)),
    ("state WAL", "flipped", damage.flip_middle),
    ("state MANIFEST", "flipped", damage.flip_middle),
    ("witness", "flipped", damage.flip_middle),
    ("CURRENT", "flipped", damage.flip_middle),
)


class Inconclusive(Exception):
    """The fault did not land, or the load was too small: this run shows nothing."""


# ── processes ───────────────────────────────────────────────────────────────


def kill(scene: Scene, rng: random.Random) -> Strike:
    victim = scene.pick(rng)
    victim.kill()
    yield {victim.name}
    victim.spawn()


def kill_all(scene: Scene, rng: random.Random) -> Strike:
    for member in scene.members:
        member.kill()
    yield {member.name for member in scene.members}
    for member in scene.members:
        member.spawn()


def pause(scene: Scene, rng: random.Random) -> Strike:
    victim = scene.pick(rng)
    victim.pause()
    yield {victim.name}
    victim.resume()


def restart(scene: Scene, rng: random.Random) -> Strike:
    victim = scene.pick(rng)
    if victim.stop() != 0:
        raise ServerFailed(f"{victim.name} did not stop well", victim.log())
    yield {victim.name}
    victim.spawn()


def reconfigure(scene: Scene, rng: random.Random) -> Strike:
    """One after the other comes back with other timers and another length of log."""
    flags = rng.choice(SLOW_FLAGS)
    for member in scene.members:
        member.stop()
        member.flags = (*scene.flags, *flags)
        member.start()
    yield set()


# ── networks ────────────────────────────────────────────────────────────────


def partition(scene: Scene, rng: random.Random) -> Strike:
    victim = scene.pick(rng)
    scene.cluster.cut_off(victim)
    yield {victim.name}
    scene.cluster.heal()


def one_way(scene: Scene, rng: random.Random) -> Strike:
    """What it sends arrives, what the others send to it does not; or the other way round."""
    victim = scene.pick(rng)
    others = [member for member in scene.members if member is not victim]
    if rng.random() < 0.5:
        scene.cut(victim, others)
    else:
        for other in others:
            scene.cut(other, [victim])
    yield {victim.name}
    scene.cluster.heal()


def slow_network(scene: Scene, rng: random.Random) -> Strike:
    """Delays of up to 100 ms each way, and connections that break again and again."""
    victim = scene.pick(rng)
    scene.delay(victim, rng.uniform(0.01, 0.1))
    for _ in range(3):
        scene.reset(victim)
        time.sleep(0.3)
    yield set()
    scene.delay(victim, 0.0)


# ── disks ───────────────────────────────────────────────────────────────────


def full_disk(scene: Scene, rng: random.Random) -> Strike:
    victim = yield from _on_disk(scene, rng, Switches.fill_disk)
    _again(victim)


def failing_sync(scene: Scene, rng: random.Random) -> Strike:
    victim = yield from _on_disk(scene, rng, Switches.fail_syncs)
    _again(victim)


def slow_sync(scene: Scene, rng: random.Random) -> Strike:
    seconds = rng.uniform(0.1, 3)
    yield from _on_disk(scene, rng, lambda switches: switches.slow_syncs(seconds))


def _on_disk(
    scene: Scene, rng: random.Random, act: Callable[[Switches], None]
) -> Generator[set[str], None, Member]:
    victim = scene.pick(rng)
    switches = scene.switches[victim.name]
    before = switches.done
    act(switches)
    yield {victim.name}
    # Where other faults left no quorum, it is only now that anything is written.
    _wait_until_landed(lambda: switches.done > before, "the disk was not used")
    switches.heal_disk()
    return victim


def flip_bits(scene: Scene, rng: random.Random) -> Strike:
    """One byte of a file is another one while the member is down."""
    yield from _damaged(scene, rng, FLIPPED)


def lose_file(scene: Scene, rng: random.Random) -> Strike:
    yield from _damaged(scene, rng, CUT_AND_GONE)


def _damaged(
    scene: Scene, rng: random.Random, possible: Sequence[tuple[str, str, damage.Damage]]
) -> Strike:
    victim = scene.pick(rng)
    victim.kill()
    for which, what, act in rng.sample(possible, len(possible)):
        with suppress(AssertionError, OSError, ValueError):  # it has no such file yet
            act(damage.FILES[which](victim.data_dir))
            scene.note(f"{victim.name}: {which} {what}")
            break
    else:
        raise Inconclusive("nothing there to damage")
    yield from _comes_back(scene, rng, victim)


def old_disk(scene: Scene, rng: random.Random) -> Strike:
    """The member comes back with the disk of some time ago: it has forgotten what it promised."""
    victim = scene.pick(rng)
    victim.kill()
    kept = victim.data_dir.with_suffix(".kept")
    shutil.copytree(victim.data_dir, kept)
    victim.start(LANDS_SECONDS)
    scene.go_on(50)
    victim.kill()
    shutil.rmtree(victim.data_dir)
    kept.rename(victim.data_dir)
    yield from _comes_back(scene, rng, victim)


def wiped_disk(scene: Scene, rng: random.Random) -> Strike:
    """It is refused under its old id, and replaced by the commands that its log names."""
    victim = scene.pick(rng)
    victim.kill()
    victim.wipe()
    yield from _comes_back(scene, rng, victim)


def _comes_back(scene: Scene, rng: random.Random, victim: Member) -> Strike:
    """Into whatever else is wrong, or later; it serves again by itself, or is replaced."""
    if at_first := rng.random() < 0.5:
        victim.spawn()
    yield {victim.name}
    if not at_first:
        victim.spawn()
    yield set()  # to replace a member, all others must be there
    scene.wait_or_replace(victim)


# ── clocks ──────────────────────────────────────────────────────────────────


def skewed_clock(scene: Scene, rng: random.Random) -> Strike:
    """A member whose clock runs up to a fifth fast or slow, and whose wall clock jumps."""
    victim = scene.pick(rng)
    clock = scene.bend_clock(victim, rng.choice(CLOCK_RATES))
    clock.step_wall(rng.choice((-10, 10)))
    before = clock.readings
    yield set()
    _wait_until_landed(lambda: clock.readings != before, "nobody read the clock")
    clock.step_wall(0)


# ── the cluster ─────────────────────────────────────────────────────────────


def replace_member(scene: Scene, rng: random.Random) -> Strike:
    """Remove one for good; another one joins."""
    victim = scene.pick(rng)
    victim.kill()
    yield {victim.name}
    scene.replace(victim)


def move_leader(scene: Scene, rng: random.Random) -> Strike:
    for _ in range(3):
        leader = scene.cluster.leader()
        target = rng.choice([member for member in scene.members if member is not leader])
        request = maintenance_pb2.MoveLeaderRequest(targetID=target.id)
        try:
            leader.call("Maintenance/MoveLeader", request, maintenance_pb2.MoveLeaderResponse)
        except grpc.RpcError:
            continue
        scene.go_on(20)
    yield set()


def compact(scene: Scene, rng: random.Random) -> Strike:
    """History goes, again and again; then what is free comes back, under load."""
    for _ in range(3):
        scene.go_on(30)
        scene.compact(scene.keep_feed() - 10, scene.any_member(rng))
    scene.any_member(rng).call(
        "Maintenance/Defragment",
        maintenance_pb2.DefragmentRequest(),
        maintenance_pb2.DefragmentResponse,
        30,
    )
    yield set()


def far_behind(scene: Scene, rng: random.Random) -> Strike:
    """A member is away for longer than the log remembers: it needs a snapshot."""
    victim = scene.pick(rng)
    victim.kill()
    scene.go_on(400)
    yield {victim.name}
    victim.spawn()


def crash_point(scene: Scene, rng: random.Random) -> Strike:
    """The process kills itself right before or after a step of its code (crashing.py)."""
    possible = [
        point
        for point, step in POINTS.items()
        if scene.has_small_log or step.when not in ("cut", "install")
    ]
    yield from crash_at(scene, rng, rng.choice(possible))


def crash_at(scene: Scene, rng: random.Random, point: str) -> Strike:
    when = POINTS[point].when
    many = {"load": 60, "second": 3, "cut": 3, "compact": 2}.get(when, 1)
    victim = scene.pick(rng)
    victim.kill()
    if when == "install":
        scene.go_on(400)
    elif when == "bootstrap":
        scene.make_room_for(victim)
    count = rng.randint(1, many)
    scene.note(f"{victim.name} dies {point}, time {count}")
    scene.spawn_dying(victim, point, count)

    def is_dead() -> bool:
        if when == "compact":
            helper = scene.any_member(rng, but=victim)
            with suppress(grpc.RpcError):  # no leader, perhaps, since it is dead
                scene.compact(scene.keep_feed(but=victim) - 10, helper)
        elif when == "fill":
            with suppress(grpc.RpcError):
                scene.fill_log(scene.any_member(rng, but=victim))
        return not victim.runs

    _wait_until_landed(is_dead, f"never came to {point}")
    if victim.wait_exit() != -signal.SIGKILL:
        raise ServerFailed(f"{victim.name} ended by itself", victim.log())
    yield {victim.name}
    victim.spawn()


def _wait_until_landed(landed: Callable[[], bool], otherwise: str) -> None:
    give_up = time.monotonic() + LANDS_SECONDS
    while not landed():
        if time.monotonic() > give_up:
            raise Inconclusive(otherwise)
        time.sleep(0.05)


def _again(victim: Member) -> None:
    """A disk that failed ends the process with a word, or the member went on by itself."""
    if victim.runs:
        victim.kill()
    victim.spawn()


KINDS: Final[dict[str, Kind]] = {
    kind.__name__: kind
    for kind in (
        kill,
        kill_all,
        pause,
        restart,
        reconfigure,
        partition,
        one_way,
        slow_network,
        full_disk,
        failing_sync,
        slow_sync,
        flip_bits,
        lose_file,
        old_disk,
        wiped_disk,
        skewed_clock,
        replace_member,
        move_leader,
        compact,
        far_behind,
        crash_point,
    )
}
# What an overlap with another one would keep from striking, or let cost more than a quorum
# survives: what an old disk has forgotten, a member that was cut off then does not know either.
ALONE: Final = frozenset(
    {
        "kill_all",
        "reconfigure",
        "move_leader",
        "compact",
        "far_behind",
        "crash_point",
        "replace_member",
        "old_disk",
    }
)
# Each costs a member what it held, or its place: so many at once as leave a quorum without them.
DAMAGES: Final = frozenset({"flip_bits", "lose_file", "wiped_disk"})
_OF_DISKS: Final = frozenset({"full_disk", "failing_sync", "slow_sync"})


def at_once(names: Sequence[str], members: int) -> list[str]:
    """Those of the faults that may all strike before the first is mended."""
    found: list[str] = []
    damages_left = (members - 1) // 2
    for name in names:
        is_damage = name in DAMAGES
        if name not in ALONE and (damages_left or not is_damage):
            found.append(name)
            damages_left -= is_damage
    return found[: members // 2 + 1]


def mended_in_turn(name: str) -> int:
    """What others wait for is mended first: disks are written by a quorum, and damage heals by one.

    A key to sort by.
    """
    return 2 if name in DAMAGES else name in _OF_DISKS
