"""Which door serves, and that the store works without the native wheel."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from chainfire.client import connect_sync
from tests import peers
from tests.servers import Kind, Server, ServerFailed

# As if the wheel were not installed, and as if it were from before its border had a number.
_MAIN = "from chainfire.cli.main import main; main()"
_WITHOUT = f"import sys; sys.modules['chainfire_native'] = None; {_MAIN}"
_WITH_OLD = (
    "import sys, types; old = types.ModuleType('chainfire_native'); old.__version__ = '0.0.9'; "
    f"sys.modules['chainfire_native'] = old; {_MAIN}"
)
WITHOUT_WHEEL = (sys.executable, "-c", _WITHOUT)
WITH_OLD_WHEEL = (sys.executable, "-c", _WITH_OLD)
OLD = r"chainfire-native 0\.0\.9 that is installed has border 0, .*`make setup`"


def kind_of(command: tuple[str, ...]) -> Kind:
    return Kind("chainfire", (*command, "etcd"), peers.need_chainfire().version)


@pytest.fixture
def kind() -> Kind:
    return kind_of(WITHOUT_WHEEL)


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
    with pytest.raises(ServerFailed, match="the wheel chainfire-native is not installed"):
        Server(kind, tmp_path / "data", ("--door=native",)).start()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("flag", ["--client-crl-file=/l", "--client-cert-allowed-hostname=a"])
def test_what_the_portable_door_cannot_ask_of_certificates_is_refused(
    kind: Kind, tmp_path: Path, flag: str
) -> None:
    with pytest.raises(ServerFailed, match="the portable door cannot check it"):
        Server(kind, tmp_path / "data", ("--trusted-ca-file=/a", flag)).start()
    assert not (tmp_path / "data").exists()


def test_an_older_wheel_is_refused_and_auto_takes_the_other_door(tmp_path: Path) -> None:
    old = kind_of(WITH_OLD_WHEEL)
    with pytest.raises(ServerFailed, match=OLD):
        Server(old, tmp_path / "data", ("--door=native",)).start()
    with Server(old, tmp_path / "data", ("--door=auto",)) as server:
        with connect_sync(server.url) as client:
            client.put("a", "1")
        lines = re.findall(f"serving through the portable door.*{OLD}", server.log())
        assert len(lines) == 1
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("command", "reason"),
    [(WITHOUT_WHEEL, "the wheel chainfire-native is not installed"), (WITH_OLD_WHEEL, OLD)],
)
def test_the_version_tells_the_door_and_why(command: tuple[str, ...], reason: str) -> None:
    done = subprocess.run(
        [*command, "version"], capture_output=True, text=True, timeout=30, check=True
    )
    assert re.match(f"door: grpcio; .*{reason}", done.stdout.splitlines()[2])


def test_bench_refuses_an_older_wheel_in_one_line() -> None:
    done = subprocess.run(
        [*WITH_OLD_WHEEL, "bench", "put"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert re.fullmatch(f"Error: the load generator is part .*{OLD}.*\n", done.stderr)
