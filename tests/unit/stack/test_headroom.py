"""How much of each limit is used is measured; what does not answer is left out."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from contracts.settings import PodSettings, Settings
from stack.headroom import limit_uses


def settings(var_dir: Path) -> Settings:
    return Settings(
        var_dir=var_dir,
        pods=(PodSettings(pod="pod1", owner_dsn="", app_dsn="", relay_dsn="", reader_dsn=""),),
        control_dsn="",
        catalog_dsn="",
        read_models_dsn="",
        dagster_dsn="",
        log_url="redis://127.0.0.1:1/0",
        lake_data_path="s3://bucket/lake",
        lake_backup_path=var_dir / "missing",
        scratch_disk_mb=1,
    )


@pytest.fixture
def log_memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Let the log's server answer with these values."""
    values = {"used_memory": 900_000_000, "maxmemory": 1_000_000_000, "total_system_memory": 9_000_000_000}
    client = SimpleNamespace(info=lambda section: values, close=lambda: None)
    monkeypatch.setattr(redis.Redis, "from_url", lambda url, **_: client)
    return values


def test_disk_scratch_and_the_logs_server_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_memory: dict[str, int]
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
    log_memory["maxmemory"] = 0
    assert limit_uses(settings(tmp_path))[-1].share == pytest.approx(0.1), "the machine is the limit"


def test_a_log_that_does_not_answer_is_left_out(tmp_path: Path) -> None:
    assert "memory of the log's server" not in [use.name for use in limit_uses(settings(tmp_path))]
