"""What a swarm prints, and what becomes of a broken seed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import chainfire.sim
from chainfire.cli.sim import command
from chainfire.sim.run import Outcome, run_shape
from chainfire.sim.schedule import SECOND
from chainfire.sim.shape import EVERY_FAULT, Shape
from chainfire.sim.swarm import RARE_BRANCHES, Summary, lines

BRANCH = re.compile(r'(?:branches|counts|seen)\[f?"([^"{]+)"\]|\.end\("([^"]+)"')


def test_a_swarm_tells_which_faults_and_branches_never_came() -> None:
    said = list(lines(Summary(), 1.0))
    for name in (*EVERY_FAULT, *RARE_BRANCHES):
        assert f"{0:>14}  {name}   (never)" in said


def test_every_branch_that_is_counted_is_looked_for() -> None:
    directory = Path(chainfire.sim.__file__).parent
    counted = set()
    for path in directory.glob("*.py"):
        for branch, death in BRANCH.findall(path.read_text()):
            counted.add(branch or f"died: {death}")
    assert counted - set(RARE_BRANCHES) == set()
    assert "snapshots sent" in counted
    assert "died: power cut" in counted


def test_a_swarm_adds_up_and_ends_well() -> None:
    done = CliRunner().invoke(command, ["swarm", "--seeds=2", "--seconds=1"])
    assert done.exit_code == 0, done.output
    assert re.match(r"2 seeds in \d+ s, [\d.]+ per second, [\d.]+ per CPU second\n", done.output)
    assert done.output.endswith("\n0 seeds broke a promise\n")


def test_the_pace_is_told_by_how_many_have_founded_the_cluster() -> None:
    summary = Summary()
    for members, simulated, cpu in ((1, 30, 0.2), (3, 60, 0.5), (5, 60, 1.5)):
        part = Summary()
        part.add(Outcome(Shape(seed=1, members=members), simulated_us=simulated * SECOND), cpu)
        summary += part
    assert "68 × real time per core (150 × with one or two members, 60 × with three to five)" in (
        "\n".join(lines(summary, 1.0))
    )


def broken_at_6(shape: Shape, *, traced: bool = False) -> Outcome:
    outcome = run_shape(shape, traced=traced)
    return replace(outcome, broken="a promise" if shape.seed == 6 else "")


def test_a_broken_seed_is_made_smaller_and_shown_with_its_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chainfire.sim.run.run_shape", broken_at_6)
    done = CliRunner().invoke(command, ["swarm", "--first=5", "--seeds=2", "--seconds=1"])
    assert done.exit_code == 1, done.output
    said = done.output.splitlines()
    assert "1 seeds broke a promise" in said
    assert any(re.match(r" +\d+  \d+ → \d+  [A-Z_]+, term", line) for line in said)
    assert said[-2:] == [
        "BROKEN: a promise",
        "replay: chainfire sim run --seed=6 --seconds=1",
    ]


@pytest.mark.parametrize(
    "options",
    ["--seeds=0", "--minutes=0", "--minutes=nan", "--minutes=inf", "--seeds=1 --jobs=0", ""],
)
def test_what_makes_no_sense_is_refused(options: str) -> None:
    done = CliRunner().invoke(command, ["swarm", *options.split()])
    assert done.exit_code == 2, done.output
    assert "Error: " in done.output
