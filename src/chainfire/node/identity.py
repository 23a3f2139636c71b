"""Who a member is, by etcd's rule (server/etcdserver/api/membership).

A member's id is a hash of its peer URLs and the cluster's token, the
cluster's id a hash of its first members' ids: every member computes the same
numbers from the same command line. A member that is added later mixes in the
time, so that a URL that comes back gets a new id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from chainfire.errors import ConfigError
from chainfire.proto.cluster_pb2 import Member


def _first_u64(data: bytes) -> int:
    return int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest()[:8], "big")


def member_id(
    peer_urls: Iterable[str], cluster_token: str, added_at_unix_s: int | None = None
) -> int:
    """The id of the member with these peer URLs; `added_at_unix_s` for members added later."""
    text = "".join(sorted(peer_urls)) + cluster_token
    if added_at_unix_s is not None:
        text += str(added_at_unix_s)
    return _first_u64(text.encode())


def cluster_id(member_ids: Iterable[int]) -> int:
    """The id of the cluster that was first made of these members."""
    return _first_u64(b"".join(id_.to_bytes(8, "big") for id_ in sorted(member_ids)))


def initial_members(
    initial_cluster: Mapping[str, Sequence[str]], cluster_token: str
) -> tuple[Member, ...]:
    """The first members, in id order, from `--initial-cluster` (name to peer URLs).

    Names stay empty until a member publishes its own, as in etcd. Raises
    ConfigError when two members share a URL.
    """
    owner: dict[str, str] = {}
    for name, urls in initial_cluster.items():
        for url in urls:
            if url in owner:
                raise ConfigError(
                    f"initial-cluster: {url} is given to both {owner[url]!r} and {name!r}; "
                    "each member needs peer URLs of its own"
                )
            owner[url] = name
    members = [
        Member(ID=member_id(urls, cluster_token), peerURLs=sorted(urls))
        for urls in initial_cluster.values()
    ]
    return tuple(sorted(members, key=lambda member: member.ID))
