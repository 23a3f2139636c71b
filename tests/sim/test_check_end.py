"""Members that differ at the end, from each other or from the history, are found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chainfire.sim.check_end import MemberEnd, check_end
from chainfire.sim.check_kv import check_kv
from chainfire.sim.history import Violation
from tests import report
from tests.sim.histories import history

MODEL = check_kv(*history(1, 100))
KVS = [MODEL.kvs[key] for key in sorted(MODEL.kvs)]
RIGHT = MemberEnd(1, 120, MODEL.revision, 5, 6, KVS)


def test_equal_members_pass() -> None:
    check_end([RIGHT, replace(RIGHT, member=2)], MODEL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"revision": MODEL.revision - 1},
        {"kvs": KVS[1:]},
        {"kvs": [KVS[0]._replace(value=b"never"), *KVS[1:]]},
        {"chain_hash": 4},
        {"content_hash": 4},
    ],
)
def test_unequal_members_are_found(wrong: dict[str, object]) -> None:
    with pytest.raises(Violation):
        check_end([RIGHT, replace(RIGHT, member=2, **wrong)], MODEL)  # type: ignore[arg-type]
    report.count("planted violations found by checkers")
