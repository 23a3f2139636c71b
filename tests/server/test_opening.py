"""Every way in which a start can die, and every loss it can meet: the outcome written before.

A crash is an exception at the step, and a copy of the directory taken at that
very moment: what the page cache holds after a kill -9.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chainfire.errors import (
    ConfigError,
    Corrupt,
    Damaged,
    DataDirLocked,
    DataDirMismatch,
    UnknownFormat,
)
from chainfire.node.logstore import LogMeta, write_hard_state
from chainfire.server import founding, opening, past
from chainfire.server.opening import open_member
from chainfire.storage.backend import LOG_FAMILIES
from chainfire.storage.datadir import DataDir
from chainfire.storage.rocks import RocksBackend
from chainfire.storage.wal import Wal
from chainfire.storage.walfiles import WalFile
from chainfire.storage.walspares import Spares
from chainfire.storage.witness import Witness
from chainfire.types import HardState
from tests import report
from tests.crash import damage, logfiles
from tests.server.directories import keys_of, live, settings

EVERYTHING = {b"k%d" % number for number in range(40)}


class Crash(Exception):
    """The process is gone."""


class CrashPoint:
    """Dies when the step is reached, leaving `image`."""

    def __init__(self, data_dir: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._data_dir = data_dir
        self._image = image
        self._patch = monkeypatch

    def before(self, owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
        original = getattr(owner, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            if when(*args):
                shutil.copytree(self._data_dir, self._image)
                raise Crash
            return original(*args, **kwargs)

        self._patch.setattr(owner, name, step)

    def after(self, owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
        original = getattr(owner, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if when(*args):
                shutil.copytree(self._data_dir, self._image)
                raise Crash
            return result

        self._patch.setattr(owner, name, step)


# ── the first start ─────────────────────────────────────────────────────────


def renames(name: str) -> Callable[..., bool]:
    return lambda path, *_: path.name == name


FIRST_STEPS: dict[str, Callable[[CrashPoint], None]] = {
    "state/ made": lambda p: p.before(founding, "bootstrap"),
    "state/ filled": lambda p: p.before(DataDir, "switch"),
    "CURRENT.tmp written": lambda p: p.before(Path, "rename", renames("CURRENT.tmp")),
    "CURRENT written": lambda p: p.after(DataDir, "switch"),
    "log/ without a file": lambda p: p.before(Spares, "take"),
    "log/ without a header": lambda p: p.before(WalFile, "begin"),
    "log/ made": lambda p: p.before(opening, "begin_log"),
    "log/ begun": lambda p: p.after(opening, "begin_log"),
    "witness.tmp written": lambda p: p.before(Path, "rename", renames("witness.tmp")),
    "witness written": lambda p: p.after(Witness, "create"),
    "start not counted": lambda p: p.before(opening, "count_start"),
}


@pytest.mark.parametrize("step", FIRST_STEPS)
def test_a_first_start_that_dies_is_begun_anew_by_whatever_command_line(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = die_at(FIRST_STEPS[step], tmp_path, monkeypatch)
    other = tmp_path / "other"
    shutil.copytree(image, other)
    assert live(image, 3).start_number == 1
    assert keys_of(image) == {b"k0", b"k1", b"k2"}
    opened = open_member(settings(other, name="renamed"))
    assert opened.machine.conf_state.voters == (opened.identity.member_id,)
    assert len(list(other.glob("state-*"))) == 1
    opened.close()
    report.count("crashes while starting", 1)


def test_a_start_that_dies_after_counting_counts_the_next_one_higher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = die_at(lambda point: point.before(Witness, "begin"), tmp_path, monkeypatch)
    assert live(image, 3).start_number == 2
    with pytest.raises(DataDirMismatch, match="--data-dir"):
        open_member(settings(image, name="renamed"))


def die_at(
    step: Callable[[CrashPoint], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    data_dir: Path | None = None,
    force: bool = False,
) -> Path:
    """The directory that a start leaves which dies at this step."""
    data_dir = data_dir or tmp_path / "data"
    image = tmp_path / "image"
    with monkeypatch.context() as patch:
        step(CrashPoint(data_dir, image, patch))
        with pytest.raises(Crash):
            open_member(settings(data_dir, force=force))
    return image


# ── later starts ────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two lives of twenty puts, the second one killed after its last answer."""
    place = tmp_path_factory.mktemp("killed")
    live(place / "data", 20)
    live(place / "data", 20, first=20, image=place / "image")
    return place / "image"


