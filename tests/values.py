"""Values that tests begin with: settings of servers that are not there, results of comparisons, differences, breaks.

Belongs here: values in which most fields do not matter to a test. Does not belong here: stores (the conftests), an
invented trade (`commerce.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from contracts.breaks import Break, BreakState
from contracts.settings import POD_ROLES, PodSettings, Settings
from contracts.verdicts import ColumnDifference, Difference, DifferenceClass, PairResult, Verdict

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


class Clock:
    """A clock that only the test moves."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def pod_without_server(name: str = "pod1", dsn: str = "") -> PodSettings:
    """Return the settings of a pod; `dsn` is that of all its roles."""
    return PodSettings(pod=name, **{f"{role}_dsn": dsn for role in POD_ROLES})


def settings_of(folder: Path, *, pods: Iterable[PodSettings] | None = None, dsn: str = "", **given: Any) -> Settings:
    """Return settings whose files are in `folder`; `dsn` is that of every database that `given` does not name."""
    databases = ("control_dsn", "catalog_dsn", "read_models_dsn", "dagster_dsn")
    values: dict[str, Any] = {
        "var_dir": folder,
        "log_url": "",
        "lake_data_path": "",
        "lake_backup_path": folder / "backup",
        **dict.fromkeys(databases, dsn),
        **given,
    }
    return Settings(pods=(pod_without_server(dsn=dsn),) if pods is None else tuple(pods), **values)


def result_of(pair: str = "oltp_lake.order", verdict: Verdict = Verdict.CONSISTENT, **given: Any) -> PairResult:
    """Return what a comparison found in pod1; what it lists counts as different."""
    sample = given.get("sample", ())
    counts = {"different": len(sample), "classes": {item.kind.value: len(sample) for item in sample}}
    values = {"pod": "pod1", "cut": 1, "checked_at": NOON, "seconds": 0.1, **counts, **given}
    return PairResult(pair=pair, verdict=verdict, **values)


def found(result: PairResult) -> list[tuple[str, str, dict[str, tuple[Any, Any, int | None]]]]:
    """Return the sample as (entity, class, {column: (left, right, difference)})."""
    return [
        (d.entity, d.kind.value, {c.column: (c.left, c.right, c.difference) for c in d.columns}) for d in result.sample
    ]


def one_cent(order: str, **given: Any) -> Difference:
    """Return an order whose copy has one cent less."""
    merchant = given.get("merchant_id", "eire")
    values: dict[str, Any] = {
        "entity": "marts.orders",
        "kind": DifferenceClass.AMOUNT,
        "merchant_id": merchant,
        "day": "2026-01-05",
        "currency": "GBP",
        "columns": (ColumnDifference(column="total_minor", left=100, right=99, difference=-1),),
        "aggregate_key": f"{merchant}/order/{order}",
        **given,
    }
    return Difference(key=(order,), **values)


def break_of(**given: Any) -> Break:
    """Return the break of an order whose amount differs, seen once."""
    at = given.get("first_seen_at", NOON)
    values: dict[str, Any] = {
        "break_id": 1,
        "group_id": 1,
        "pair": "operational_finance.orders",
        "pod": "pod1",
        "entity": "orders",
        "key": ("o1",),
        "kind": DifferenceClass.AMOUNT,
        "merchant_id": "eire",
        "day": "2010-12-09",
        "currency": "EUR",
        "columns": (),
        "state": BreakState.OPEN,
        "owner": "finance",
        "reason": "",
        "first_seen_at": at,
        "first_seen_cut": 9,
        "last_seen_at": at,
        "last_seen_cut": 9,
        "times_seen": 1,
        "repairs": 0,
        "ended_at": None,
        **given,
    }
    return Break(**values)
