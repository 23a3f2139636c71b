"""What importing costs, and with whom we share a process. Each case is a fresh interpreter."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import chainfire
from tests.house.source import ROOT, SRC, modules

HEAVY = {"asyncio", "grpc", "rocksdict", "google.protobuf", "prometheus_client", "starlette"}


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_after(code: str) -> set[str]:
    return set(python(code + "\nimport sys; print(*sys.modules, sep='\\n')").split("\n"))


def test_importing_the_package_is_light() -> None:
    assert HEAVY & loaded_after("import chainfire") == set()


def test_public_names_are_there_when_asked_for() -> None:
    python("import chainfire\nfor name in chainfire.__all__: assert getattr(chainfire, name), name")


def test_a_wrong_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = chainfire.nothing


def test_chainfire_version_imports_neither_grpc_nor_asyncio() -> None:
    loaded = loaded_after(
        "import sys; sys.argv = ['chainfire', 'version']\n"
        "from chainfire.cli.main import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code"
    )
    assert {"grpc", "asyncio", "rocksdict"} & loaded == set()


OURS = (
    "from importlib import import_module\n"
    "names = 'auth cluster command election health kv lease lock maintenance reflection watch'\n"
    "ours = {name: import_module(f'chainfire.proto.{name}_pb2') for name in names.split()}\n"
    "assert ours['kv'].PutRequest(key=b'k').SerializeToString() == b'\\n\\x01k'\n"
)
AETCD = (
    "import aetcd\n"
    "from aetcd import rpc\n"
    "assert rpc.PutRequest(key=b'k').SerializeToString() == b'\\n\\x01k'\n"
)


@pytest.mark.parametrize("code", [OURS + AETCD, AETCD + OURS], ids=["ours first", "aetcd first"])
def test_aetcd_and_chainfire_live_in_one_process(code: str) -> None:
    """aetcd registers etcd's own message names in protobuf's default pool; ours are others."""
    python(code)


def test_only_our_own_names_are_registered_with_protobuf() -> None:
    generated = [module.name for module in modules().values() if module.generated]
    packages = {importlib.import_module(name).DESCRIPTOR.package for name in generated}
    assert packages == {"chainfire.v1"}
