"""What became of one command: the machine's word to those who wait."""

from __future__ import annotations

from dataclasses import dataclass

from chainfire.errors import RequestError
from chainfire.types import Result


@dataclass(slots=True, init=False)
class Applied:
    """What became of one command."""

    index: int
    member_id: int
    start_number: int
    sequence: int
    result: Result | RequestError

    def __init__(
        self,
        index: int,
        member_id: int,
        start_number: int,
        sequence: int,
        result: Result | RequestError,
    ) -> None:
        self.index = index
        self.member_id = member_id
        self.start_number = start_number
        self.sequence = sequence
        self.result = result
