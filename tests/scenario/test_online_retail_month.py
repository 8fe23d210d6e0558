from __future__ import annotations

import sys
import time
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from contracts.settings import Settings
from oltp.directory import migrate_directory
from traffic.retail.importing import import_files

MONTHS = {
    # month: (rows, net sum of quantity x price, invoices that are credit notes, countries), from the data's README
    "2010-12": (42_481, "748957.020", 326, 24),
}


@pytest.fixture
def books(settings: Settings) -> Settings:
    migrate_directory(settings.control_dsn)
    return settings


def books_micro(settings: Settings) -> int:
    query = """
    select (select sum(quantity * unit_price_micro) from oltp.order_lines)
        - (select coalesce(sum(amount_minor), 0) * 10000 from oltp.refunds where status = 'completed')
        + (select coalesce(sum(amount_minor * 10000 + rounding_micro), 0) from oltp.adjustments)
    """
    total = 0
    for pod in settings.pods:
        with psycopg.connect(pod.reader_dsn) as connection:
            row = connection.execute(query).fetchone()
            assert row is not None
            total += int(row[0])
    return total


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("month", MONTHS)
def test_a_real_month_is_imported_to_the_last_decimal(books: Settings, sample_books: Path, month: str) -> None:
    rows, amount, _, countries = MONTHS[month]
    path = sample_books / "online_retail" / f"{month}.csv.gz"
    started = time.monotonic()
    report = import_files([path], books)
    sys.stdout.write(f"{month}: {time.monotonic() - started:.1f} s\n{report}\n")
    assert report.is_balanced
    assert (report.rows_read, report.rows_imported, report.rows_rejected) == (rows, rows, 0)
    assert report.amount_read == report.amount_imported == amount
    assert books_micro(books) == Decimal(amount).scaleb(6)
    assert sum(report.merchants.values()) == countries
    assert set(report.merchants) == {"pod1", "pod2"}
    again = import_files([path], books)
    assert (again.already_imported, again.orders, again.refunds, again.adjustments) == (rows, 0, 0, 0)
    assert again.amount_imported == amount
