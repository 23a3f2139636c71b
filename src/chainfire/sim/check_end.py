"""After the faults: every member holds the same, and it is what the history adds up to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chainfire.sim.history import Kv, Violation
from chainfire.sim.model import Model


@dataclass(slots=True, frozen=True)
class MemberEnd:
    """What one member holds at the end."""

    member: int
    applied: int
    revision: int
    chain_hash: int  # of everything it has applied
    content_hash: int  # of what a reader could ask for
    kvs: Sequence[Kv]  # in key order


def check_end(ends: Iterable[MemberEnd], model: Model) -> None:
    """Raises Violation: an acknowledged write is missing somewhere, or members differ."""
    found = sorted(ends, key=lambda end: end.member)
    wanted = [model.kvs[key] for key in sorted(model.kvs)]
    for end in found:
        if end.revision != model.revision:
            raise Violation(f"{_short(end)} is not at revision {model.revision}")
        if list(end.kvs) != wanted:
            other = sorted(set(end.kvs) ^ set(wanted))
            raise Violation(f"{_short(end)} differs from the history in {other}")
    first = found[0]
    for end in found[1:]:
        if end.applied == first.applied and end.chain_hash != first.chain_hash:
            raise Violation(f"hash chains differ: {_short(first)}, {_short(end)}")
        if end.content_hash != first.content_hash:
            raise Violation(f"content differs: {_short(first)}, {_short(end)}")


def _short(end: MemberEnd) -> str:
    return (
        f"member {end.member} (applied {end.applied}, revision {end.revision}, chain "
        f"{end.chain_hash:x}, content {end.content_hash:x})"
    )
