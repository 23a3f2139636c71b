from __future__ import annotations

from chainfire.raft.readindex import ReadRequest, ReadRounds
from chainfire.types import ConfState

CONF = ConfState((1, 2, 3, 4, 5))
X = ReadRequest(1, b"x")


def indexes(rounds: ReadRounds, member: int, context: bytes, conf: ConfState = CONF) -> list[int]:
    return [each.index for each in rounds.answered(member, context, conf)]


def test_majority_confirms_once() -> None:
    rounds = ReadRounds()
    context = rounds.start(7, X, 1)
    assert indexes(rounds, 2, context) == []
    assert indexes(rounds, 2, context) == []
    assert indexes(rounds, 3, context) == [7]
    assert indexes(rounds, 4, context) == []


def test_answers_to_different_rounds_confirm_the_older_one() -> None:
    rounds = ReadRounds()
    first, second = rounds.start(7, X, 1), rounds.start(8, X, 1)
    assert indexes(rounds, 2, first) == []
    assert indexes(rounds, 3, second) == [7]
    assert indexes(rounds, 2, second) == [8]


def test_same_request_again_is_another_round() -> None:
    """etcd#20418."""
    rounds = ReadRounds()
    first = rounds.start(7, X, 1)
    rounds.answered(2, first, CONF), rounds.answered(3, first, CONF)
    second = rounds.start(9, X, 1)
    assert first != second
    assert indexes(rounds, 4, first) == [] and indexes(rounds, 5, first) == []


def test_numbers_are_not_used_again_after_a_reset() -> None:
    rounds = ReadRounds()
    first = rounds.start(7, X, 1)
    rounds.reset()
    assert len(rounds) == 0 and rounds.context() == b""
    rounds.start(9, X, 1)
    assert indexes(rounds, 2, first) == [] and indexes(rounds, 3, first) == []


def test_joint_configuration_needs_both_majorities() -> None:
    conf = ConfState((1, 2, 3), voters_outgoing=(1, 4, 5))
    rounds = ReadRounds()
    context = rounds.start(7, X, 1)
    assert indexes(rounds, 2, context, conf) == []
    assert indexes(rounds, 4, context, conf) == [7]


def test_nonsense_contexts_confirm_nothing() -> None:
    rounds = ReadRounds()
    rounds.start(7, X, 1)
    for member in range(2, 6):
        assert indexes(rounds, member, b"\xff" * 40) == []
