"""An import killed without warning, again and again, in each of its steps: nothing is doubled, nothing is lost."""

from __future__ import annotations

import csv
import multiprocessing
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from contracts.errors import ConflictError
from contracts.settings import Settings
from oltp.directory import migrate_directory
from tests.conftest import MakePod
from tests.scenario.import_processes import run_import
from tests.values import settings_of
from traffic.retail.files import COLUMNS
from traffic.retail.importing import import_files

KILLED_IN = ("creating products", "placing orders", "placing orders", "booking credit notes", "booking credit notes")
INVOICES = 160
Row = tuple[str, ...]

CONTENT = (
    "select order_number, customer_id, version, status, total_minor, placed_at from oltp.orders order by 1, 2",
    "select order_number, sku, quantity, fulfilled_quantity, order_lines.total_minor from oltp.order_lines "
    "inner join oltp.orders using (order_id) order by 1, 2, 3, 4, 5",
    "select order_number, payments.version, captured_minor, refunded_minor from oltp.payments "
    "inner join oltp.orders using (order_id) order by 1",
    "select external_reference, status, amount_minor from oltp.refunds order by 1, 2, 3",
    "select external_reference, kind, sku, quantity, amount_minor, rounding_micro from oltp.adjustments "
    "order by 1, 2, 3, 4, 5",
    "select variants.sku, on_hand, reserved from oltp.stock_levels "
    "inner join oltp.variants using (variant_id) order by 1",
    "select kind, sum(quantity) from oltp.stock_movements group by 1 order by 1",
    "select aggregate_type, event_type, count(*) from oltp.outbox where aggregate_type not in ('merchant') "
    "group by 1, 2 order by 1, 2",
)


def books(make_pod: MakePod, make_database: Callable[..., str], folder: Path) -> Settings:
    control_dsn = make_database("tieout_control")
    migrate_directory(control_dsn)
    return settings_of(folder, pods=(make_pod("pod1"), make_pod("pod2")), control_dsn=control_dsn)


def trade(rng: random.Random) -> list[Row]:
    """Invoices with credit notes for parts of them, guests, carriage, fees and write-offs."""
    rows: list[Row] = []
    at = datetime(2011, 1, 3, 8)
    for number in range(600_000, 600_000 + INVOICES):
        at += timedelta(hours=7)
        country = rng.choice(["United Kingdom", "United Kingdom", "United Kingdom", "France"])
        customer = rng.choice(["", "12000.0", "12001.0", "12002.0"])
        goods = [
            (f"S{code:03}", str(rng.randrange(1, 9)), f"{rng.randrange(1, 999) / 100:.2f}")
            for code in rng.sample(range(60), rng.randrange(1, 6))
        ]
        rows += [
            (str(number), code, f"THING {code}", quantity, f"{at}", price, customer, country)
            for code, quantity, price in goods
        ]
        if rng.random() < 0.4:
            code, quantity, price = rng.choice(goods)
            returned = str(-rng.randrange(1, int(quantity) + 1))
            later = at + timedelta(hours=3)
            rows.append((f"C{number}", code, "BACK", returned, f"{later}", price, customer, country))
            rows.append((f"C{number}", "D", "Discount", "-1", f"{later}", "0.10", customer, country))
        if rng.random() < 0.2:
            rows.append((f"{number + 1_000}", "AMAZONFEE", "FEE", "1", f"{at}", "1.25", "", country))
            rows.append((f"{number + 2_000}", goods[0][0], "broken", "-2", f"{at}", "0", "", country))
    return rows


def content(settings: Settings) -> list[list[tuple[Any, ...]]]:
    found = []
    for pod in settings.pods:
        with psycopg.connect(pod.reader_dsn) as connection:
            found += [connection.execute(query.encode()).fetchall() for query in CONTENT]
            assert connection.execute("select * from oltp.stock_identity_violations").fetchall() == []
    return found


def killed(path: Path, settings: Settings, step: str, steps: int) -> None:
    """Import in a process, and kill it when it has got on `steps` times in `step`."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=run_import, args=([path], settings, there))
    process.start()
    there.close()
    try:
        while steps:
            steps -= here.recv() == step
    except EOFError:
        # It came to its end before.
        pass
    process.kill()
    process.join()
    process.close()


def finished(path: Path, settings: Settings) -> Any:
    """Import to the end; the lock of a killed import goes when the server notices that its connection is gone."""
    for _ in range(1_000):
        try:
            return import_files([path], settings, processes=2)
        except ConflictError as error:
            assert "Another import is running" in str(error)
    raise AssertionError("the lock of the killed import stays")


@pytest.mark.in_turn("stores", seconds=25)
def test_an_import_killed_in_every_step_ends_like_one_that_was_not(
    make_pod: MakePod, make_database: Callable[..., str], tmp_path: Path, rng: random.Random
) -> None:
    rows = trade(rng)
    path = tmp_path / "2011-01.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    torn, whole = (books(make_pod, make_database, tmp_path / name) for name in ("torn", "whole"))
    for step in KILLED_IN:
        killed(path, torn, step, rng.randrange(1, 4))
    report = finished(path, torn)
    expected = finished(path, whole)
    amount = sum((Decimal(row[3]) * Decimal(row[5]) for row in rows), Decimal(0))
    assert (report.rows_rejected, report.rows_imported, report.unfinished) == (0, len(rows), 0)
    assert Decimal(report.amount_imported) == Decimal(expected.amount_imported) == amount
    assert 0 < report.already_imported < len(rows)
    assert content(torn) == content(whole)
