"""Reading a side from PostgreSQL: as a stream, with and without parameters, and every text as it is."""

from __future__ import annotations

import psycopg
import pytest

from reconcile.oltp_side import snapshot_cursor, stream
from tests.conftest import Cluster

MANY = "select number::bigint, repeat('x', 1000) as text from generate_series(1, 100000) as number where $1 <> 'none'"
SENDING = (
    "select query from pg_stat_activity where state = 'active' and query like '%100000%' and pid <> pg_backend_pid()"
)
TEXTS = ("", "plain", "it's", "a\\b'", "\\", "\\'; drop table x; --", "$1 $2", "\x1f", "\N{POUND SIGN}\n%s {} {0}")


@pytest.mark.parametrize("bound", [("some",), ("it's $1",)])
def test_what_is_read_with_parameters_is_sent_while_it_is_taken(postgres: Cluster, bound: tuple[str, ...]) -> None:
    dsn = postgres.superuser_dsn()
    with snapshot_cursor(dsn) as cursor, psycopg.connect(dsn) as other:
        reader = stream(cursor, MANY, bound)
        first = reader.read_next_batch()
        sending = [row[0] for row in other.execute(SENDING)]
        rows = first.num_rows + sum(batch.num_rows for batch in reader)
    assert rows == 100_000
    assert first.num_rows < rows / 2
    assert len(sending) == 1, "all rows were held at once, before the first was taken"


@pytest.mark.parametrize("standard", ["on", "off"])
def test_every_text_reaches_the_server_as_it_is(postgres: Cluster, standard: str) -> None:
    columns = ", ".join(f"${number}::text as c{number}" for number in range(1, len(TEXTS) + 1))
    with snapshot_cursor(postgres.superuser_dsn()) as cursor:
        cursor.execute(f"set local standard_conforming_strings = {standard}")
        ((row),) = stream(cursor, f"select {columns}", TEXTS).read_all().to_pylist()
    assert tuple(row.values()) == TEXTS
