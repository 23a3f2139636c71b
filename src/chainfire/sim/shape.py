"""What a seed draws: the cluster, its environment, its load, the mix of its faults.

Swarm testing: no seed has everything. Each kind of fault is on or off, so
that no fault hides what only shows without it, and constants are now and then
absurdly small, so that what is rare in production is common here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from chainfire.sim.schedule import SECOND, dice

# Each kind of fault: how often a seed that has it sees it, per simulated minute, at most.
FAULTS: Final = {
    "kill": 12,
    "power_loss": 12,
    "power_cut": 30,  # in the middle of a turn
    "pause": 12,
    "partition": 12,  # a random set against the rest
    "isolate_leader": 8,
    "one_way": 12,  # a directed pair of members
    "slow_link": 8,
    "storm": 6,  # loss and delay everywhere for a while
    "sync_failure": 4,
    "slow_disk": 8,
    "stall": 12,
    "disk_full": 4,
    "transfer": 12,
    "membership": 15,  # voters become learners and the other way round
    "join": 6,  # a new member, as a learner
    "remove": 6,
    "campaign": 6,
    "kill_all": 2,
    "swizzle": 4,  # members are cut off one by one, and come back in another order
}


# Drawn apart, so that the others' draws stay what they were.
RARE_FAULTS: Final = {
    "lose_disk": 6,  # a member begins anew, without what it had acknowledged
    "ambush": 20,  # power goes in the middle of what a disk rarely does
    "reconfigure": 12,  # a member comes back with other options
    "rivals": 12,  # several stand for election at once
}
RARER_FAULTS: Final = {
    "flood": 20,  # a leader is cut off, and called all the more
    "garble": 20,  # bits flip, or bytes are missing, between two members
    "clock_jump": 10,  # a member's clock is suddenly later
    "set_back": 10,  # a member comes back with a copy of its disk that its last life has made
}
# The worst that can be thought of, each drawn by every fourth seed.
PLOTS: Final = {
    "stutter": 20,  # a member far away dies again and again, and is read all the while
    "deaf": 20,  # a leader hears late that it has handed over
    "echo": 20,  # who led leads again, before it hears what was said in its first term
    "exile": 20,  # far from all others a member comes to terms that nobody knows of
    "mire": 10,  # what a leader writes is under way to its disk until another has replaced it
    "crowd": 10,  # many leases end at the same moment
}
EVERY_FAULT: Final = FAULTS | RARE_FAULTS | RARER_FAULTS | PLOTS
# Whatever is lost or overtaken has all behind it refused and sent anew: with single entries 256 of
# them under way, most of what is simulated would be that.
SMALL_BYTES: Final = 500  # of an APPEND: up to three entries
SMALL_UNDER_WAY_MAX: Final = 8
STRIKES_PER_MINUTE_MAX: Final = 50  # of all kinds together, in most seeds


@dataclass(slots=True, frozen=True, kw_only=True)
class Network:
    delay_us: int = 300  # the least
    jitter_us: int = 500  # the mean of what comes on top
    loss: float = 0.0
    duplicates: float = 0.0
    reordering: float = 0.0  # messages that take a much longer way


@dataclass(slots=True, frozen=True, kw_only=True)
class Options:
    """What an operator may change of a member, from its next start on."""

    pre_vote: bool
    election_ticks: int
    request_timeout_ms: int
    catchup_entries: int
    state_sync_entries: int
    append_bytes_max: int
    inflight_messages_max: int
    applying_bytes_max: int
    uncommitted_bytes_max: int

    @property
    def under_way_max(self) -> int:
        """Messages to one member, as its leader."""
        most = self.inflight_messages_max
        return min(most, SMALL_UNDER_WAY_MAX) if self.append_bytes_max <= SMALL_BYTES else most

    def changed(self, roll: Random) -> Options:
        """Some of it otherwise."""

        def maybe(value: int, *others: int) -> int:
            return roll.choice(others) if roll.random() < 0.2 else value

        return Options(
            pre_vote=self.pre_vote != (roll.random() < 0.7),
            # Not twice another's: without pre-votes whoever is always first keeps all others from
            # standing, also if it cannot win.
            election_ticks=maybe(
                self.election_ticks, *((5, 6) if self.election_ticks < 8 else (10, 12))
            ),
            request_timeout_ms=maybe(self.request_timeout_ms, 300, 1500, 5000),
            catchup_entries=maybe(self.catchup_entries, 5, 30, 200),
            state_sync_entries=maybe(self.state_sync_entries, 3, 30, 300),
            append_bytes_max=maybe(self.append_bytes_max, 1, 500, 1 << 20),
            inflight_messages_max=maybe(self.inflight_messages_max, 1, 4, 256),
            applying_bytes_max=maybe(self.applying_bytes_max, 1, 500, 64 << 10),
            uncommitted_bytes_max=maybe(self.uncommitted_bytes_max, 5000, 1 << 20),
        )


@dataclass(slots=True, frozen=True, kw_only=True)
class Shape:
    """Everything about a run that is not chance. `seed` is the chance."""

    seed: int
    members: int = 3  # who found it
    learners: int = 0  # of these
    seconds: int = 10  # of chaos
    heartbeat_ms: int = 100
    election_ticks: int = 10
    pre_vote: bool = True
    check_quorum: bool = True
    network: Network = field(default_factory=Network)
    sync_us: int = 1000  # the mean
    turn_us: int = 200  # up to so much later than what causes it
    clock_skew: float = 0.0  # up to so much faster or slower, by member
    clients: int = 8
    calls_per_second: int = 120  # of all clients together, while nothing keeps them waiting
    burst: int = 4  # calls at once, at most
    feed_per_second: int = 0  # writes of one more client, which waits for no answer
    feed_batch: int = 12  # of these at once
    keys: int = 12
    carries_bytes: bool = False  # frames go through their codec on the way
    faithful: bool = False  # each client always calls the same member
    eager: bool = False  # whoever has nothing to do calls a member as soon as it is up
    client_timeout_ms: int = 3000
    request_timeout_ms: int = 5000  # of the members
    catchup_entries: int = 200
    state_sync_entries: int = 100
    compaction_pace_us: int = 1000  # between two steps of removing old revisions, at the slowest
    restart_ms: int = 50  # until who died is up again, at least
    append_bytes_max: int = 1 << 20
    inflight_messages_max: int = 256
    applying_bytes_max: int = 64 << 10
    uncommitted_bytes_max: int = 1 << 20
    lease_holders: int = 0
    watchers: int = 0
    compaction_ms: int = 0  # between a client's compactions; 0: none
    faults: tuple[str, ...] = ()
    faults_per_minute: float = 1.0  # times the figures of EVERY_FAULT

    @property
    def options(self) -> Options:
        """Of each member in its first life."""
        return Options(
            pre_vote=self.pre_vote,
            election_ticks=self.election_ticks,
            request_timeout_ms=self.request_timeout_ms,
            catchup_entries=self.catchup_entries,
            state_sync_entries=self.state_sync_entries,
            append_bytes_max=self.append_bytes_max,
            inflight_messages_max=self.inflight_messages_max,
            applying_bytes_max=self.applying_bytes_max,
            uncommitted_bytes_max=self.uncommitted_bytes_max,
        )

    @property
    def pause_us(self) -> int:
        """Between the bursts of one client, the mean."""
        return int(SECOND * self.clients * (1 + self.burst) / 2 / self.calls_per_second)

    @property
    def strikes_per_minute(self) -> float:
        """Of all kinds of faults together."""
        return self.faults_per_minute * sum(EVERY_FAULT[kind] for kind in self.faults)

    @property
    def chaos_us(self) -> int:
        return self.seconds * SECOND


def draw(seed: int, *, seconds: int = 10) -> Shape:
    """The shape of a seed."""
    roll = dice(seed, "shape")
    members = roll.choice((1, 2, *[3] * 9, *[4] * 3, *[5] * 6))
    some = roll.sample(sorted(FAULTS), roll.randint(1, 8))
    rare = dice(seed, "rare faults")
    some += [kind for kind in sorted(RARE_FAULTS) if rare.random() < 0.3]
    some += [kind for kind in sorted(RARER_FAULTS) if dice(seed, kind).random() < 0.25]
    some += [kind for kind in sorted(PLOTS) if dice(seed, kind).random() < 0.25]
    rough = roll.random() < 0.6
    network = Network(
        delay_us=roll.choice((50, 300, 300, 2000)),
        jitter_us=roll.choice((100, 500, 500, 5000)),
        loss=roll.choice((0.0, 0.01, 0.05, 0.2)) if rough else 0.0,
        duplicates=roll.choice((0.0, 0.02, 0.2)) if rough else 0.0,
        reordering=roll.choice((0.0, 0.02, 0.2)) if rough else 0.0,
    )
    tight = roll.random() < 0.4
    shape = Shape(
        seed=seed,
        members=members,
        seconds=seconds,
        heartbeat_ms=roll.choice((50, 100, 100, 100)),
        election_ticks=roll.choice((5, 10, 10, 10)),
        pre_vote=roll.random() < 0.75,
        check_quorum=roll.random() < 0.85,
        network=network,
        sync_us=roll.choice((200, 1000, 1000, 8000)),
        turn_us=roll.choice((20, 200, 1000)),
        clock_skew=roll.choice((0.0, 0.0, 0.05, 0.3)),
        clients=roll.choice((4, 8, 8, 16)),
        calls_per_second=roll.choice((15, 15, 30, 30, 80)),
        burst=roll.choice((1, 4, 4, 12)),
        keys=roll.choice((3, 12, 40)),
        client_timeout_ms=roll.choice((500, 3000, 8000)),
        request_timeout_ms=roll.choice((300, 1500, 5000)),
        catchup_entries=roll.choice((5, 30, 200, 1 << 30)),
        state_sync_entries=roll.choice((3, 30, 300)),
        append_bytes_max=roll.choice((1, 500, 500, 2000, 1 << 20)) if tight else 1 << 20,
        inflight_messages_max=roll.choice((1, 4, 16)) if tight else 256,
        applying_bytes_max=roll.choice((1, 500, 64 << 10)) if tight else 64 << 10,
        uncommitted_bytes_max=roll.choice((500, 5000, 1 << 20)) if tight else 1 << 20,
        lease_holders=roll.choice((0, 0, 2, 4)),
        watchers=roll.choice((0, 0, 2, 4)),
        compaction_ms=roll.choice((0, 0, 200, 1000)),
        faults=tuple(sorted(some)),
        faults_per_minute=roll.choice((1.0, 2.0, 4.0, 8.0)),
    )
    return _with_habits(_with_load(shape))


def _with_load(shape: Shape) -> Shape:
    """Drawn apart: writes enough that most of what is simulated is under load (`sim.run`), together
    with those of clients that wait for their answers, which are about half of what these ask.

    The more faults strike, the more of them come to nothing; where very many do, nobody does
    any work, so that is for a few seeds only.
    """
    roll = dice(shape.seed, "load")
    if roll.random() < 0.85:
        most = STRIKES_PER_MINUTE_MAX / sum(EVERY_FAULT[kind] for kind in shape.faults)
        shape = replace(shape, faults_per_minute=min(shape.faults_per_minute, most))
    if roll.random() < 0.02:
        return shape
    if shape.append_bytes_max == 1:
        return replace(shape, feed_per_second=45, feed_batch=4)  # each a message of its own
    return replace(
        shape,
        feed_per_second=60 + int(shape.strikes_per_minute - shape.calls_per_second) // 2,
        feed_batch=roll.choice((8, 8, 12, 20)),
    )


def _with_habits(shape: Shape) -> Shape:
    """Drawn apart: who votes, who is called, how timeouts compare with the network."""
    roll = dice(shape.seed, "habits")
    if roll.random() < 0.2:
        # Timeouts near to what a message takes: elections are contested, and an answer
        # may be older than the leader that it reaches.
        shape = replace(shape, heartbeat_ms=20, election_ticks=5)
    return replace(
        shape,
        learners=roll.randrange(shape.members) if roll.random() < 0.25 else 0,
        faithful=roll.random() < 0.3,
        carries_bytes=dice(shape.seed, "bytes").random() < 0.1,
        eager=roll.random() < 0.4,
        compaction_pace_us=roll.choice((1000, 1000, 100_000)),
        restart_ms=roll.choice((2, 50, 50)),
    )
