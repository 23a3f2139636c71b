"""Linearizability of key-value histories, by revision: exact, and linear in the history's length.

A general checker searches for an order. Here the store itself names one: the
revision in each answer. `check_kv` holds a history against it, given the
changes of every revision (from a watch over everything, or from a member):

    sweep    along real time: no answer may lie before what was answered
             earlier, no write may lie at or before it
    walk     revision after revision: whoever claims one must have made exactly
             its changes, and must have been told so; a revision that nobody
             claims must be the work of a request whose outcome is unknown;
             every read must have seen the state at its revision

An acknowledged write that is nowhere in the changes is a lost one.

Compacted revisions are judged by intervals: a read at a revision that was
compacted before the read began must fail, and one that fails so needs a
compaction that may have been before its end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from chainfire.sim.history import (
    NEVER,
    Change,
    Compact,
    CompactDone,
    Delete,
    DeleteDone,
    Level,
    Operation,
    Put,
    PutDone,
    Range,
    RangeDone,
    Refused,
    Revision,
    TxnDone,
    Violation,
    writes,
)
from chainfire.sim.model import Model

COMPACTED, FUTURE = "Compacted", "FutureRevision"


def check_kv(operations: Sequence[Operation], feed: Iterable[Revision]) -> Model:
    """The state after the last revision of `feed`, which starts at 2. Raises Violation."""
    sweep = _Sweep(operations)
    return _Walk(operations, sweep.floors).through(feed)


def changes_something(operation: Operation) -> bool:
    """Whether the answer says that the request made a revision."""
    response = operation.response
    if isinstance(response, PutDone):
        return True
    if isinstance(response, DeleteDone):
        return response.deleted > 0
    if isinstance(response, TxnDone):
        return any(
            isinstance(result, PutDone) or (isinstance(result, DeleteDone) and result.deleted > 0)
            for result in response.results
        )
    return False


# ── real time ───────────────────────────────────────────────────────────────


class _Sweep:
    """Calls and returns in their order; where times are equal, calls come first."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.floors: dict[Operation, int] = {}  # of unknown writes: they lie above it
        self._highest = 0  # revision in any answer so far
        self._compacted = 0  # by compactions that were answered so far
        self._asked_to_compact = 0  # by compactions that were called so far
        self._sessions: dict[int, int] = {}
        floors: dict[Operation, tuple[int, int, int]] = {}
        moments = [(op.call, 0, at) for at, op in enumerate(operations)]
        moments += [(op.ret, 1, at) for at, op in enumerate(operations) if op.ret != NEVER]
        moments.sort()
        for _, returns, at in moments:
            operation = operations[at]
            if returns:
                self._on_return(operation, *floors.pop(operation))
            else:
                seen = self._sessions.get(operation.session, 0)
                floors[operation] = (self._highest, self._compacted, seen)
                self._on_call(operation)

    def _on_call(self, operation: Operation) -> None:
        request = operation.request
        if operation.response is None and not isinstance(request, Range | Compact):
            self.floors[operation] = self._highest
        if isinstance(request, Compact) and not isinstance(operation.response, Refused):
            self._asked_to_compact = max(self._asked_to_compact, request.revision)

    def _on_return(self, operation: Operation, floor: int, compacted: int, seen: int) -> None:
        request, response = operation.request, operation.response
        if response is None:
            return
        if isinstance(response, Refused):
            self._check_refusal(operation, response.why, floor)
            return
        revision = response.revision
        if isinstance(request, Range):
            self._check_read(request, operation, floor, compacted, seen)
        elif revision < floor or (revision == floor and changes_something(operation)):
            raise Violation(f"revision {floor} was answered before the call of {operation}")
        if isinstance(request, Compact):
            if request.revision > revision:
                raise Violation(f"the future was compacted: {operation}")
            if request.revision <= compacted:
                raise Violation(f"{compacted} was compacted before {operation}")
            self._compacted = max(self._compacted, request.revision)
        self._highest = max(self._highest, revision)

    def _check_read(
        self, request: Range, operation: Operation, floor: int, compacted: int, seen: int
    ) -> None:
        assert isinstance(operation.response, RangeDone)
        revision = operation.response.revision
        if revision < request.min_revision:
            raise Violation(f"older than asked for: {operation}")
        if request.level == Level.LINEARIZABLE:
            if revision < floor:
                raise Violation(
                    f"stale: revision {floor} was answered before the call of {operation}"
                )
            if 0 < request.revision < compacted:
                raise Violation(f"{compacted} was compacted before {operation}")
        if revision < seen:
            raise Violation(f"its session had seen revision {seen}: {operation}")
        session = operation.session
        self._sessions[session] = max(self._sessions.get(session, 0), revision)

    def _check_refusal(self, operation: Operation, why: str, floor: int) -> None:
        request = operation.request
        revision = getattr(request, "revision", 0)
        if why == FUTURE:
            linearizable = not isinstance(request, Range) or request.level == Level.LINEARIZABLE
            if linearizable and 0 < revision <= floor:
                raise Violation(f"revision {floor} was answered before: {operation}")
        elif why == COMPACTED and revision > 0:
            # A compaction to the compacted revision itself is refused in this way, too.
            least = revision if isinstance(request, Compact) else revision + 1
            if self._asked_to_compact < least:
                raise Violation(f"nobody has asked to compact that far: {operation}")


# ── revision by revision ────────────────────────────────────────────────────


