"""One of three members comes back with a damaged file: it heals by itself, serving nothing wrong.

The eight damages of etcd's matrix, done to our files, and what else can happen to these; the
outcome of each was written down beforehand. For one member alone they stand in
tests/crash/test_damage.py, among others: there each is refused with an explanation, or harmless.

    HEAL     it starts, makes good what it lost from the others, and votes again
    SPARED   what is gone was not needed, or had been synced elsewhere
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest

from tests import report
from tests.clusters import Cluster, Member
from tests.crash import damage
from tests.crash.damage import FILES, Damage
from tests.peers import need_chainfire

WRITES = 100
LARGE = bytes(200_000)  # twenty of these fill a file of the log


@dataclass(frozen=True, slots=True)
class Case:
    file: str
    name: str
    act: Damage
    fast: bool = False


HEALED = (
    Case("log", "bit in the first record", damage.flip_record(0)),
    Case("log", "a page of zeros in the middle", damage.zero_page),
    Case("log", "deleted", damage.delete, fast=True),
    Case("log", "bit in the header", damage.flip_header),
    Case("log", "cut in the middle", damage.cut_record(0.5)),
    Case("older log", "deleted", damage.delete),
    Case("older log", "bit in the header", damage.flip_header),
    Case("state MANIFEST", "a bit", damage.flip_middle),
    Case("state SST", "bit in the footer", damage.flip_near_end),
    Case("CURRENT", "a bit", damage.flip_middle),
    Case("witness", "both slots", damage.flip_slots(2), fast=True),
)
SPARED = (Case("log", "bit in the last record", damage.flip_record(1)),)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(need_chainfire(), tmp_path_factory.mktemp("matrix")) as made:
        yield made.start()


def cases(which: tuple[Case, ...]) -> list[object]:
    return [
        pytest.param(
            case,
            id=f"{case.file}: {case.name}",
            marks=() if case.fast else (pytest.mark.slow,),
        )
        for case in which
    ]


def damaged(cluster: Cluster, case: Case) -> tuple[Member, dict[bytes, bytes]]:
    """A follower that was killed, whose file is damaged, and what was acknowledged by then."""
    written = {}
    victim = cluster.followers()[0]
    victim.stop()  # so that there are tables, whose blocks can be damaged
    victim.start()
    if case.file == "older log":
        for _ in range(21):
            cluster.leader().put(b"large", LARGE)
    for number in range(WRITES):
        key, value = b"k%d" % number, b"%s %d" % (case.name.encode(), number)
        cluster.leader().put(key, value)
        written[key] = value
    cluster.wait_equal()
    victim.kill()
    case.act(FILES[case.file](victim.data_dir))
    return victim, written


def check(cluster: Cluster, victim: Member, written: dict[bytes, bytes]) -> None:
    """It holds all of it, and its vote counts: it makes the quorum when another one is gone."""
    cluster.wait_equal()
    for key in list(written)[:: WRITES // 10]:
        assert victim.get(key, serializable=True) == written[key]
    other = next(member for member in cluster.followers() if member is not victim)
    other.kill()

    def taken() -> bool:
        try:
            cluster.leader().put(b"with", b"its vote")
        except grpc.RpcError:
            return False
        return True

    cluster.wait(taken, f"{victim.name} does not make a quorum", 60)
    other.start()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("case", cases(HEALED))
def test_a_damaged_member_heals_without_an_operator(cluster: Cluster, case: Case) -> None:
    victim, written = damaged(cluster, case)
    asides = len(list(victim.data_dir.glob("damaged-*")))
    victim.start(60)
    check(cluster, victim, written)
    assert len(list(victim.data_dir.glob("damaged-*"))) == asides + 1, "kept aside, for who asks"
    report.count("damaged members that healed by themselves")


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("case", cases(SPARED))
def test_what_did_not_matter_is_left_alone(cluster: Cluster, case: Case) -> None:
    victim, written = damaged(cluster, case)
    victim.start(60)
    check(cluster, victim, written)
