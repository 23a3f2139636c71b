"""What must hold over a whole cluster at every moment, seen from outside (Raft, figure 3; more).

The oracle knows every member's log, durable and not, which no member does.
After every turn, before anybody hears of it:

    election safety         one leader per term
    leader completeness     who leads has all that was committed before
    own term                who leads commits by counting what is of its own term (Raft §5.4.2)
    committed on a quorum   durable on a majority of each half of the configuration
    committed for good      nobody holds another entry at a committed index
    one history             equal hash chains and configurations at equal indexes
    one configuration       what a member counts by is what it has applied
    matches                 what a leader counts a member for is durable there
    stored                  what a member takes for durable here is, under that term
    one clock               who leads reads of the lease clock what its own has gone on, and begins
                            with no more than those read who have led since the last commit
    in touch                who leads has heard of a quorum within a few election timeouts, where
                            it is to check that (Raft thesis §6.2)
    order                   applied <= committed, applied <= durable here; none goes back

and for every message that leaves: nothing is promised that is not durable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from chainfire.node.frames import Clock
from chainfire.raft.messages import Message, MessageType
from chainfire.raft.ready import Role
from chainfire.sim.history import Revision, Violation
from chainfire.sim.member import SimMember
from chainfire.sim.opening import FOUNDED_AT
from chainfire.sim.wire import changes_between
from chainfire.types import ConfState

_APPEND_REPLY, _VOTE, _VOTE_REPLY = (
    MessageType.APPEND_REPLY,
    MessageType.VOTE,
    MessageType.VOTE_REPLY,
)


QUIET_TIMEOUTS = 3  # of an election: a leader looks once in each whether it has heard of anybody


class Seen:
    """What was last seen of a member's present life."""

    __slots__ = (
        "ahead",
        "applied",
        "commit",
        "conf",
        "leads",
        "life",
        "matches",
        "quiet_from",
        "role",
        "stored",
        "term",
        "touched",
    )

    def __init__(self, life: int, applied: int, conf: ConfState) -> None:
        self.life = life
        self.conf = conf
        self.applied = applied
        self.term = self.commit = 0
        self.leads = -1  # the term that it led after its last turn
        self.role = Role.FOLLOWER
        self.quiet_from = 0  # in which tick it began to lead, in the present configuration
        self.touched = 0  # in which tick that was looked at last
        self.matches: dict[int, int] = {}  # as a leader's that were looked at
        self.stored = 0
        self.ahead = (-1, 0)  # the term that it leads, its lease clock ahead of its own by so much


