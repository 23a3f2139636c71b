"""The same membership commands on a lone etcd and a lone Chainfire: same outputs, same refusals."""

from __future__ import annotations

import re

import pytest

from tests.compat.ctl import Ctl, Output

_HEX = re.compile(r"(?:(?<= ) +)?\b[0-9a-f]{13,16}\b")  # padded by some commands
_PEER = re.compile(r"http://127\.0\.0\.1:\d+|HOST:PORT")
_FOUNDERS = re.compile(r'(?<=INITIAL_CLUSTER=")[^"]*')


def settled(output: Output) -> Output:
    def text(given: str) -> str:
        given = given.replace(" as learner", "")  # as later etcdctls print it
        given = _PEER.sub("URL", _HEX.sub("ID", given))
        given = _FOUNDERS.sub(lambda found: ",".join(sorted(found[0].split(","))), given)
        return "\n".join(sorted(given.split("\n")))  # members come in the order of their ids

    return Output(output.code, text(output.out), text(output.error))


def scenario(ctl: Ctl) -> list[Output]:
    """What a lone member can be asked without losing its quorum: learners, and refusals."""
    me = ctl.raw("member list").split(",")[0]
    outputs = [ctl("member add a --peer-urls=http://h:1 --learner")]
    learner = next(row.split(",")[0] for row in ctl.raw("member list").splitlines() if "h:1" in row)
    outputs += [
        ctl(command)
        for command in (
            "member add b --peer-urls=http://h:2 --learner",  # too many
            "member add b --peer-urls=http://h:1,http://h:5",  # taken
            "member add b --peer-urls=http://h:1,http://h:5 --learner",
            "member add b --peer-urls=h:2",
            "member add b --peer-urls=http://h:2/path",
            f"member promote {learner}",
            f"move-leader {learner}",
            f"member promote {me}",
            "member promote 7",
            f"move-leader {me}",
            "move-leader 7",
            f"member remove {me}",
            "member remove 7",
            f"member remove {learner}",
            f"member remove {learner}",
            "member list",
            "member add a --peer-urls=http://h:3 --learner",  # the URL is free again
            f"member update {me} --peer-urls=http://h:3",  # taken
            "member update 7 --peer-urls=http://h:9",
            "put k v",
        )
    ]
    again = next(row.split(",")[0] for row in ctl.raw("member list").splitlines() if "h:3" in row)
    assert again != learner
    # Nothing in between: etcd 3.5 forgets at an update that it was a learner.
    outputs.append(ctl(f"member update {again} --peer-urls=http://h:4,http://h:3"))
    outputs.append(ctl(f"member remove {again}"))
    return [settled(output) for output in outputs]


@pytest.mark.lone
def test_membership_of_a_lone_member(ctl: Ctl, ctl_of_peer: Ctl) -> None:
    theirs, ours = scenario(ctl_of_peer), scenario(ctl)
    for expected, found in zip(theirs, ours, strict=True):
        assert found == expected
    assert sum(output.code == 0 for output in ours) == 8
