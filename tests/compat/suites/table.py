"""The suites: what is installed for each, how it finds its server, and what it may still lack.

Every suite gets a virtual environment of its own, with pinned versions, because
their pins exclude each other. `{target}` and `{port}` stand for the server's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

# They hand it to `etcdctl snapshot status`.
SNAPSHOT: Final = "snapshots in the format of etcd's storage engine; ours is another"
PYTEST: Final = "pytest==9.0.3"


@dataclass(frozen=True, slots=True)
class Suite:
    name: str
    version: str
    requirements: tuple[str, ...]
    tests: tuple[str, ...]  # modules, or paths within the source distribution
    environment: dict[str, str]
    speaks: str
    in_sdist: bool = False  # the tests ship with the sources only
    conftest: str = ""  # of ours, where theirs does not ship
    wants_three: bool = False  # members, the first on port 2379
    waits: dict[str, str] = field(default_factory=dict)  # test → what it waits for here

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"


ETCETRA_CONFTEST: Final = """
import os
import pytest
from etcetra import EtcdClient, HostPortPair

@pytest.fixture
async def etcd():
    host, _, port = os.environ["ETCD_TARGET"].rpartition(":")
    client = EtcdClient(HostPortPair(host, int(port)))
    async with client.connect() as communicator:
        await communicator.delete_prefix("/test")
    yield client
    async with client.connect() as communicator:
        await communicator.delete_prefix("/test")
"""

SUITES: Final = (
    Suite(
        "etcd3gw",
        "2.7.0",
        ("etcd3gw==2.7.0", "oslotest==6.1.1", PYTEST),
        ("etcd3gw.tests",),
        {"TOOZ_TEST_HTTP_URL": "http://{target}", "TOOZ_TEST_ETCD_PORT": "{port}"},
        "HTTP",
    ),
    Suite(
        "tooz",
        "9.1.0",
        (
            *("tooz[etcd3gw,ipc,memcached,redis]==9.1.0", "etcd3gw==2.7.0"),
            *("testtools==2.9.1", "fixtures>=4,<5", PYTEST),
        ),
        ("tooz.tests.test_coordination",),
        {"TOOZ_TEST_URL": "etcd3+http://{target}"},
        "HTTP",
    ),
    Suite(
        "aetcd",
        "1.0.0",
        (
            *("aetcd==1.0.0", "pytest-asyncio==1.3.0", "pytest-cov==7.1.0"),
            *("pytest-mock==3.15.1", PYTEST),
        ),
        ("tests",),
        {"TEST_ETCD_HTTP_URL": "http://{target}"},
        "gRPC",
        in_sdist=True,
        waits={"tests.integration.test_maintenance::test_snapshot": SNAPSHOT},
    ),
    Suite(
        "etcd3",
        "0.12.0",
        (
            *(
                "etcd3==0.12.0",
                "protobuf==3.20.3",
                "grpcio>=1.60,<2",
                "hypothesis==5.49.0",
                "tenacity==6.3.1",
            ),
            *("mock==5.1.0", "setuptools<80", "pytest<8"),
        ),
        ("tests",),
        {
            "PYTHON_ETCD_HTTP_URL": "http://{target}",
            "TEST_ETCD_VERSION": "v3.5.1",
            "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
        },
        "gRPC",
        in_sdist=True,
        wants_three=True,
        waits={"tests.test_etcd3.TestEtcd3::test_snapshot": SNAPSHOT},
    ),
    Suite(
        "etcetra",
        "0.1.19",
        ("etcetra==0.1.19", "setuptools<80", "pytest<9", "pytest-asyncio==0.23.8"),
        ("tests",),
        {"ETCD_TARGET": "{target}"},
        "gRPC",
        in_sdist=True,
        conftest=ETCETRA_CONFTEST,
    ),
)