@pytest.fixture
def data(killed: Path, tmp_path: Path) -> Path:
    shutil.copytree(killed, tmp_path / "data")
    return tmp_path / "data"


def test_a_kill_loses_nothing_and_each_start_has_a_number_of_its_own(data: Path) -> None:
    assert keys_of(data) == EVERYTHING
    assert live(data, 0).start_number == 4


@pytest.mark.parametrize(
    ("module", "step"),
    [(opening, "look_back"), (past, "_look_at_log"), (opening, "count_start")],
)
def test_a_later_start_that_dies_changes_nothing(
    module: ModuleType, step: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = die_at(lambda p: p.after(module, step), tmp_path, monkeypatch, data_dir=data)
    assert keys_of(image) == EVERYTHING


def test_a_second_process_and_another_member_are_refused(data: Path) -> None:
    opened = open_member(settings(data))
    with pytest.raises(DataDirLocked, match=r"in use by process \d+"):
        open_member(settings(data))
    opened.close()
    with pytest.raises(DataDirMismatch):
        open_member(settings(data, name="renamed"))


def test_without_a_witness_another_members_directory_is_refused_even_by_force(data: Path) -> None:
    (data / "witness").unlink()
    with pytest.raises(DataDirMismatch, match="belongs to member"):
        open_member(settings(data, name="renamed", force=True))


def test_a_left_over_state_directory_goes_once_the_rest_is_proven(data: Path) -> None:
    (data / "state-000007").mkdir()
    witness = (data / "witness").rename(data.with_name("elsewhere"))
    with pytest.raises(Damaged):
        open_member(settings(data))
    assert (data / "state-000007").exists(), "a refusal changes nothing"
    witness.rename(data / "witness")
    assert keys_of(data) == EVERYTHING
    assert not (data / "state-000007").exists()


# ── losses ──────────────────────────────────────────────────────────────────


def lose_witness(data: Path) -> None:
    (data / "witness").unlink()


def tear_witness(data: Path) -> None:
    (data / "witness").write_bytes(bytes(8192))


def lose_log(data: Path) -> None:
    shutil.rmtree(data / "log")


def cut_log(data: Path) -> None:
    damage.flip_record(0.5)(logfiles.newest(data / "log"))


def lose_older_log(data: Path) -> None:
    """The log has gone on in another file, and the one before it is lost."""
    begin_another_file(data)
    logfiles.older(data / "log").unlink()


def cut_older_log(data: Path) -> None:
    begin_another_file(data)
    damage.flip_record(0.2)(logfiles.older(data / "log"))


def begin_another_file(data: Path) -> None:
    with closing(Wal(data / "log", LOG_FAMILIES)) as log:
        for size in (*[200_000] * 21, 0):
            log.write_row("raft_meta", b"nobody's", bytes(size))
        log.sync()
    live(data, 1, first=39)


def lose_state_wal(data: Path) -> None:
    for path in next(data.glob("state-*")).glob("*.log"):
        path.unlink()


def old_log(data: Path) -> None:
    """A backup of log/ from the first life."""
    backup = data.with_name("backup")
    live(backup / "data", 5, image=backup / "image")
    lose_log(data)
    shutil.copytree(backup / "image" / "log", data / "log")


LOSSES: dict[Callable[[Path], None], str] = {
    lose_witness: "witness is missing",
    tear_witness: "neither slot is whole",
    lose_log: "log/ is empty",
    cut_log: "was acknowledged",
    cut_older_log: "was acknowledged",
    lose_older_log: "a file of the log is missing",
    old_log: "different members or directories",
}


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_a_loss_is_refused_with_advice_and_nothing_is_touched(
    lose: Callable[[Path], None], data: Path
) -> None:
    lose(data)
    before = contents(data)
    with pytest.raises(Damaged, match=LOSSES[lose]) as refused:
        open_member(settings(data))
    assert "--force-new-cluster" in refused.value.detail
    assert contents(data) == before


@pytest.mark.parametrize("lose", [*LOSSES, lose_state_wal], ids=lambda lose: lose.__name__)
def test_force_new_cluster_goes_on_with_what_is_left_and_needs_no_force_again(
    lose: Callable[[Path], None], data: Path
) -> None:
    lose(data)
    left = keys_of(data, force=True)
    assert left <= EVERYTHING
    if lose in (lose_witness, tear_witness, lose_log):
        last = max(EVERYTHING, key=lambda key: int(key[1:]))
        assert left >= EVERYTHING - {last}, "state/ has all but what was answered before its apply"
    if lose in (lose_older_log, cut_older_log):
        assert left == EVERYTHING, "state/ has what the log misses"
    live(data, 5, first=100)
    assert keys_of(data) == left | {b"k%d" % number for number in range(100, 105)}


FORCE_STEPS: dict[str, Callable[[CrashPoint], None]] = {
    "checked": lambda p: p.after(opening, "look_back"),
    "log begun": lambda p: p.after(opening, "begin_log"),
    "witness.tmp": lambda p: p.before(Path, "rename", renames("witness.tmp")),
    "witness": lambda p: p.after(Witness, "create"),
    "counted": lambda p: p.after(opening, "count_start"),
}


@pytest.mark.parametrize("step", FORCE_STEPS)
@pytest.mark.parametrize("lose", [lose_log, lose_witness, cut_log], ids=lambda f: f.__name__)
def test_a_forced_start_that_dies_may_be_forced_again(
    lose: Callable[[Path], None],
    step: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lose(data)
    left = tmp_path / "left"
    shutil.copytree(data, left)
    expected = keys_of(left, force=True)
    image = die_at(FORCE_STEPS[step], tmp_path, monkeypatch, data_dir=data, force=True)
    assert keys_of(image, force=True) == expected
    assert keys_of(image) == expected


def test_a_log_that_cannot_be_opened_is_put_aside_by_force(data: Path) -> None:
    damage.flip_header(logfiles.newest(data / "log"))
    with pytest.raises(Damaged, match="the header cannot be read"):
        open_member(settings(data))
    left = keys_of(data, force=True)
    last = max(EVERYTHING, key=lambda key: int(key[1:]))
    assert left >= EVERYTHING - {last}
    assert (data / "log-unreadable-1" / "000001.wal").exists()
    live(data, 5, first=100)
    assert keys_of(data) == left | {b"k%d" % number for number in range(100, 105)}


def test_a_log_of_an_earlier_version_is_named_as_such_and_kept(data: Path) -> None:
    logfiles.newest(data / "log").unlink()
    (data / "log" / "CURRENT").write_text("MANIFEST-000001\n")
    before = contents(data)
    for force in (False, True):
        with pytest.raises(UnknownFormat, match=r"versions before 0\.1"):
            open_member(settings(data, force=force))
    assert contents(data) == before


def test_a_commit_index_beyond_a_lost_log_does_not_hinder_a_forced_start(data: Path) -> None:
    opened = open_member(settings(data))
    batch = opened.log_backend.batch()
    write_hard_state(batch, HardState(99, 1, 10_000))
    opened.log_backend.write(batch)
    opened.close()
    (data / "witness").unlink()
    assert keys_of(data, force=True) == EVERYTHING


def test_terms_and_start_numbers_never_go_back_by_force(data: Path) -> None:
    with_witness = Witness.open(data / "witness")
    promise = with_witness.promise
    with_witness.close()
    lose_log(data)
    opened = open_member(settings(data, force=True))
    assert opened.start_number > promise.start_number
    assert LogMeta.read(opened.log_backend).hard_state.term >= promise.term
    assert opened.identity.incarnation != promise.incarnation
    opened.close()


def test_a_lost_current_is_never_taken_for_a_first_start(data: Path) -> None:
    (data / "CURRENT").unlink()
    for force in (False, True):
        with pytest.raises(Corrupt, match="CURRENT is missing"):
            open_member(settings(data, force=force))


def test_a_nearly_full_disk_gives_the_ballast_up_before_anything_is_written(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (data / "ballast").exists()
    monkeypatch.setattr(DataDir, "free_bytes", lambda self: 1 << 20)
    had_ballast: list[bool] = []

    def noting(original: Callable[..., None]) -> Callable[..., None]:
        def opened(self: object, *args: Any, read_only: bool = False) -> None:
            if not read_only:
                had_ballast.append((data / "ballast").exists())
            original(self, *args, read_only=read_only)

        return opened

    for engine in (Wal, RocksBackend):
        monkeypatch.setattr(engine, "__init__", noting(engine.__init__))
    open_member(settings(data)).close()
    assert had_ballast == [False, False]


def contents(data: Path) -> dict[str, bytes]:
    """Every file but RocksDB's own text log and what the lock says."""
    return {
        str(path.relative_to(data)): path.read_bytes()
        for path in sorted(data.rglob("*"))
        if path.is_file() and not path.name.startswith("LO") and path.name != "ballast"
    }


def test_state_existing_restarts_a_member_and_never_founds_one(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give 'new'"):
        open_member(replace(settings(tmp_path / "new"), birth=None))
    open_member(replace(settings(data), birth=None, is_founder=False)).close()
