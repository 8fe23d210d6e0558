"""A command's pipeline sends when an answer is waited for, and answers and fails as psycopg's own."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import _queries

from contracts.events.order import OrderState
from contracts.events.stock import ReservationState
from contracts.settings import PodSettings
from oltp.outbox import INSERT
from oltp.pipelining import buffered_pipeline
from oltp.store.mapping import MAPPINGS, insert_statement


@pytest.fixture
def connection(settings_of_pod: PodSettings) -> psycopg.Connection:
    return psycopg.connect(settings_of_pod.app_dsn, autocommit=True)


def test_nothing_is_sent_before_somebody_waits(connection: psycopg.Connection, settings_of_pod: PodSettings) -> None:
    with psycopg.connect(settings_of_pod.app_dsn, autocommit=True) as other, connection:
        with buffered_pipeline(connection):
            locked = connection.execute("select pg_advisory_lock(%s)", (7,))
            found = connection.execute("select %s::bigint", (2,))
            assert other.execute("select pg_try_advisory_lock(7)").fetchone() == (True,), "it was not sent yet"
            other.execute("select pg_advisory_unlock(7)")
            assert found.fetchone() == (2,)
            assert locked.fetchone() is not None
            assert other.execute("select pg_try_advisory_lock(7)").fetchone() == (False,)
            connection.execute("select pg_advisory_unlock(7)")
        assert other.execute("select pg_try_advisory_lock(7)").fetchone() == (True,), "leaving it sends what is left"


def test_the_first_error_is_raised(connection: psycopg.Connection) -> None:
    with connection, pytest.raises(psycopg.errors.DivisionByZero), buffered_pipeline(connection):
        connection.execute("select 1 / %s::bigint", (0,))
        connection.execute("select 1")


def test_more_than_the_buffers_hold_goes_both_ways_at_once(connection: psycopg.Connection) -> None:
    text = "x" * 4_000_000
    with connection, buffered_pipeline(connection):
        found = [connection.execute("select %s::text", (text,)) for _ in range(4)]
        assert [cursor.fetchone() for cursor in found] == [(text,)] * 4


def test_a_long_statement_is_remembered(connection: psycopg.Connection) -> None:
    statement = insert_statement((MAPPINGS[ReservationState], MAPPINGS[OrderState]), INSERT)
    assert len(statement) > 4_096, "psycopg's own limit"
    before = _queries._query2pg.cache_info()
    with connection:
        for _ in range(3):
            with pytest.raises(psycopg.DataError):
                connection.execute(statement, ("",) * 10)
    after = _queries._query2pg.cache_info()
    assert after.misses - before.misses <= 1, "once, or by an earlier test"
    assert after.hits + after.misses == before.hits + before.misses + 3
