"""Requests as JSON share a turn with calls by gRPC."""

from __future__ import annotations

import pytest

pytest.importorskip("chainfire_native", reason="chainfire-native is not installed")

from chainfire.gateway import native_json
from chainfire.gateway.native_json import QUIET_TURNS, SHARE_SECONDS, Complete


class Request:
    """Takes a quarter of the share."""

    begun = 0

    def begin(self) -> None:
        Request.begun += 1


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Complete:
    Request.begun = 0
    monkeypatch.setattr(native_json, "perf_counter", lambda: Request.begun * SHARE_SECONDS / 4)
    complete = Complete()
    for _ in range(100):
        complete.add(Request())  # type: ignore[arg-type]
    return complete


def test_requests_beside_calls_take_their_share_of_each_turn(waiting: Complete) -> None:
    waiting.turns_since_call = 0
    for begun in (4, 8, 12):
        waiting.take_turn()
        assert Request.begun == begun


def test_requests_alone_are_begun_together_so_that_they_share_a_sync(waiting: Complete) -> None:
    waiting.turns_since_call = QUIET_TURNS
    waiting.take_turn()
    assert Request.begun == 100
    assert not waiting