class _Walk:
    def __init__(self, operations: Sequence[Operation], floors: dict[Operation, int]) -> None:
        self._floors = floors
        self._claims: dict[int, Operation] = {}
        self._reads: dict[int, list[Operation]] = defaultdict(list)  # by the state's revision
        # Of unknown outcome, and those that must not be: by the keys and values they would write.
        self._unknown: dict[tuple[bytes, bytes], Operation] = {}
        self._forbidden: dict[tuple[bytes, bytes], Operation] = {}
        self._deletes: list[Operation] = []  # unknown ones, which no value tells apart
        self._found: dict[Operation, int] = {}  # unknown, but carried out: at this revision
        self._guesses: list[tuple[Revision, list[Operation]]] = []  # made by some delete
        for operation in operations:
            self._sort_in(operation)

    def _sort_in(self, operation: Operation) -> None:
        request, response = operation.request, operation.response
        if response is None or isinstance(response, Refused):
            by_row = self._unknown if response is None else self._forbidden
            changes = writes(request)
            for write in changes:
                if isinstance(write, Put):
                    by_row[write.key, write.value] = operation
            if response is None and any(isinstance(write, Delete) for write in changes):
                self._deletes.append(operation)
        elif changes_something(operation):
            other = self._claims.setdefault(response.revision, operation)
            if other is not operation:
                raise Violation(f"two writes have one revision: {other} and {operation}")
        elif isinstance(request, Range) and request.revision > 0:
            if request.revision > response.revision:
                raise Violation(f"the future was read: {operation}")
            self._reads[request.revision].append(operation)
        elif not isinstance(response, CompactDone):
            self._reads[response.revision].append(operation)

    def through(self, feed: Iterable[Revision]) -> Model:
        model = Model()
        self._see(model)
        for revision in feed:
            operation = self._claims.pop(revision.main, None)
            if operation is not None:
                self._check_claim(operation, revision, model)
            elif revision.by_lease:
                _check_lease_end(revision, model)
            else:
                self._explain(revision, model)
            model.apply(revision)
            if model.revision in self._reads:
                self._see(model)
        if self._claims:
            raise Violation(f"an acknowledged write is lost: {min(self._claims.items())}")
        if self._reads:
            at = min(self._reads)
            raise Violation(f"revision {at} was read and never was: {self._reads[at][0]}")
        self._settle_guesses()
        return model

    def _check_claim(self, operation: Operation, revision: Revision, model: Model) -> None:
        request = operation.request
        assert not isinstance(request, Compact)
        done, changes = model.carry_out(request)
        if changes != revision.changes:
            raise Violation(f"{operation} should have made {changes}, not {revision}")
        if done != operation.response:
            raise Violation(f"{operation} should have been answered {done}")

    def _see(self, model: Model) -> None:
        for operation in self._reads.pop(model.revision, ()):
            request, response = operation.request, operation.response
            if isinstance(request, Range):
                assert isinstance(response, RangeDone)
                seen = model.range(request)
                if (seen.rows, seen.more, seen.total) != response[1:]:
                    raise Violation(f"{operation} should have seen {seen}")
                continue
            assert not isinstance(request, Compact)
            done, changes = model.carry_out(request)
            if changes or done != response:
                raise Violation(f"{operation} should have been answered {done}, with {changes}")

    # ── revisions that nobody claims ────────────────────────────────────────

    def _explain(self, revision: Revision, model: Model) -> None:
        for change in revision.changes:
            if not change.deleted:
                self._explain_by_row((change.kv.key, change.kv.value), revision, model)
                return
        able = [
            operation
            for operation in self._deletes
            if self._floors[operation] < revision.main
            and _would_make(operation, model) == revision.changes
        ]
        self._guesses.append((revision, able))

    def _explain_by_row(self, row: tuple[bytes, bytes], revision: Revision, model: Model) -> None:
        operation = self._unknown.get(row)
        if operation is None:
            who = self._forbidden.get(row)
            if who is not None:
                raise Violation(f"refused, and carried out at {revision.main}: {who}")
            raise Violation(f"{revision} is nobody's")
        if revision.main <= self._floors[operation]:
            raise Violation(f"carried out before its call, at {revision.main}: {operation}")
        earlier = self._found.setdefault(operation, revision.main)
        if earlier != revision.main:
            raise Violation(f"carried out twice, at {earlier} and {revision.main}: {operation}")
        if _would_make(operation, model) != revision.changes:
            raise Violation(f"{operation} cannot have made {revision}")

    def _settle_guesses(self) -> None:
        """Give each such revision a request of its own: a matching, by augmenting paths."""
        owner: dict[Operation, int] = dict.fromkeys(self._found, -1)

        def place(guess: int, tried: set[Operation]) -> bool:
            for operation in self._guesses[guess][1]:
                if operation in tried:
                    continue
                tried.add(operation)
                rival = owner.get(operation)
                if rival is None or (rival >= 0 and place(rival, tried)):
                    owner[operation] = guess
                    return True
            return False

        for guess, (revision, _) in enumerate(self._guesses):
            if not place(guess, set()):
                raise Violation(f"{revision}, a delete, is nobody's")


def _check_lease_end(revision: Revision, model: Model) -> None:
    """A lease takes its keys along: all of them, and no other."""
    gone = [change.kv.key for change in revision.changes if change.deleted]
    leases = {model.kvs[key].lease for key in gone if key in model.kvs}
    lease = next(iter(leases), 0)
    its_keys = [key for key in sorted(model.kvs) if model.kvs[key].lease == lease]
    if not lease or gone != its_keys or len(gone) != len(revision.changes):
        raise Violation(f"{revision} ends leases {sorted(leases)}, whose keys are {its_keys}")


def _would_make(operation: Operation, model: Model) -> tuple[Change, ...]:
    request = operation.request
    assert not isinstance(request, Compact)
    return model.carry_out(request)[1]
