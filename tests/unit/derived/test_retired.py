"""Events of a schema version that was retired are counted when a build adds them, those written in time are not."""

from __future__ import annotations

from datetime import date

import duckdb
import pytest

from contracts.events.order import OrderState
from derived.lake_schema import EVENTS
from derived.retired import retired_sentences


def test_events_that_were_written_after_their_version_was_retired_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    lake = duckdb.connect()
    lake.execute("attach ':memory:' as lake; create schema lake.raw; set TimeZone = 'UTC'")
    lake.execute(
        f"create table {EVENTS} (pod varchar, cut bigint, aggregate_type varchar, schema_version int, "
        "recorded_at timestamptz)"
    )
    for pod, cut, kind, version, at in (
        ("pod1", 5, "order", 1, "2026-06-30 23:59:59"),
        ("pod1", 6, "order", 1, "2026-07-01 00:00:00"),
        ("pod1", 7, "order", 1, "2026-07-02 10:00:00"),
        ("pod1", 7, "order", 2, "2026-07-02 10:00:00"),
        ("pod1", 7, "payment", 1, "2026-07-02 10:00:00"),
        ("pod2", 9, "order", 1, "2026-07-03 10:00:00"),
    ):
        lake.execute(f"insert into {EVENTS} values (?, ?, ?, ?, ?::timestamptz)", [pod, cut, kind, version, f"{at}Z"])
    windows = {"pod1": (4, 7), "pod2": (9, 9)}
    assert retired_sentences(lake, windows) == []
    monkeypatch.setattr(OrderState, "RETIRED", {1: date(2026, 6, 30)})
    (sentence,) = retired_sentences(lake, windows)
    assert sentence.startswith(
        "2 events of order came under schema version 1, which was to be written until 2026-06-30"
    )
    assert "the last one on 2026-07-02" in sentence
    (whole,) = retired_sentences(lake, {"pod1": (0, 7), "pod2": (0, 9)})
    assert whole.startswith("3 events")