class Oracle:
    def __init__(self, members: Mapping[int, SimMember]) -> None:
        self._members = members
        self._seen: dict[int, Seen] = {}
        self.leaders: dict[int, tuple[int, int]] = {}  # term: (member, its life)
        # Of committed entries, and of the chain behind them, by index; those that founded it first.
        self.terms: list[int] = [0, FOUNDED_AT]
        self.ends: dict[int, int] = {}  # by term: up to where its leader is known to have committed
        # By term: who led, and how far its lease clock was ahead of its own.
        self.clocks: dict[int, tuple[SimMember, int]] = {}
        self.acknowledged: Counter[int] = Counter()  # entries by who took them, to its leaders
        self.hashes: list[int] = [0, 0]
        self.confs: dict[int, ConfState] = {}  # by the index at which they were seen
        self.newest_conf = (0, ConfState())  # and where it was seen
        self.branches: Counter[str] = Counter()
        self.feed: list[Revision] = []  # every revision that anybody has applied

    @property
    def committed(self) -> int:
        return len(self.terms) - 1

    @property
    def revision(self) -> int:
        return self.feed[-1].main if self.feed else 1

    # ── after a turn ────────────────────────────────────────────────────────

    def look(self, member: SimMember, now: int) -> None:
        """`now` is the true time."""
        driver = member.driver
        assert driver is not None
        seen = self._seen.get(member.id)
        if seen is None or seen.life != member.life:
            applied, conf = max(0, member.opened_at - 1), driver.raft.raft.tracker.conf
            seen = self._seen[member.id] = Seen(member.life, applied, conf)
        raft = driver.raft.raft
        term, role, commit = raft.term, raft.role, raft.log.committed
        if role is Role.LEADER:
            self._counted(member, seen)
            self._in_touch(member, seen)
            self._clocked(member, seen, now)
        stored = raft.log.unstable.offset - 1
        if stored != seen.stored:
            self._stored(member, stored)
            seen.stored = stored
        if role is Role.LEADER and (seen.role is not role or seen.term != term):
            self._elected(member, term)
        if term < seen.term or commit < seen.commit:
            raise Violation(f"member {member.id} went back: {term, commit} after {seen}")
        seen.term, seen.role = term, role
        if commit > seen.commit:
            self._committed(member, seen, commit)
            seen.commit = commit
        seen.leads = term if role is Role.LEADER else -1
        seen.conf = raft.tracker.conf
        applied = driver.machine.applied_index
        if applied != seen.applied:
            self._applied(member, seen.applied, applied, commit)
            seen.applied = applied

    def _counted(self, leader: SimMember, seen: Seen) -> None:
        assert leader.driver is not None
        raft, matches = leader.driver.raft.raft, seen.matches
        if seen.leads != raft.term:
            matches.clear()
        for id, peer in raft.tracker.progress.items():
            match = peer.match
            if match >= peer.next:
                raise Violation(f"member {leader.id} sends {id} {peer.next}, it has {match}")
            known = matches.get(id)
            if known != match:
                if known:  # else it is only found out now
                    self.acknowledged[id] += max(0, match - known)
                matches[id] = match
                self._matched(leader, id, match)

    def _in_touch(self, leader: SimMember, seen: Seen) -> None:
        assert leader.driver is not None
        raft, ticks = leader.driver.raft.raft, leader.ticks
        conf, config = raft.tracker.conf, raft.config
        if seen.leads != raft.term or (seen.conf is not conf and seen.conf != conf):
            seen.quiet_from = ticks
        if ticks == seen.touched:
            return
        seen.touched = ticks
        since = ticks - QUIET_TIMEOUTS * config.election_ticks
        if not config.check_quorum or seen.quiet_from >= since:
            return
        heard = {id for id, at in leader.heard_at.items() if at >= since}
        if not _is_quorum({leader.id, *heard}, conf):
            raise Violation(
                f"member {leader.id} leads term {raft.term}, by tick {ticks} it has heard of "
                f"{leader.heard_at} in the ticks named, which is no quorum of {conf}"
            )

    def _matched(self, leader: SimMember, id: int, match: int) -> None:
        """Who has heard of a later leader may have dropped it since."""
        assert leader.driver is not None
        raft = leader.driver.raft.raft
        log_term, member = raft.log.term(match), self._members[id]
        if log_term is None:
            return
        for durable in (member.durable, *member.forgotten):
            if durable.hard_state.term > raft.term or durable.holds(match, log_term):
                return
        raise Violation(
            f"member {leader.id} counts {id} for {match} (term {log_term}), durable there is "
            f"{member.durable.last}"
        )

    @staticmethod
    def _stored(member: SimMember, stored: int) -> None:
        assert member.driver is not None
        log, durable = member.driver.raft.raft.log, member.durable
        if log.unstable.snapshot is not None:
            return  # its log begins anew, once that is there
        term = log.term(stored)
        if stored > durable.last or (term is not None and not durable.holds(stored, term)):
            raise Violation(
                f"member {member.id} takes {stored} of term {term} for durable, which it is not: "
                f"its disk ends at {durable.last}"
            )

    def _clocked(self, leader: SimMember, seen: Seen, now: int) -> None:
        """It goes on as it should from when it has applied what earlier leaders have stamped."""
        assert leader.driver is not None
        clock, machine = leader.driver.lease_clock, leader.driver.machine
        term, ahead = leader.driver.raft.raft.term, clock.base_ms - clock.since_ms
        if clock.leading_term == term:
            if term not in self.clocks:
                self._clock_begun(leader, term, now)
            applied = machine.leader_clock_ms - leader.clock.read_ms(now)  # lifts it, soon
            self._note_clock(leader, term, max(ahead, applied))
        if seen.ahead[0] == term:
            if seen.ahead[1] != ahead:
                raise Violation(
                    f"member {leader.id} leads term {term}, its lease clock has gained "
                    f"{ahead - seen.ahead[1]} ms"
                )
        elif (
            clock.leading_term == term == machine.applied_term
            and machine.leader_clock_ms <= ahead + clock.now_ms
        ):
            seen.ahead = term, ahead

    def _clock_begun(self, leader: SimMember, term: int, now: int) -> None:
        assert leader.driver is not None
        begun, machine = leader.driver.lease_clock.base_ms, leader.driver.machine
        committed = max((earlier for earlier in self.ends if earlier < term), default=0)
        readings = [
            ahead + other.clock.read_ms(now)
            for earlier, (other, ahead) in self.clocks.items()
            if committed <= earlier < term
        ]
        if begun > max(readings, default=0) and begun > machine.leader_clock_ms:
            raise Violation(
                f"member {leader.id} leads term {term} with a lease clock of {begun} ms, applied "
                f"are {machine.leader_clock_ms}; since term {committed} others read {readings}"
            )
        self.branches["lease clocks that go on with what was told"] += (
            begun > machine.leader_clock_ms
        )

    def _note_clock(self, leader: SimMember, term: int, ahead: int) -> None:
        known = self.clocks.get(term)
        self.clocks[term] = leader, ahead if known is None else max(ahead, known[1])

    def _elected(self, member: SimMember, term: int) -> None:
        self.branches["elections won"] += 1
        me = (member.id, member.life)
        leader = self.leaders.setdefault(term, me)
        if leader != me:
            raise Violation(f"two leaders in term {term}: (member, life) {leader} and {me}")
        assert member.driver is not None
        log, last = member.driver.raft.raft.log, committed_before(term, self.ends)
        held = log.term(last)
        if last >= log.first_index and held != self.terms[last]:
            raise Violation(
                f"member {member.id} leads term {term} and lacks entry {last} of term "
                f"{self.terms[last]}, which is committed; it holds {held}"
            )

    def _committed(self, member: SimMember, seen: Seen, high: int) -> None:
        assert member.driver is not None
        low = seen.commit
        raft = member.driver.raft.raft
        log, terms = raft.log, self.terms
        if seen.leads == raft.term and log.term(high) != raft.term:
            raise Violation(
                f"member {member.id} leads term {raft.term} and commits {high} of term "
                f"{log.term(high)} by counting"
            )
        for index in range(max(low + 1, log.first_index), min(high, self.committed) + 1):
            if log.term(index) != terms[index]:
                raise Violation(
                    f"member {member.id} holds term {log.term(index)} at committed index {index}, "
                    f"term {terms[index]} was committed there"
                )
        if high <= self.committed:
            return
        if self.committed < log.first_index - 1:
            raise Violation(f"member {member.id} has {high} by a snapshot of what nobody committed")
        new = [log.term(index) for index in range(self.committed + 1, high + 1)]
        term = new[-1]
        assert term is not None and None not in new
        members = self._members.values()
        # Who has lost its disk has held it all the same: it votes again when it does again.
        holders = {
            m.id
            for m in members
            if any(durable.holds(high, term) for durable in (m.durable, *m.forgotten))
        }
        # A change that was applied in this very turn came after the commit, or before it.
        confs = (seen.conf, raft.tracker.conf)
        if not any(_is_quorum(holders, conf) for conf in confs):
            raise Violation(
                f"member {member.id} took {high} (term {term}) for committed, it is durable "
                f"on {sorted(holders)} of {confs}"
            )
        self.terms += [term for term in new if term is not None]
        self.ends[term] = high

    def _applied(self, member: SimMember, low: int, high: int, commit: int) -> None:
        assert member.driver is not None
        machine, hashes = member.driver.machine, self.hashes
        durable = member.durable
        term = member.driver.raft.raft.log.term(high)
        if high > commit or high > durable.last or (term and not durable.holds(high, term)):
            raise Violation(
                f"member {member.id} applied {high} (term {term}), committed {commit}, durable "
                f"{durable.last}"
            )
        if high < low:
            raise Violation(f"member {member.id} applied {high} after {low}")
        for index in range(low + 1, high + 1):
            link = machine.hash_at(index)
            if link is None:
                continue  # an earlier life's
            if index == len(hashes):
                hashes.append(link)
            elif index < len(hashes) and hashes[index] != link:
                raise Violation(
                    f"member {member.id} has hash {link:x} after entry {index}, another had "
                    f"{hashes[index]:x}"
                )
        self._configured(member, high)
        if machine.revision > self.revision:
            new = changes_between(member.disk.state, self.revision, machine.revision)
            self.feed += new
            if self.revision != machine.revision:
                raise Violation(f"member {member.id} lacks changes of {machine.revision}")

    def _configured(self, member: SimMember, applied: int) -> None:
        assert member.driver is not None
        conf, counted = member.driver.machine.conf_state, member.driver.raft.raft.tracker.conf
        if counted is not conf and counted != conf:
            raise Violation(f"member {member.id} counts by {counted}, it has applied {conf}")
        other = self.confs.setdefault(applied, conf)
        if applied > self.newest_conf[0]:
            self.newest_conf = applied, conf
        if other is not conf and other != conf:
            raise Violation(f"member {member.id} has {conf} at {applied}, another {other}")

    # ── what leaves ─────────────────────────────────────────────────────────

    def told(self, leader: SimMember, clock: Clock, now: int) -> None:
        self._note_clock(leader, clock.term, clock.reading_ms - leader.clock.read_ms(now))

    def sent(self, member: SimMember, message: Message) -> None:
        type_, durable = message.type, member.durable
        if type_ is _APPEND_REPLY:
            if not message.reject and message.index > durable.last:
                raise Violation(
                    f"member {member.id} acknowledges {message.index}, durable is {durable.last}"
                )
        elif type_ is _VOTE_REPLY:
            if not message.reject:
                self._promised(member, message, message.to)
        elif type_ is _VOTE:
            self._promised(member, message, member.id)

    @staticmethod
    def _promised(member: SimMember, message: Message, vote: int) -> None:
        """A vote is durable, or made impossible to break by a durable later term."""
        hard = member.durable.hard_state
        if hard.term < message.term or (hard.term == message.term and hard.vote != vote):
            raise Violation(f"member {member.id} says {message}, durable is {hard}")


def committed_before(term: int, ends: Mapping[int, int]) -> int:
    """The index that a leader of this term must hold all entries up to (Raft §5.4, leader
    completeness), given up to where the leaders of which terms have committed.

    Who has the votes for a term may count them late, after a later term has committed more.
    """
    return max((end for earlier, end in ends.items() if earlier < term), default=1)


def _is_quorum(holders: set[int], conf: ConfState) -> bool:
    halves = [half for half in (conf.voters, conf.voters_outgoing) if half]
    return all(len(holders & set(half)) > len(half) // 2 for half in halves)
