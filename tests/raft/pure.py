"""The two families of scripts that need no members: quorum arithmetic and membership arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

from chainfire.raft.confchange import Changer, InvalidConfChange, Reason
from chainfire.raft.quorum import (
    EVERYTHING,
    Verdict,
    joint_committed_index,
    joint_vote_verdict,
)
from chainfire.raft.tracker import Tracker
from tests.raft import render
from tests.raft.datadriven import Directive

_VERDICTS = {
    Verdict.PENDING: "VotePending",
    Verdict.LOST: "VoteLost",
    Verdict.WON: "VoteWon",
}
_REASONS = {
    Reason.ALREADY_JOINT: "config is already joint",
    Reason.NOT_JOINT: "can't leave a non-joint config",
    Reason.NO_VOTERS: "can't make a zero-voter config joint",
    Reason.SIMPLE_IN_JOINT: "can't apply simple config change in joint config",
    Reason.TWO_VOTERS: "more than one voter changed without entering joint config",
    Reason.LAST_VOTER: "removed all voters",
}


class QuorumEnvironment:
    def run(self, d: Directive) -> str:
        incoming = [int(id) for id in d.options.get("cfg", ())]
        outgoing = [int(id) for id in d.options.get("cfgj", ()) if id != "zero"]
        voters = list(dict.fromkeys(incoming + outgoing))  # values are given in this order
        if d.verb == "vote":
            given = zip(voters, d.options.get("votes", ()), strict=True)
            votes = {id: value == "y" for id, value in given if value != "_"}
            return _VERDICTS[joint_vote_verdict(incoming, outgoing, votes)]
        assert d.verb == "committed", d.place
        given = zip(voters, d.options.get("idx", ()), strict=True)
        matches = {id: int(value) for id, value in given if value != "_"}
        index = joint_committed_index(incoming, outgoing, matches)
        return _picture(voters, matches) + ("∞" if index == EVERYTHING else str(index))


def _picture(voters: list[int], matches: Mapping[int, int]) -> str:
    """One bar per voter, as long as the number of voters that are behind it."""
    if not voters:
        return "<empty majority quorum>"
    count = len(voters)
    text = " " * count + "    idx\n"
    for id in sorted(voters):
        index = matches.get(id, 0)
        bar = sum(matches.get(other, 0) < index for other in voters)
        mark = ("x" * bar + ">").ljust(count + 1) if id in matches else "?".ljust(count + 1)
        text += f"{mark} {index:5}    (id={id})\n"
    return text


class ConfChangeEnvironment:
    def __init__(self) -> None:
        self.tracker = Tracker(10, 0)
        self.last_index = 0  # grows by one with each directive, so that `next` dates a progress

    def run(self, d: Directive) -> str:
        changer = Changer(self.tracker, self.last_index)
        self.last_index += 1
        steps = render.parse_steps(d.input)
        try:
            if d.verb == "simple":
                changer.simple(steps)
            elif d.verb == "enter-joint":
                changer.enter_joint(steps, auto_leave=d.flag("autoleave"))
            else:
                assert d.verb == "leave-joint", d.place
                changer.leave_joint()
        except InvalidConfChange as refused:
            return _REASONS[refused.reason]
        self.tracker.install(changer.conf, changer.progress)
        return render.config(self.tracker.conf) + "\n" + render.progress_map(self.tracker.progress)
