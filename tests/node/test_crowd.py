"""Who gives way at a full door."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chainfire.node.crowd import PER_HOST_FAIR, gives_way, host_of


def test_where_all_have_few_the_oldest_gives_way() -> None:
    assert gives_way(["a", *["b"] * PER_HOST_FAIR, "c"]) == 0


def test_of_a_host_that_has_too_many_its_oldest_gives_way() -> None:
    assert gives_way(["a", "c", *["b"] * (PER_HOST_FAIR + 1), "c"]) == 2


def test_a_flood_from_one_host_pushes_nobody_else_out() -> None:
    line = ["member"] * PER_HOST_FAIR
    for _ in range(1000):
        line.append("flood")
        if len(line) > 64:
            del line[gives_way(line)]
    assert line == ["member"] * PER_HOST_FAIR + ["flood"] * (64 - PER_HOST_FAIR)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60))
def test_nobody_gives_way_for_a_host_that_has_more(hosts: list[str]) -> None:
    place = gives_way(hosts)
    counts = {host: hosts.count(host) for host in hosts}
    if max(counts.values()) > PER_HOST_FAIR:
        assert counts[hosts[place]] == max(counts.values())
        assert not [at for at in range(place) if counts[hosts[at]] == counts[hosts[place]]]
    else:
        assert place == 0


def test_an_address_is_of_its_host() -> None:
    assert [host_of(a) for a in ("10.0.0.1:99", "fe80::1:99", "a local socket")] == [
        "10.0.0.1",
        "fe80::1",
        "",
    ]
