"""What a member logs of itself."""

from __future__ import annotations

import logging

import pytest

from chainfire.node.journal import Journal
from chainfire.raft.messages import MessageType
from chainfire.raft.ready import Role
from tests.node.cluster import Cluster, losing, reliable
from tests.node.world import Caller, World


def step_downs(journal: Journal, caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    """Level, the term that was led, and why no longer; of the lines that are new."""
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="chainfire.node.journal"):
        journal.leader_changed()
    lines = [record for record in caplog.records if record.message == "stepped down"]
    return [(line.levelname, vars(line)["term"], vars(line)["detail"]) for line in lines]


def led(cluster: Cluster) -> tuple[World, Journal]:
    leader = cluster.elect()
    return leader, Journal(leader.driver, slow_turn_seconds=0)


def test_a_leader_that_hears_nobody_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    leader, journal = led(cluster)
    cluster.cut = {1}
    cluster.run(25)
    assert leader.driver.raft.raft.role is not Role.LEADER
    expected = ("WARNING", 1, "no quorum has answered for an election timeout")
    assert step_downs(journal, caplog) == [expected]
    assert step_downs(journal, caplog) == []


def test_a_leader_that_hands_over_says_so(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    leader, journal = led(cluster)
    leader.driver.move_leader(3, Caller())
    cluster.settle()
    assert step_downs(journal, caplog) == [("INFO", 1, "leadership was handed over")]


def test_a_leader_of_an_older_term_says_so(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    _, journal = led(cluster)
    cluster.network = lambda packet: [] if packet.to == 1 else [packet]
    cluster.run(5)
    other = cluster.members[2].driver.raft
    other.forget_leader()
    cluster.members[3].driver.raft.forget_leader()
    other.campaign()
    cluster.settle()
    cluster.network = reliable
    cluster.run(1)
    assert step_downs(journal, caplog) == [("WARNING", 1, "another member has a newer term")]


def test_a_leader_with_a_stalled_disk_says_so(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    leader, journal = led(cluster)
    cluster.stalled_disks = {1}
    cluster.network = losing(MessageType.APPEND)
    leader.put(b"k")
    cluster.run(12)
    expected = ("WARNING", 1, "its disk has finished no sync for an election timeout")
    assert step_downs(journal, caplog) == [expected]
