"""What the benchmark's arithmetic promises; the servers are measured by `make bench`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import h2load, table
from bench.table import Measured, Row

OUTPUT = """
finished in 2.00s, 100.00 req/s, 6.1KB/s
requests: 200 total, 201 started, 200 done, {ok} succeeded, {failed} failed, 0 errored, 0 timeout
traffic: 14.5KB (14848) total, 1.2KB (1228) headers (space savings 90.00%), 10.0KB (10240) data
"""


def times(tmp_path: Path) -> Path:
    log = tmp_path / "times"
    log.write_text("".join(f"1\t200\t{ms * 1000}\n" for ms in range(1, 201)))
    return log


def test_percentiles_come_from_the_time_of_every_request(tmp_path: Path) -> None:
    sample = h2load.parse(OUTPUT.format(ok=200, failed=0), times(tmp_path))
    assert (sample.done, sample.per_second, sample.data_bytes) == (200, 100.0, 10240)
    assert (sample.p50_ms, sample.p99_ms) == pytest.approx((100.5, 198.99))


def test_a_failed_request_spoils_the_run(tmp_path: Path) -> None:
    with pytest.raises(h2load.LoadFailed):
        h2load.parse(OUTPUT.format(ok=199, failed=1), times(tmp_path))


def test_frame_is_flag_length_and_message() -> None:
    assert h2load.frame(b"abc") == b"\x00\x00\x00\x00\x03abc"


def test_ratio_is_taken_within_each_round() -> None:
    def run(per_second: float) -> Measured:
        return Measured(h2load.Sample(1, per_second, 1.0, 2.0, 1), 50.0)

    row = Row("put", 1, peer=[run(100), run(10), run(100)], ours=[run(200), run(10), run(300)])
    assert row.ratios() == [2.0, 1.0, 3.0]
    assert table.lines_of(row, "etcd", "chainfire")[1][-1] == "2.00 (1.00–3.00)"
