"""Members tell of themselves, and each knows who is there and how far the others are."""

from __future__ import annotations

from tests.node.cluster import TICK_MS, Cluster

SECOND = 1000 // TICK_MS  # in ticks


def settled(seconds: int) -> Cluster:
    cluster = Cluster()
    cluster.elect(1)
    cluster.run(seconds * SECOND)
    return cluster


def test_every_member_knows_the_others_and_how_long_they_are_there() -> None:
    cluster = settled(7)
    for me, world in cluster.members.items():
        reports = world.driver.reports
        others = reports.of_others(cluster.now_ms)
        assert others.keys() == {1, 2, 3} - {me}
        for heard in others.values():
            assert heard.age_ms <= 1000
            assert heard.report.leader == 1
            assert heard.report.applied_index == world.machine.applied_index
        for other in others:
            connected_ms = reports.connected_ms(other, cluster.now_ms)
            assert connected_ms is not None
            assert connected_ms >= 5000


def test_a_follower_knows_the_leaders_view_of_the_others() -> None:
    cluster = settled(3)
    last = cluster.members[1].driver.log.last_index()
    for world in cluster.members.values():
        assert world.driver.reports.match_indexes() == {1: last, 2: last, 3: last}


def test_who_falls_silent_is_not_there_and_begins_anew() -> None:
    cluster = settled(6)
    reports = cluster.members[1].driver.reports
    cluster.cut = {3}
    cluster.run(4 * SECOND)
    assert reports.connected_ms(3, cluster.now_ms) is None
    assert reports.of_others(cluster.now_ms)[3].age_ms > 3000
    cluster.cut = set()
    cluster.run(2 * SECOND)
    connected_ms = reports.connected_ms(3, cluster.now_ms)
    assert connected_ms is not None
    assert connected_ms < 3000


def test_who_is_gone_is_not_there_at_once_and_begins_anew() -> None:
    cluster = settled(6)
    world = cluster.members[1]
    world.driver.gone(3)
    assert world.driver.reports.connected_ms(3, cluster.now_ms) is None
    assert world.driver.reports.connected_ms(2, cluster.now_ms) is not None
    cluster.run(2 * SECOND)
    connected_ms = world.driver.reports.connected_ms(3, cluster.now_ms)
    assert connected_ms is not None and connected_ms < 3000


def test_without_a_leader_nobodys_view_counts() -> None:
    cluster = settled(3)
    cluster.cut = {2}
    cluster.run(8 * SECOND)
    assert cluster.members[2].driver.reports.match_indexes() == {}
