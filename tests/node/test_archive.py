"""The snapshot archive: golden bytes, what etcdctl looks at, every way in which it can break."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainfire.node import archive
from chainfire.node.archive import BadArchive, Head
from chainfire.node.transfer import File

CONTENT = {"000007.sst": b"abc", "CURRENT": b""}
HEAD = Head(1, 2, "0.1", [File(name, len(data)) for name, data in CONTENT.items()])
HEAD_BYTES = bytes.fromhex(
    "4346534e41500d0a 0000003e 01"
    "0000000000000001 0000000000000002 0003 302e31"
    "00000002"
    "000a 0000000000000003 3030303030372e737374"
    "0007 0000000000000000 43555252454e54"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("source")
    for name, data in CONTENT.items():
        (directory / name).write_bytes(data)
    return directory


@pytest.fixture(scope="module")
def packed(source: Path) -> bytes:
    return b"".join(archive.write(HEAD, source))


def test_the_archive_is_pinned(packed: bytes) -> None:
    sums = [bytes.fromhex(text) for text in ("78af5f94892f3950", "2d06800538d394c2")]
    content = HEAD_BYTES + b"abc" + sums[0] + sums[1]
    padded = content + bytes(512 - len(content))
    assert packed == padded + hashlib.sha256(padded).digest()
    assert HEAD.total_bytes == len(packed)


def test_etcdctl_takes_it_as_whole(packed: bytes) -> None:
    assert len(packed) % 512 == hashlib.sha256().digest_size


def test_what_was_packed_comes_out(packed: bytes, tmp_path: Path) -> None:
    assert archive.extract(io.BytesIO(packed), tmp_path) == HEAD
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == CONTENT


@given(at=st.integers(0, 543), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_a_flipped_bit_anywhere_is_noticed(
    packed: bytes, at: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broken = bytearray(packed)
    broken[at] ^= 1 << bit
    with pytest.raises(BadArchive):
        archive.extract(io.BytesIO(broken), tmp_path_factory.mktemp("out"))


@pytest.mark.parametrize("cut", [0, 1, 13, 60, 200, 511, 543])
def test_a_part_of_it_is_noticed(packed: bytes, cut: int, tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="the rest is missing"):
        archive.extract(io.BytesIO(packed[:cut]), tmp_path)


def test_what_follows_its_end_is_noticed(packed: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="behind its end"):
        archive.extract(io.BytesIO(packed + b"x"), tmp_path)


def test_the_whole_may_be_taken_on_trust_but_no_file(packed: bytes, tmp_path: Path) -> None:
    archive.extract(io.BytesIO(packed[:-32] + bytes(32)), tmp_path, check_end=False)
    at = packed.index(b"abc")
    (tmp_path / "again").mkdir()
    broken = packed[:at] + b"abd" + packed[at + 3 :]
    with pytest.raises(BadArchive, match=r"the checksum of 000007\.sst"):
        archive.extract(io.BytesIO(broken), tmp_path / "again", check_end=False)


@pytest.mark.parametrize("name", ["../x", "/x", "", "a/b"])
def test_no_file_leads_out_of_the_directory(name: str, source: Path, tmp_path: Path) -> None:
    head = Head(1, 2, "0.1", [File(name, 0)]).encode()
    with pytest.raises(BadArchive):
        archive.extract(io.BytesIO(head + bytes(600)), tmp_path)


def test_a_snapshot_of_etcd_is_told_from_ours(tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="etcdutl"):
        archive.extract(io.BytesIO(bytes(4096)), tmp_path)
