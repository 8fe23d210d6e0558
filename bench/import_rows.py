"""The cost of importing invoices: processor time per row, of the import's own processes and of PostgreSQL.

    python -m bench.import_rows [--rows N] [--file PATH] [--json]

Belongs here: one import into two empty pods, and a plain insert of the same rows in the same run. Does not belong here:
propagation after the pods. Wall time depends on other load; processor time and the ratio hardly do.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import multiprocessing
import random
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import groupby, repeat
from pathlib import Path

import psycopg

from bench.figures import Figure, report
from bench.processor import cost_of
from bench.servers import own_postgres
from contracts.settings import PodSettings, Settings
from oltp.directory import migrate_directory
from oltp.store.migrate import migrate
from stack.servers import bootstrap
from stack.servers.postgres import EmbeddedPostgres
from tests.values import settings_of
from traffic.retail.files import COLUMNS
from traffic.retail.importing import import_files
from traffic.workers import process_count

PODS = ("pod1", "pod2")
INVOICE_ROWS = 20
"""Average rows of a generated invoice; real invoices have 21."""
STOCK_CODES = 3_000
RATIO_MAX = 15.0
"""An import books events, tax, payment, shipment and stock of a row; a plain insert stores only the row. Measured
ratio: 12.5 to 13.5, with 57 to 60 us for the plain row."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 when every goal is met, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m bench.import_rows", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="rows to generate (default 20,000)")
    parser.add_argument("--file", type=Path, help="an Online Retail file to import instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    return report("import_rows", measure(rows=options.rows, file=options.file), is_json=options.json)


def measure(*, rows: int = 20_000, file: Path | None = None) -> list[Figure]:
    """Return the cost per row of an import and of the plain insert."""
    with _books() as (settings, server):
        path = file or _generated(settings.var_dir / "generated.csv", rows)
        done = 0

        def run() -> None:
            nonlocal done
            done = import_files([path], settings).rows_read

        imported = cost_of(server, run)
        plain = cost_of(server, lambda: _insert_plainly(settings.pods[0], path))
    ratio = (imported.client + imported.server) / (plain.client + plain.server)
    return [
        Figure(name="rows", value=done, unit=""),
        Figure(name="reference: plain insert, client", value=plain.client / done * 1e6, unit="us/row"),
        Figure(name="reference: plain insert, PostgreSQL", value=plain.server / done * 1e6, unit="us/row"),
        Figure(name="import, client", value=imported.client / done * 1e6, unit="us/row"),
        Figure(name="import, PostgreSQL", value=imported.server / done * 1e6, unit="us/row"),
        Figure(name="import, both", value=(imported.client + imported.server) / done * 1e6, unit="us/row"),
        Figure(name="ratio", value=ratio, unit="", goal=f"<= {RATIO_MAX:g}", is_met=ratio <= RATIO_MAX),
    ]


@contextmanager
def _books() -> Iterator[tuple[Settings, EmbeddedPostgres]]:
    """Yield two migrated pods and the directory on their own server with fsync; delete all afterwards."""
    with own_postgres() as (server, folder):
        yield _settings(server, folder), server


def _settings(server: EmbeddedPostgres, folder: Path) -> Settings:
    roles = (*bootstrap.POD_ROLES, "tieout_control")
    bootstrap.create_roles(server.superuser_dsn(), {role: f"{role}-password" for role in roles})
    pods = []
    for pod in PODS:
        _create(server, pod, bootstrap.POD_ROLES)
        owner, app, relay, reader = (server.dsn(role, f"{role}-password", pod) for role in bootstrap.POD_ROLES)
        migrate(owner)
        pods.append(PodSettings(pod=pod, owner_dsn=owner, app_dsn=app, relay_dsn=relay, reader_dsn=reader))
    _create(server, "control", ("tieout_control",))
    control_dsn = server.dsn("tieout_control", "tieout_control-password", "control")
    migrate_directory(control_dsn)
    return settings_of(folder, pods=pods, control_dsn=control_dsn)


def _create(server: EmbeddedPostgres, database: str, roles: tuple[str, ...]) -> None:
    bootstrap.create_database(server.superuser_dsn(), database, owner=roles[0])
    bootstrap.allow_connections(server.superuser_dsn(), database, roles)


def _insert_plainly(pod: PodSettings, path: Path) -> None:
    """Insert the file's rows unchanged, with one statement per row and one transaction per invoice.

    It uses as many client processes as an import: a single client sleeps for every answer, and waking up costs more
    than the insert.
    """
    with psycopg.connect(pod.owner_dsn) as connection:
        connection.execute(
            "create table public.plain_rows (invoice text, stock_code text, description text, quantity bigint, "
            "invoiced_at timestamptz, price numeric, customer_id text, country text)"
        )
    invoices = [list(rows) for _, rows in groupby(_records(path), key=lambda row: row[0])]
    sides = process_count()
    # We fork, because starting new Python processes would cost more than the inserts.
    with ProcessPoolExecutor(sides, multiprocessing.get_context("fork")) as pool:
        list(pool.map(_insert_invoices, repeat(pod), [invoices[side::sides] for side in range(sides)]))


def _insert_invoices(pod: PodSettings, invoices: Sequence[Sequence[Sequence[str]]]) -> None:
    with psycopg.connect(pod.owner_dsn) as connection:
        for rows in invoices:
            for row in rows:
                connection.execute("insert into public.plain_rows values (%s, %s, %s, %s, %s, %s, %s, %s)", row)
            connection.commit()


def _records(path: Path) -> Iterator[list[str]]:
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        reader = csv.reader(file)
        next(reader)
        yield from reader


def _generated(path: Path, rows: int) -> Path:
    """Write `rows` rows of invoices, some of them credit notes, from a fixed seed."""
    source, start = random.Random(1), datetime(2011, 3, 1, 8)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        written, number = 0, 600_000
        while written < rows:
            number += 1
            invoice = _invoice(source, number, start + timedelta(minutes=3 * (number - 600_000)))
            writer.writerows(invoice[: rows - written])
            written += len(invoice)
    return path


def _invoice(source: random.Random, number: int, at: datetime) -> list[list[str]]:
    sign, prefix = (-1, "C") if source.random() < 0.15 else (1, "")
    country = "United Kingdom" if source.random() < 0.9 else source.choice(["France", "Germany", "EIRE"])
    customer = "" if source.random() < 0.1 else f"{12_000 + source.randrange(500)}.0"
    size = 1 + source.randrange(3 if prefix else 2 * INVOICE_ROWS)
    rows = []
    for _ in range(size):
        code = source.randrange(STOCK_CODES)
        price = f"{1 + code % 900 / 100:.2f}"
        quantity = str(sign * (1 + source.randrange(12)))
        rows.append([f"{prefix}{number}", f"T{code:05}", f"THING {code}", quantity, f"{at}", price, customer, country])
    return rows


if __name__ == "__main__":
    sys.exit(main())
