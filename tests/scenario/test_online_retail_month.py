"""A month of real sales is imported to the last decimal: its first rows, or, as the long form, all of them."""

from __future__ import annotations

import csv
import gzip
import itertools
import sys
import time
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from contracts.settings import Settings
from oltp.directory import migrate_directory
from traffic.retail.importing import import_files

MONTH, ROWS, AMOUNT, COUNTRIES = "2010-12", 42_481, Decimal("748957.020"), 24
"""Of the whole file, as the data's README gives them: rows, net sum of quantity x price, countries."""


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


def first_rows(path: Path, count: int, folder: Path) -> tuple[Path, Decimal, int]:
    """Write the first rows of a month into a file of their own; return it, their net sum and their countries."""
    with gzip.open(path, "rt", newline="") as whole:
        reader = csv.DictReader(whole)
        rows = list(itertools.islice(reader, count))
        names = reader.fieldnames or ()
    part = folder / f"{MONTH}.csv"
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    amount = sum((int(row["Quantity"]) * Decimal(row["UnitPrice"]) for row in rows), Decimal(0))
    return part, amount, len({row["Country"] for row in rows})


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("count", [10_000, pytest.param(ROWS, marks=pytest.mark.long)])
def test_a_real_month_is_imported_to_the_last_decimal(
    books: Settings, sample_books: Path, tmp_path: Path, count: int
) -> None:
    path = sample_books / "online_retail" / f"{MONTH}.csv.gz"
    amount, countries = AMOUNT, COUNTRIES
    if count < ROWS:
        path, amount, countries = first_rows(path, count, tmp_path)
    started = time.monotonic()
    report = import_files([path], books)
    sys.stdout.write(f"{count} rows: {time.monotonic() - started:.1f} s\n{report}\n")
    assert report.is_balanced
    assert (report.rows_read, report.rows_imported, report.rows_rejected) == (count, count, 0)
    assert Decimal(report.amount_read) == Decimal(report.amount_imported) == amount
    assert books_micro(books) == amount.scaleb(6)
    assert sum(report.merchants.values()) == countries
    assert set(report.merchants) == {"pod1", "pod2"}
    again = import_files([path], books)
    assert (again.already_imported, again.orders, again.refunds, again.adjustments) == (count, 0, 0, 0)
    assert Decimal(again.amount_imported) == amount
