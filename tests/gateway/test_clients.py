"""Clients that know nothing of us: reflection and health by grpcio's own packages."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from chainfire.api.reflection import service_names
from tests.gateway.doors import GrpcDoor

PACKAGES = ("grpc_reflection", "grpc_health")
missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]


@pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
def test_a_reflecting_client_finds_and_calls_everything() -> None:
    door = GrpcDoor()
    try:
        script = Path(__file__).parent / "clients" / "reflect.py"
        ran = subprocess.run(
            [sys.executable, str(script), door.target],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        door.close()
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert seen == {
        "services": service_names(),
        "revision": 2,
        "kv": "mvccpb.KeyValue",
        "health": 1,
        "first": 1,
    }
