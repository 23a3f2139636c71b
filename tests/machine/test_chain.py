"""The hash chain against its definition in docs/formats.md."""

from __future__ import annotations

import struct

import xxhash

from chainfire.machine.chain import LINKS_KEPT, HashChain

CHANGES = [
    ("key_value", b"kk", b"value"),
    ("machine", b"not", b"hashed"),
    ("key_history", b"h", None),
    ("revisions", b"r", b""),
]


def test_a_link_is_the_digest_of_its_definition() -> None:
    chain = HashChain(6, 42)
    size = chain.link(7, 3, 9, 14, CHANGES)
    data = (
        struct.pack(">QQQQI", 42, 7, 3, 9, 14)
        + b"\x01\x00\x00\x00\x00\x02kk\x00\x00\x00\x05value"
        + b"\x02\x01\x00\x00\x00\x01h\x00\x00\x00\x00"
        + b"\x03\x00\x00\x00\x00\x01r\x00\x00\x00\x00"
    )
    assert chain.hash == xxhash.xxh3_64_intdigest(data)
    assert (chain.index, size) == (7, len(data))


def test_every_part_of_a_link_counts() -> None:
    def hash_of(start: int, term: int, revision: int, code: int, value: bytes) -> int:
        chain = HashChain(6, start)
        chain.link(7, term, revision, code, [("key_value", b"k", value)])
        return chain.hash

    base = hash_of(0, 1, 1, 0, b"v")
    others = {
        hash_of(1, 1, 1, 0, b"v"),
        hash_of(0, 2, 1, 0, b"v"),
        hash_of(0, 1, 2, 0, b"v"),
        hash_of(0, 1, 1, 3, b"v"),
        hash_of(0, 1, 1, 0, b"w"),
    }
    assert len(others - {base}) == 5


def test_the_last_ten_thousand_links_are_kept() -> None:
    chain, links = HashChain(5, 77), {5: 77}
    assert chain.at(5) == 77
    assert chain.at(4) is None
    for index in range(6, 6 + LINKS_KEPT + 10):
        chain.link(index, 1, 1, 0, ())
        links[index] = chain.hash
    oldest = chain.index - LINKS_KEPT + 1
    assert chain.at(oldest - 1) is None
    assert all(chain.at(index) == links[index] for index in range(oldest, chain.index + 1))
    assert chain.at(chain.index + 1) is None
