"""Which door serves, and that the store works without the native wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chainfire.client import connect_sync
from tests import peers
from tests.servers import Kind, Server, ServerFailed

# As if the wheel were not installed: find_spec finds nothing, an import raises ImportError.
_WITHOUT = (
    "import sys; sys.modules['chainfire_native'] = None; "
    "from chainfire.cli.main import main; main()"
)
WITHOUT_WHEEL = (sys.executable, "-c", _WITHOUT)


@pytest.fixture
def kind() -> Kind:
    return Kind("chainfire", (*WITHOUT_WHEEL, "etcd"), peers.need_chainfire().version)


def test_without_the_wheel_there_is_a_working_store(kind: Kind, tmp_path: Path) -> None:
    with Server(kind, tmp_path / "data", ("--listen-client-http-urls=",)) as server:
        with connect_sync(server.url) as client:
            client.put("a", "1")
            server.kill()
            server.start()
            found = client.get("a")
        assert found is not None
        assert found.value == b"1"
        assert server.stop() == 0


def test_a_door_that_is_not_there_is_refused(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="native needs the wheel chainfire-native"):
        Server(kind, tmp_path / "data", ("--door=native",)).start()
    assert not (tmp_path / "data").exists()


def test_the_version_tells_the_door() -> None:
    done = subprocess.run(
        [*WITHOUT_WHEEL, "version"], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[-1] == "door: grpcio"
