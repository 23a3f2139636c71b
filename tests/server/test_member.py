"""A whole member: started, used, stopped and started again, in this process and as one."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from chainfire.config import Config
from chainfire.config.urls import Url
from chainfire.errors import ConfigError, DataDirLocked
from chainfire.machine.rows import read_position
from chainfire.node.logstore import LogMeta, last_position
from chainfire.proto.kv_pb2 import PutResponse, RangeResponse
from chainfire.server import member as member_module
from chainfire.server.main import EXIT_BAD_CONFIG, EXIT_FAILED, EXIT_OK, run
from chainfire.server.member import Member
from chainfire.storage.backend import LOG_FAMILIES, STATE_FAMILIES
from chainfire.storage.rocks import RocksBackend, RocksOptions
from chainfire.storage.wal import Wal
from chainfire.storage.witness import Witness
from tests import peers
from tests.node.running import on_loop
from tests.server.directories import config, put
from tests.servers import Server, free_port

STATE = RocksOptions.state(cache_bytes=1 << 20)


def with_port(base: Config, port: int | None = None) -> Config:
    url = Url("http", "127.0.0.1", port or free_port())
    network = dataclasses.replace(
        base.network, listen_client_urls=(url,), advertise_client_urls=(url,)
    )
    return dataclasses.replace(base, network=network)


@on_loop
async def test_a_member_keeps_its_data_over_a_stop_and_a_start(tmp_path: Path) -> None:
    for life in range(3):
        member = Member(with_port(config(tmp_path / "data")))
        await member.start()
        assert member.node is not None
        assert member.node.machine.revision == 1 + life
        await put(member.node, b"k%d" % life)
        await member.aclose()
        await member.aclose()
        assert not member.node.failed.done()


@on_loop
async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    first = Member(with_port(config(tmp_path / "data")))
    await first.start()
    with pytest.raises(DataDirLocked):
        await Member(with_port(config(tmp_path / "data"))).start()
    taken = first._config.network.listen_client_urls[0].port
    with pytest.raises(ConfigError, match="cannot listen"):
        await Member(with_port(config(tmp_path / "other"), taken)).start()
    assert not (tmp_path / "other").exists()  # or its identity would bind the next try
    again = Member(with_port(config(tmp_path / "other")))
    await again.start()
    await again.aclose()
    await first.aclose()


@on_loop
async def test_a_start_may_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    async def never(*_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(member_module, "open_doors", never)
        starting = asyncio.create_task(Member(with_port(config(tmp_path / "data"))).start())
        await begun.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    member = Member(with_port(config(tmp_path / "data")))
    await member.start()
    await member.aclose()


@pytest.fixture
def quiet() -> object:
    """`run` sets logging up for a program: give the tests' back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_start_that_fails_has_its_exit_code(tmp_path: Path, quiet: None) -> None:
    (tmp_path / "file").touch()
    assert run(with_port(config(tmp_path / "file"))) == EXIT_BAD_CONFIG
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "CURRENT").write_text("nonsense")
    assert run(with_port(config(tmp_path / "data"))) == EXIT_FAILED


@pytest.fixture
def server(tmp_path: Path) -> Server:
    kind = peers.need_chainfire()
    if not kind.is_chainfire:
        pytest.skip("this is about Chainfire's own process")
    return Server(kind, tmp_path / "data")


def test_sigterm_finishes_what_was_accepted_and_exits_with_0(server: Server) -> None:
    with server.start(), grpc.insecure_channel(server.target) as channel:
        put_ = channel.unary_unary("/etcdserverpb.KV/Put")
        answers = [put_.future(b"\x0a\x01k\x12\x01%d" % number, timeout=20) for number in range(9)]
        answers[0].result()
        assert server.stop() == EXIT_OK
        for answer in answers:
            assert answer.exception() is None or answer.code() is grpc.StatusCode.UNAVAILABLE
        log = server.log()
        assert "stopped" in log and "Traceback" not in log
    acknowledged = [
        PutResponse.FromString(answer.result()).header.revision
        for answer in answers
        if answer.exception() is None
    ]
    with server.start(), grpc.insecure_channel(server.target) as channel:
        raw = channel.unary_unary("/etcdserverpb.KV/Range")(b"\x0a\x01k", timeout=20)
        [row] = RangeResponse.FromString(raw).kvs
        assert row.mod_revision >= max(acknowledged)


def test_a_stop_writes_no_tables_and_leaves_nothing_to_repeat(server: Server) -> None:
    with server.start():
        with grpc.insecure_channel(server.target) as channel:
            put_ = channel.unary_unary("/etcdserverpb.KV/Put")
            for number in range(50):
                put_(b"\x0a\x02%02d" % number, timeout=20)
        tables = set(server.data_dir.rglob("*.sst"))
        assert server.stop() == EXIT_OK
    assert set(server.data_dir.rglob("*.sst")) == tables
    [state_path] = server.data_dir.glob("state-*")
    with (
        closing(RocksBackend.open_read_only(state_path, STATE_FAMILIES, STATE)) as state,
        closing(Wal.open_read_only(server.data_dir / "log", LOG_FAMILIES)) as log,
        closing(Witness.open(server.data_dir / "witness")) as witness,
    ):
        applied, meta = read_position(state), LogMeta.read(log)
        assert applied.revision == 51 and len(list(state.keys("key_value"))) == 50
        assert applied.index == meta.state_durable == last_position(log, meta)[0]
        assert applied.index == witness.promise.last_index
