"""Connections that read PostgreSQL as Arrow: what is learnt of a database is kept, its connections are not."""

from __future__ import annotations

import adbc_driver_manager
import psycopg
import pytest

from contracts.arrow import connect_arrow
from stack.servers import bootstrap
from tests.conftest import Cluster, MakeDatabase

SESSIONS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


def read(dsn: str, query: str) -> list[tuple[object, ...]]:
    with connect_arrow(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        rows: list[tuple[object, ...]] = cursor.fetchall()
        return rows


def sessions(dsn: str) -> int:
    """Return how many other sessions the database has; one that was closed may take a moment to end."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(100):
            row = connection.execute(SESSIONS).fetchone()
            if row == (0,):
                break
            connection.execute("select pg_sleep(0.05)")
        assert row is not None
        return int(row[0])


def test_a_connection_that_is_closed_leaves_none_behind(make_database: MakeDatabase) -> None:
    dsn = make_database()
    for number in range(3):
        assert read(dsn, f"select {number}::bigint") == [(number,)]
    assert sessions(dsn) == 0


def test_two_connections_of_one_database_do_not_see_each_other(make_database: MakeDatabase) -> None:
    dsn = make_database()
    with connect_arrow(dsn) as one, connect_arrow(dsn) as other, one.cursor() as writing, other.cursor() as reading:
        writing.execute("create table numbers (number bigint)")
        writing.execute("begin")
        writing.execute("insert into numbers values (1)")
        reading.execute("select count(*) from numbers")
        assert reading.fetchall() == [(0,)]
        writing.execute("rollback")


def test_a_database_that_takes_anothers_place_is_read_as_it_is(postgres: Cluster, make_database: MakeDatabase) -> None:
    dsn = make_database()
    query = "select id::text, moment, total, name, is_set from rows"
    create = """create table rows (id uuid, moment timestamptz, total bigint, name text, is_set boolean);
                insert into rows values ('{id}', '2026-03-04 12:00Z', {total}, 'a', true)"""
    seen = []
    for number in (1, 2):
        if number == 2:
            name = dsn.rpartition("/")[2]
            bootstrap.drop_database(postgres.superuser_dsn(), name)
            bootstrap.create_database(postgres.superuser_dsn(), name, owner="tieout_owner", template="template0")
        with psycopg.connect(dsn) as connection:
            # Types of one's own give the next ones other numbers.
            connection.execute(f"create type own_{number} as (value text)".encode())
            connection.execute(create.format(id=f"00000000-0000-0000-0000-00000000000{number}", total=number).encode())
        seen += read(dsn, query)
    assert [row[0] for row in seen] == [f"00000000-0000-0000-0000-00000000000{number}" for number in (1, 2)]
    assert [row[1:] for row in seen] == [(seen[0][1], number, "a", True) for number in (1, 2)]


def test_a_server_that_is_not_there_is_an_error_each_time() -> None:
    for _ in range(2):
        with pytest.raises(adbc_driver_manager.OperationalError):
            connect_arrow("postgresql://nobody@127.0.0.1:1/nothing")
