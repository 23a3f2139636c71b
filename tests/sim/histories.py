"""Right histories, made by a store that is right: a model behind a random delay.

Each operation takes effect at one moment between its call and its return, and
some of the answers are lost. `changed` replaces one operation: a planted lie.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from chainfire.sim.history import (
    Compare,
    Delete,
    Level,
    Operation,
    Put,
    Range,
    Request,
    Revision,
    Txn,
)
from chainfire.sim.model import Model

KEYS = [b"k%d" % n for n in range(8)]


def history(
    seed: int, count: int, *, unknown: float = 0.05, clients: int = 8
) -> tuple[list[Operation], list[Revision]]:
    """Operations in the order of their effects, and the changes that they made."""
    dice = random.Random(seed)
    model = Model()
    operations: list[Operation] = []
    feed: list[Revision] = []
    for at in range(count):
        request = _draw(dice, at)
        moment = at * 10
        ret = moment + dice.randrange(1, 10 * clients)
        call = moment - dice.randrange(1, 10 * clients)
        done, changes = model.carry_out(request)  # type: ignore[arg-type]  # none compacts
        operation = Operation(at % clients, 1, -1 - at, call, request, ret, done)
        if changes:
            feed.append(Revision(model.revision + 1, changes))
            model.apply(feed[-1])
        if dice.random() < unknown:
            operation = Operation(at % clients, 1, -1 - at, call, request)
        operations.append(operation)
    return operations, feed


def _draw(dice: random.Random, at: int) -> Request:
    key, die = dice.choice(KEYS), dice.random()
    if die < 0.4:
        return Range(key)
    if die < 0.75:
        return Put(key, b"v%d" % at, want_prev=die < 0.45)
    if die < 0.82:
        return Delete(key, want_prev=die < 0.77)
    if die < 0.86:
        return Delete(b"k2", b"k5")
    if die < 0.9:
        return Range(b"k", b"l", limit=dice.choice((0, 3)))
    compare = Compare(key, dice.choice(("mod", "version")), dice.choice("=!<>"), dice.randrange(3))
    return Txn((compare,), (Put(key, b"v%d" % at), Range(key)), (Range(key), Delete(KEYS[0])))


def changed(
    operations: Sequence[Operation],
    which: Callable[[Operation], bool],
    change: Callable[[Operation], Operation],
) -> list[Operation]:
    """The same with the middle one of those that `which` names changed."""
    places = [at for at, operation in enumerate(operations) if which(operation)]
    at = places[len(places) // 2]
    return [*operations[:at], change(replace(operations[at])), *operations[at + 1 :]]


def local(operation: Operation) -> Operation:
    """The same read at the weakest level."""
    assert isinstance(operation.request, Range)
    return replace(operation, request=operation.request._replace(level=Level.LOCAL))
