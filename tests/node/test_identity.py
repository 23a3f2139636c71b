"""Ids equal etcd's for the same command line."""

from __future__ import annotations

import pytest

from chainfire.errors import ConfigError
from chainfire.node import identity


def test_ids_of_the_default_command_line_are_those_of_etcd() -> None:
    member = identity.member_id(["http://localhost:2380"], "etcd-cluster")
    assert f"{member:x}" == "8e9e05c52164694d"
    assert f"{identity.cluster_id([member]):x}" == "cdf818194e3a8c32"


def test_order_of_urls_and_members_does_not_matter() -> None:
    urls = ["http://a:1", "http://b:2"]
    assert identity.member_id(urls, "t") == identity.member_id(urls[::-1], "t")
    assert identity.cluster_id([3, 1, 2]) == identity.cluster_id([1, 2, 3])


def test_a_url_that_comes_back_gets_a_new_id() -> None:
    ids = {identity.member_id(["http://a:1"], "t", at) for at in (None, 1, 2)}
    assert len(ids) == 3


def test_two_members_cannot_share_a_peer_url() -> None:
    with pytest.raises(ConfigError, match="http://a:1"):
        identity.initial_members({"x": ["http://a:1"], "y": ["http://b:1", "http://a:1"]}, "t")


def test_initial_members_come_in_id_order_and_without_names() -> None:
    members = identity.initial_members({"x": ["http://a:1"], "y": ["http://b:1"]}, "t")
    assert [m.ID for m in members] == sorted(m.ID for m in members)
    assert {m.name for m in members} == {""}
