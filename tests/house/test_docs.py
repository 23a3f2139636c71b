"""Every command that our documents show is carried out, and prints what they say.

Each document gets a fresh member and an empty directory. Only `make` and `git` are not run here:
of `make` the targets are looked up (`make test` is what runs this test).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chainfire import wheel
from chainfire.api.table import METHODS
from tests import peers, report
from tests.house.docs import Command, commands, matches
from tests.house.source import ROOT
from tests.servers import Kind, Server

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
WITH_COMMANDS = [path for path in DOCUMENTS if commands(path)]
NOT_RUN: tuple[str, ...] = ("make", "git", "cd")
if wheel.FAULT is not None:
    NOT_RUN += ("curl",)  # the portable door does not share its port with HTTP
MEMBER = "127.0.0.1:2379"  # as documents have it; tests take a free port


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with the programs that the documents speak of."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, arguments in (("chainfire", "-m chainfire "), ("python", "")):
        (directory / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (directory / name).chmod(0o755)
    beside = Path(sys.executable).parent
    etcdctl = shutil.which("etcdctl", path=f"/usr/local/bin:/usr/bin:{beside}")
    if etcdctl is None:
        pytest.skip("etcdctl is not installed")
    (directory / "etcdctl").symlink_to(etcdctl)
    return directory


@pytest.mark.timeout(120)
@pytest.mark.parametrize("document", WITH_COMMANDS, ids=name_of)
def test_commands_do_what_the_document_says(document: Path, programs: Path, tmp_path: Path) -> None:
    to_run = [c for c in commands(document) if not c.text.startswith(NOT_RUN)]
    if not to_run:
        return
    peers.need_chainfire()
    here = tmp_path / "here"
    here.mkdir()
    kind = Kind("chainfire", (sys.executable, "-m", "chainfire", "serve"), (3, 7, 1))
    with Server(kind, tmp_path / "data") as server:
        for command in to_run:
            run(command, server, here, f"{programs}:{os.environ['PATH']}", name_of(document))
    report.count("commands of the documents carried out", len(to_run))


def run(command: Command, server: Server, here: Path, path: str, document: str) -> None:
    done = subprocess.run(
        ["bash", "-c", command.text.replace(MEMBER, server.target)],
        cwd=here,
        env={
            "PATH": path,
            "HOME": str(here),
            "PYTHONPATH": str(ROOT / "src"),
            "ETCDCTL_ENDPOINTS": server.target,
            "CHAINFIRE_ENDPOINTS": server.target,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    printed = done.stdout.replace(server.target, MEMBER)
    where = f"{document}:{command.line}: {command.text}"
    assert done.returncode == 0, f"{where}\n{printed}"
    if command.output is not None:
        assert matches(command.output, printed), (
            f"{where}\nshould print\n{command.output}\nand printed\n{printed}"
        )


def test_the_make_targets_in_our_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for path in DOCUMENTS
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), re.MULTILINE)
    }
    assert named
    assert named <= targets


def test_the_compatibility_table_says_what_is_served() -> None:
    """Whoever gives a method its handler changes its line in docs/compatibility.md."""
    rows = re.findall(
        r"^\| (\w+)/(\w+) \|.*\| (yes|not yet) \|$",
        (ROOT / "docs/compatibility.md").read_text(),
        re.MULTILINE,
    )
    told = {(service, name): served == "yes" for service, name, served in rows}
    served = {
        (method.service.rpartition(".")[2], method.name): not handler.__name__.startswith(
            "_unimplemented"
        )
        for method in METHODS.values()
        for handler in (method.unary or method.stream,)
    }
    assert told == served


def test_files_that_our_documents_name_exist() -> None:
    """Links, and paths in backticks, of README, ARCHITECTURE and the other documents."""
    missing = [
        f"{name_of(path)}: {target}"
        for path in DOCUMENTS
        for target in _named_files(path.read_text())
        if not any((base / target).exists() for base in (path.parent, ROOT, ROOT / "src/chainfire"))
    ]
    assert not missing, "\n".join(missing)


def _named_files(text: str) -> list[str]:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    in_backticks = re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|md|proto|toml))`", text)
    return links + in_backticks


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ("OK\n", "OK\n", True),
        ("OK\n", "OK", True),
        ("OK\n", "OK\nmore\n", False),
        ("id …\n", "id 8e9e05c52164694d\n", True),
        ("a\n…\nz\n", "a\nb\nc\nz\n", True),
        ("a\n…\nz\n", "a\nz\n", True),
        ("a\n…\nz\n", "a\nb\n", False),
        ("", "", True),
        ("", "noise\n", False),
    ],
)
def test_an_ellipsis_stands_for_text_or_lines(expected: str, actual: str, same: bool) -> None:
    assert matches(expected, actual) == same
