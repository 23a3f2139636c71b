"""A member that a membership change has removed goes when nobody needs its vote any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from chainfire.errors import FatalError, Removed
from chainfire.node import leaving
from chainfire.node.driver import Driver
from chainfire.node.leaving import Leaving
from tests.node.running import on_loop, until


@dataclass
class Led:
    """What `Leaving` asks of member 1's driver: it knows of another leader at the sixth look."""

    members: tuple[int, ...]
    member_id: int = 1
    best_successor: int = 0
    looks: int = 0
    refusals: int = 0
    ends: list[FatalError] = field(default_factory=list)

    @property
    def machine(self) -> SimpleNamespace:
        return SimpleNamespace(members=self.members)

    @property
    def knows_other_leader(self) -> bool:
        self.looks += 1
        return self.looks > 5

    def refuse(self) -> None:
        assert not self.looks, "its callers hear of it first"
        self.refusals += 1

    def leaving(self) -> Leaving:
        driver = cast(Driver, self)
        return Leaving(driver, refuse=self.refuse, wake=lambda: None, die=self.ends.append)


@on_loop
async def test_it_stays_until_another_member_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "REMOVAL_SECONDS", 0.001)
    led = Led(members=(2,))
    led.leaving().membership_changed()
    await until(lambda: led.ends)
    assert led.looks == 6 and isinstance(led.ends[0], Removed) and led.refusals == 1


@on_loop
async def test_a_change_that_removes_somebody_else_is_none_of_its_business() -> None:
    led = Led(members=(1, 2))
    led.leaving().membership_changed()
    assert led.looks == led.refusals == 0
