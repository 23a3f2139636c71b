"""Random commands, watchers, slow clients, slices and compactions, against a list of all events.

What a watcher is told is compared with a plain filter of the history: the same events in the same
order, no gap, nothing twice, and progress never ahead of what was told.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chainfire.proto import kv_pb2
from chainfire.watch import hub
from tests.watch.world import Client, World, delete, put, txn

FAR = hub.FAR
KEYS = [b"a", b"b", b"c", b"d"]
keys = st.sampled_from(KEYS)
ranges = st.sampled_from(
    [
        (b"a", b""),
        (b"b", b""),
        (b"a", b"c"),
        (b"b", b"d"),
        (b"b", b"\0"),
        (b"", b"\0"),
        (b"c", b"z"),
    ]
)


@dataclass
class Watch:
    client: Client
    id: int
    key: bytes
    range_end: bytes
    start: int
    filters: list[int]

    @property
    def is_over(self) -> bool:
        """A compaction has overtaken it."""
        return any(r.canceled and r.watch_id == self.id for r in self.client.told)

    def wants(self, event: kv_pb2.Event) -> bool:
        key, end, mine = event.kv.key, self.range_end, self.key or b"\0"
        inside = key == mine if not end else key >= mine and (end == b"\0" or key < end)
        return inside and event.kv.mod_revision >= self.start and event.type not in self.filters


class Watching(RuleBasedStateMachine):
    @initialize(far=st.sampled_from([0, FAR]))
    def begin(self, far: int) -> None:
        hub.FAR = far  # type: ignore[misc]
        self.world = World(sliced=True)
        self.history: list[kv_pb2.Event] = []
        self.clients: list[Client] = []
        self.watches: list[Watch] = []
        # Tells the twin what happened: it never is slow, and live from the first revision on.
        self.recorder = self.world.client(room_bytes=1 << 40)
        self.recorder.watch(b"", b"\0", prev_kv=True)

    # ── commands ────────────────────────────────────────────────────────────

    @rule(commands=st.lists(st.tuples(keys, st.integers(0, 2)), min_size=1, max_size=4))
    def turn(self, commands: list[tuple[bytes, int]]) -> None:
        made = []
        for key, what in commands:
            if what == 0:
                made.append(put(key, bytes(30)))
            elif what == 1:
                made.append(delete(key))
            else:
                made.append(txn(put(key), delete(bytes([key[0] + 1]))))
        self.world.apply(*made)

    @rule(back=st.integers(0, 5), physical=st.booleans())
    def compact(self, back: int, physical: bool) -> None:
        revision = self.world.machine.revision - back
        if revision > self.world.store.keyspace(0).compacted and revision > 0:
            self.world.compact(revision, physical=physical)

    # ── clients ─────────────────────────────────────────────────────────────

    @rule(room=st.sampled_from([60, 200, 1000, 1 << 30]))
    def connect(self, room: int) -> None:
        if len(self.clients) < 4:
            self.clients.append(self.world.client(room_bytes=room))

    @rule(
        which=st.integers(0, 3),
        bounds=ranges,
        start=st.integers(-8, 6),
        filters=st.sampled_from([[], [], [0], [1]]),
    )
    def watch(
        self, which: int, bounds: tuple[bytes, bytes], start: int, filters: list[int]
    ) -> None:
        if not self.clients:
            return
        client = self.clients[which % len(self.clients)]
        now = self.world.hub.revision
        first = max(now + start, 1) if start else 0
        answer = client.watch(*bounds, start_revision=first, filters=filters)
        assert answer.header.revision == now
        self.watches.append(
            Watch(client, answer.watch_id, *bounds, start=first or now + 1, filters=filters)
        )

    @rule(which=st.integers(0, 20))
    def cancel(self, which: int) -> None:
        if self.watches:
            watch = self.watches.pop(which % len(self.watches))
            watch.client.cancel(watch.id)

    @rule(which=st.integers(0, 3))
    def read(self, which: int) -> None:
        if self.clients:
            self.clients[which % len(self.clients)].read()

    @rule(which=st.integers(0, 3))
    def progress(self, which: int) -> None:
        if self.clients:
            client = self.clients[which % len(self.clients)]
            revision = client.progress()
            if revision is not None:
                for watch in self.watches:
                    if watch.client is client and not watch.is_over:
                        self.check(watch, up_to=revision)

    @rule(slices=st.integers(1, 5))
    def work(self, slices: int) -> None:
        for _ in range(slices):
            self.world.step()

    # ── always, and in the end ──────────────────────────────────────────────

    @invariant()
    def told_is_a_prefix_of_what_happened(self) -> None:
        if hasattr(self, "world"):
            for watch in self.watches:
                self.check(watch)

    def check(self, watch: Watch, up_to: int = 0) -> None:
        """`up_to`: what happened until then was told."""
        told = watch.client.events(watch.id)
        expected = [event for event in self.recorder.events() if watch.wants(event)]
        plain = [kv_pb2.Event(type=event.type, kv=event.kv) for event in expected]
        assert told == plain[: len(told)]
        rest = plain[len(told) :]
        assert all(event.kv.mod_revision > up_to for event in rest)
        if told and rest:
            assert told[-1].kv.mod_revision < rest[0].kv.mod_revision, "a revision was split"

    def teardown(self) -> None:
        hub.FAR = FAR  # type: ignore[misc]
        if not hasattr(self, "world"):
            return
        for _ in range(200):  # everybody reads until nothing is left to be told
            self.world.settle()
            for client in self.clients:
                client.read()
        for watch in self.watches:
            self.check(watch, up_to=0 if watch.is_over else self.world.machine.revision)
        live = [watch for watch in self.watches if not watch.is_over]
        assert self.world.hub.statistics().watchers == len(live) + 1
        assert self.world.hub.revision == self.world.machine.revision


TestWatching = Watching.TestCase
TestWatching.settings = settings(max_examples=60, stateful_step_count=40)
