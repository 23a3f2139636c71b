"""Seeds of the simulator keep every promise, and one seed is one run in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from chainfire.sim.run import Outcome, run_shape
from chainfire.sim.shape import EVERY_FAULT, Shape, draw
from tests import report

SEEDS = 200
SECONDS = 2
PART = 25


def ran(outcome: Outcome) -> Outcome:
    assert not outcome.broken, f"seed {outcome.shape.seed}: {outcome.broken}\n{outcome.traceback}"
    report.count("seeds simulated")
    report.count("simulated milliseconds", outcome.simulated_us // 1000)
    report.count("client operations of simulations checked", outcome.operations)
    return outcome


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_every_promise_is_kept(first: int) -> None:
    for seed in range(first, first + PART):
        ran(run_shape(draw(seed, seconds=SECONDS)))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(10_000, 10_200, PART))
def test_every_promise_is_kept_for_longer(first: int) -> None:
    for seed in range(first, first + PART):
        ran(run_shape(draw(seed, seconds=20)))


@pytest.mark.parametrize("kind", sorted(EVERY_FAULT))
def test_every_kind_of_fault_strikes(kind: str) -> None:
    often = 100 / EVERY_FAULT[kind]
    shape = Shape(seed=5, seconds=8, calls_per_second=30, faults=(kind,), faults_per_minute=often)
    outcome = ran(run_shape(shape))
    assert outcome.faults[kind]
    assert outcome.writes > 5


_DIGESTS = """
from chainfire.sim.run import run_shape
from chainfire.sim.shape import draw
for seed in range({first}, {last}):
    print(seed, run_shape(draw(seed, seconds=2)).digest)
"""


def digests(hash_seed: str, first: int, last: int, **environment: str) -> str:
    code = _DIGESTS.format(first=first, last=last)
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True
    ).stdout


def test_a_seed_is_the_same_run_in_every_process() -> None:
    assert digests("1", 0, 12) == digests("2", 0, 12)
    report.count("seeds whose traces were equal in two processes", 12)


def test_compiled_and_interpreted_modules_run_a_seed_alike() -> None:
    fault = subprocess.run(
        [sys.executable, "-c", "import chainfire.compiled; print(chainfire.compiled.FAULT or '')"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    if fault:
        pytest.skip(f"nothing is compiled here: {fault}")
    assert digests("1", 100, 140) == digests("1", 100, 140, CHAINFIRE_PURE="1")
    report.count("seeds whose traces were equal, compiled and interpreted", 40)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_seeds_are_the_same_run_in_every_process() -> None:
    assert digests("1", 1000, 2000) == digests("2", 1000, 2000)
    report.count("seeds whose traces were equal in two processes", 1000)


def test_another_seed_is_another_run() -> None:
    shape = draw(1, seconds=1)
    assert run_shape(shape).digest != run_shape(replace(shape, seed=2)).digest
