"""The books: a closed period and its files are written once, together, and nobody changes them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from datetime import UTC, datetime

import psycopg
import pytest

from contracts.errors import ConflictError, NotFoundError, StackError
from finance.books import (
    LOCK,
    Artefact,
    ClosedPeriod,
    closed_periods,
    closing_alone,
    migrate,
    read_artefact,
    write_period,
)
from finance.closing import refuse_closed
from finance.periods import parse_period
from reconcile import figure_results
from reconcile.figures import Figure
from tests.conftest import MakeDatabase
from tests.lost_replies import losing_way

FILE = Artefact(report="daily", format="csv", content=b"merchant,net\na,1.00\n")


def closed(period: str, **cuts: int) -> ClosedPeriod:
    return ClosedPeriod(
        period=parse_period(period),
        closed_at=datetime(2011, 2, 3, tzinfo=UTC),
        closed_by="ada",
        cuts=cuts,
        build_id="b",
        certificate='{"conclusion":"Ties."}',
    )


def write(dsn: str, period: ClosedPeriod) -> None:
    with closing_alone(dsn) as connection:
        write_period(connection, period, [FILE])


def test_what_is_closed_stays_as_it_is(make_database: MakeDatabase) -> None:
    dsn = make_database("tieout_control")
    assert closed_periods(dsn) == []  # before the tables are there
    migrate(dsn)
    migrate(dsn)
    write(dsn, closed("2010-12", pod1=5, pod2=3))
    assert closed_periods(dsn) == [closed("2010-12", pod1=5, pod2=3)]
    assert read_artefact(dsn, parse_period("2010-12"), "daily", "csv") == FILE.content
    with pytest.raises(NotFoundError):
        read_artefact(dsn, parse_period("2010-12"), "daily", "html")

    for statement in (
        "update finance.periods set closed_by = 'eve'",
        "delete from finance.artefacts",
        "truncate finance.artefacts, finance.periods",
        "insert into finance.artefacts values ('2010-12', 'tax', 'csv', encode(sha256('x'), 'hex'), 'x')",
        "insert into finance.periods values ('2010-11', now(), 'eve', '{\"pod1\": 9, \"pod2\": 9}', 'b', '{}')",
        "insert into finance.periods values ('2011-01', now(), 'eve', '{\"pod1\": 9, \"pod2\": 2}', 'b', '{}')",
        "insert into finance.periods values ('2011-01', now(), 'eve', '{\"pod1\": 9}', 'b', '{}')",
    ):
        with psycopg.connect(dsn) as connection, pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute(statement)

    write(dsn, closed("2011-01", pod1=5, pod2=8))
    assert [str(item.period) for item in closed_periods(dsn)] == ["2010-12", "2011-01"]
    with closing_alone(dsn), pytest.raises(ConflictError, match="Another period"), closing_alone(dsn):
        pass


def test_figures_are_kept_by_pod_and_cut(make_database: MakeDatabase) -> None:
    dsn = make_database("tieout_control")
    figure_results.migrate(dsn)
    found = [
        Figure(pod=pod, cut=cut, currency="GBP", name="net_minor", operational=2**70, finance=None)
        for pod, cut in (("pod2", 4), ("pod1", 7))
    ]
    figure_results.save_figures(dsn, found)
    assert figure_results.figures_at(dsn, "pod1", 7) == [found[1]]
    assert figure_results.figures_at(dsn, "pod1", 8) is None
    later = [Figure(pod="pod1", cut=9, currency="GBP", name="net_minor", operational=1, finance=1)]
    figure_results.save_figures(dsn, later)
    assert figure_results.prune_figures(dsn, datetime(2999, 1, 1, tzinfo=UTC)) == 1
    assert figure_results.figures_at(dsn, "pod1", 7) is None and figure_results.figures_at(dsn, "pod1", 9) == later


def test_a_close_whose_last_reply_is_lost_is_closed_and_says_how_to_find_out(make_database: MakeDatabase) -> None:
    dsn = make_database("tieout_control")
    migrate(dsn)
    with losing_way(dsn) as way:
        way.lose()
        with pytest.raises(StackError, match=r"may be closed or open.*tieout periods"):
            write(way.dsn, closed("2010-12", pod1=5))
    assert closed_periods(dsn) == [closed("2010-12", pod1=5)]
    # It is not closed twice, and what was lost before the commit is not closed at all.
    with pytest.raises(psycopg.errors.RestrictViolation):
        write(dsn, closed("2010-12", pod1=5))
    with pytest.raises(StackError, match="cannot be reached") as lost, closing_alone(dsn) as connection:
        write_period(connection, closed("2011-01", pod1=6), [FILE])
        with psycopg.connect(dsn) as other:
            other.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))
        connection.execute("select 1")
    assert "tieout periods" not in str(lost.value)
    assert closed_periods(dsn) == [closed("2010-12", pod1=5)]


def close_and_die(dsn: str, *, is_committed: bool) -> None:
    """Close a month in this process, and end as a power cut would: before the commit, or right after it."""
    with closing_alone(dsn) as connection:
        write_period(connection, closed("2010-12", pod1=5), [FILE])
        if is_committed:
            connection.commit()
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_close_that_is_killed_has_closed_all_or_nothing(make_database: MakeDatabase, is_committed: bool) -> None:
    dsn = make_database("tieout_control")
    migrate(dsn)
    process = multiprocessing.get_context("spawn").Process(
        target=close_and_die, args=(dsn,), kwargs={"is_committed": is_committed}
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert closed_periods(dsn) == ([closed("2010-12", pod1=5)] if is_committed else [])
    if is_committed:
        assert read_artefact(dsn, parse_period("2010-12"), "daily", "csv") == FILE.content
        with pytest.raises(ConflictError, match="is closed"):
            refuse_closed(parse_period("2010-12"), [one.close for one in closed_periods(dsn)])
    else:
        with psycopg.connect(dsn, autocommit=True) as other:
            # The server notices that the client is gone, and lets go of the lock of closing.
            other.execute("select pg_advisory_lock(%s)", (LOCK,))
        write(dsn, closed("2010-12", pod1=5))
        assert closed_periods(dsn) == [closed("2010-12", pod1=5)]
