"""No foreign bytes make a parser raise what it does not promise, or read what was not written."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests import report
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS

EXAMPLES = 200


@st.composite
def near(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A valid input with a few bytes changed, cut or put in; now and then anything at all."""
    data = bytearray(draw(st.sampled_from(seeds) | st.binary(max_size=80)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["change", "cut", "insert", "end"])):
            case "change" if at < len(data):
                data[at] = draw(st.integers(0, 255) | st.sampled_from([0, 127, 128, 255]))
            case "cut":
                del data[at : at + draw(st.integers(1, 8))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
            case _:
                del data[at:]
    return bytes(data)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_foreign_bytes_end_in_a_value_or_the_promised_error(name: str) -> None:
    target, seeds = TARGETS[name], SEEDS[name]
    for seed in seeds:
        target(seed)

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(near(seeds))
    @example(b"")
    @example(b"\xff" * 64)
    def attempt(data: bytes) -> None:
        target(data)

    attempt()
    report.count("fuzzed inputs", EXAMPLES)


def test_every_target_has_inputs_to_begin_from() -> None:
    assert TARGETS.keys() == SEEDS.keys()
    assert all(SEEDS.values())
