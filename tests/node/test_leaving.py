"""A member that a membership change has removed goes when nobody needs its vote any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from chainfire.node.driver import Driver
from chainfire.node.leaving import Leaving
from chainfire.node.removal import Removal
from chainfire.types import Pending
from tests.node.running import on_loop


@dataclass
class Led:
    """What `Leaving` asks of member 1's driver."""

    members: tuple[int, ...]
    best_successor: int = 0
    member_id: int = 1
    heard: list[str] = field(default_factory=list)

    @property
    def machine(self) -> SimpleNamespace:
        return SimpleNamespace(members=self.members)

    def move_leader(self, target: int, pending: Pending) -> None:
        self.heard.append(f"{target} leads")

    def leaving(self) -> Leaving:
        def say(word: str) -> None:
            self.heard.append(word)

        driver = cast(Driver, self)
        return Leaving(driver, refuse=lambda: say("refused"), wake=lambda: say("woken"))


@pytest.mark.parametrize(
    ("successor", "heard"), [(0, ["refused"]), (2, ["refused", "2 leads", "woken"])]
)
@on_loop
async def test_its_callers_hear_of_it_first_and_then_another_one_leads(
    successor: int, heard: list[str]
) -> None:
    led = Led(members=(2,), best_successor=successor)
    leaving = led.leaving()
    leaving.membership_changed()
    leaving.membership_changed()
    assert led.heard == heard


def test_a_change_that_removes_somebody_else_is_none_of_its_business() -> None:
    led = Led(members=(1, 2))
    led.leaving().membership_changed()
    assert not led.heard


def test_it_ends_when_it_is_told_again_an_election_timeout_later() -> None:
    removal = Removal(1000)
    told = [removal.told(now_ms) for now_ms in (5000, 5001, 5999, 6000, 9000)]
    assert told == [False, False, False, True, True]
