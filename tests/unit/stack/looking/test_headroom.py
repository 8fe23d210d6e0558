"""How much of each limit is used is measured; what does not answer is left out."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from contracts.memory import memory_mb, peak_memory_mb
from contracts.settings import Settings
from derived.build_peaks import KEPT, build_memory, note_build_memory
from stack.looking import headroom
from stack.looking.headroom import limit_uses
from streams import logs
from streams.log import LogMemory
from tests.values import settings_of


def settings(var_dir: Path) -> Settings:
    return settings_of(
        var_dir,
        log_url="redis://127.0.0.1:1/0",
        lake_data_path="s3://bucket/lake",
        lake_backup_path=var_dir / "missing",
        scratch_disk_mb=1,
    )


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[LogMemory]:
    """Let the log's server answer with the last of these."""
    values = [LogMemory(used_bytes=900_000_000, limit_bytes=1_000_000_000, machine_bytes=9_000_000_000)]
    log = SimpleNamespace(memory=lambda: values[-1], close=lambda: None)
    monkeypatch.setattr(logs, "build_log", lambda settings, **_: log)
    monkeypatch.setattr(headroom, "_outbox", lambda settings, pod: iter(()))
    return values


def test_disk_scratch_and_the_logs_server_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[LogMemory]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**9, used=0, free=10**8))
    (tmp_path / "scratch" / "one").mkdir(parents=True)
    (tmp_path / "scratch" / "one" / "spilled").write_bytes(b"0" * 850_000)
    uses = limit_uses(settings(tmp_path))
    assert [(use.name, round(use.share, 2), use.is_near) for use in uses] == [
        (f"disk of {tmp_path}", 0.9, True),
        ("scratch space of comparisons", 0.85, True),
        ("memory of the log's server", 0.9, True),
    ]
    said.append(replace(said[0], limit_bytes=None))
    assert limit_uses(settings(tmp_path))[-1].share == pytest.approx(0.1), "the machine is the limit"


def test_a_log_that_does_not_answer_is_left_out(tmp_path: Path) -> None:
    assert "memory of the log's server" not in [use.name for use in limit_uses(settings(tmp_path))]


def test_the_peak_of_a_process_is_at_least_what_it_held() -> None:
    held = bytearray(200_000_000)
    held[::4096] = b"1" * len(held[::4096])
    assert 200 < peak_memory_mb() < memory_mb()
    assert peak_memory_mb(with_children=True) >= peak_memory_mb() - 1


def test_the_largest_build_of_a_day_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, now = settings(tmp_path), datetime(2026, 3, 1, tzinfo=UTC)
    assert build_memory(values, now) is None
    for peak_mb in (300.0, 900.0, 400.0):
        note_build_memory(values, peak_mb, now)
    monkeypatch.setattr(headroom, "utc_now", lambda: now + timedelta(hours=1))
    monkeypatch.setattr(headroom, "memory_mb", lambda: 1_000.0)
    (use,) = [use for use in limit_uses(values) if "largest build" in use.name]
    assert use.is_near and "TIEOUT_WAREHOUSE_MEMORY_MB" in use.sentence and "900 of 1,000 MB" in use.sentence
    note_build_memory(values, 400.0, now + KEPT)
    kept = build_memory(values, now + KEPT)
    assert kept is not None and kept.peak_mb == 400.0
