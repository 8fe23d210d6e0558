"""Reading the report of a period from the marts: its own days, and late arrivals for closed periods.

Belongs here: combining the parts of a period's report. Does not belong here: which parts there are
(`finance/periods.py`), the figures (the marts), closed periods as they were stored (`finance/books.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime

import duckdb

from contracts.clock import Clock, utc_now
from contracts.errors import InputError, WarehouseError
from contracts.settings import Settings
from derived.lake_connection import open_lake, scrub, transaction
from derived.reports import (
    REPORTS,
    Connection,
    Report,
    Span,
    as_of,
    noted_cuts,
    oldest,
    rows_of,
    standing_at,
    standing_cuts,
)
from finance.books import ClosedPeriod
from finance.periods import (
    Close,
    Part,
    Period,
    Posting,
    brought_forward,
    first_open,
    parts_of,
    period_of,
    unclosed_before,
)

POSTING, LATE_FOR = "posting", "late_for"
"""The last columns of a period's report: the posting of a row, and the closed period that a late arrival belongs to."""

BALANCES = ("merchant-payable", "trial-balance")
"""Reports of balances: a period's report begins with the balances brought forward."""

DAYS = (("daily_sales", "sales_date"), ("tax_lines", "tax_date"))
"""(mart, its column of business days); together they have every day on which any report has a fact."""


@contextmanager
def reading(settings: Settings) -> Iterator[Connection]:
    """Give a connection to the lake whose queries all read one snapshot; a DuckDB error becomes WarehouseError."""
    try:
        with (
            open_lake(settings, read_only=True) as connection,
            transaction(connection),
        ):
            yield connection
    except duckdb.Error as error:
        raise WarehouseError(f"The report could not be read: {scrub(error, settings.catalog_dsn)}") from None


def read_period(
    connection: Connection,
    name: str,
    period: Period,
    closes: Sequence[Close],
    *,
    cuts: Mapping[str, int] | None = None,
    clock: Clock = utc_now,
) -> Report:
    """Return the report of a period, computed from the marts now. For a closed period it equals what was frozen.

    `closes` are all closes, in order. A closed period is read at its close's cuts, an open one at `cuts`, by default
    the newest build's (docs/finance.md). Raises InputError for an unknown report, and for cuts before the last close or
    beyond the build.
    """
    if name not in REPORTS:
        raise InputError(f"There is no report {name!r}; the reports are {', '.join(REPORTS)}.")
    parts = parts_of(period, closes)
    closed = next((close for close in closes if close.period == period), None)
    build_id, wanted = standing_cuts(connection, cuts if closed is None else closed.cuts)
    if closed is None:
        refuse_cuts_before(closes, wanted)
    require_spans(connection)
    if name in BALANCES:
        parts = (brought_forward(period, closes), *parts)
    columns, rows = _rows(connection, name, wanted, _with_entries(connection, wanted, parts))
    noted = noted_cuts(connection, wanted)
    data_at = oldest(noted)
    return Report(
        name=name,
        columns=columns,
        rows=rows,
        cuts=wanted,
        build_id=build_id,
        data_at=data_at,
        age_seconds=None if data_at is None else (clock() - data_at).total_seconds(),
        noted=noted,
    )


def unclosed_months(
    connection: Connection, period: Period, closes: Sequence[Close], cuts: Mapping[str, int]
) -> list[Period]:
    """Return the months before `period` that have something to report at `cuts` and are not closed, in order."""
    days = _days(connection, cuts, unclosed_before(period, closes))
    months = {period_of(day) for day in days}
    following = first_open(closes)
    if following is not None and following < period and _has_late_arrivals(connection, closes, cuts):
        months.add(following)
    return sorted(months)


def has_days(connection: Connection, period: Period, cuts: Mapping[str, int]) -> bool:
    """Return whether there is something to report at `cuts` for a day of the period itself."""
    return bool(_days(connection, cuts, Span(first_day=period.first_day, last_day=period.last_day)))


def last_day(connection: Connection, cuts: Mapping[str, int]) -> date | None:
    """Return the last business day that has something to report at `cuts`; None if there is none."""
    return max(_days(connection, cuts, Span()), default=None)


def refuse_cuts_before(closes: Sequence[Close], cuts: Mapping[str, int]) -> None:
    """Raise InputError if `cuts` are before the last close: a later period has no report at such cuts."""
    for last in closes[-1:]:
        for pod, cut in sorted(last.cuts.items()):
            if (wanted := cuts.get(pod, 0)) < cut:
                raise InputError(
                    f"{last.period} was closed at cut {cut} of {pod}; a later period cannot stand at cut {wanted}."
                )


def epoch_starts(connection: Connection) -> dict[str, tuple[int, datetime]]:
    """Return pod -> (base cut, start) of its newest epoch; pods that never changed their epoch are missing."""
    rows = connection.execute(
        """select pod, max_by(base_cut, opened_at), max(opened_at) from lake.raw.epochs
           where retracted_at is null group by pod"""
    ).fetchall()
    return {str(pod): (int(base_cut), opened_at) for pod, base_cut, opened_at in rows}


def taken_back(connection: Connection, closed: Sequence[ClosedPeriod]) -> list[str]:
    """Return sentences about closed periods whose cuts a pod no longer knows, because a new epoch began before them.

    Such a period can no longer be compared with OLTP, and later facts can no longer be separated from it.
    """
    rows = connection.execute("select pod, base_cut, opened_at from lake.raw.epochs order by opened_at").fetchall()
    return [
        f"{one.period} was closed at cut {one.cuts[pod]} of {pod}, which went back to cut {base_cut} when a new epoch "
        "began there: what was closed is not what its owner knows, and people must book the difference"
        for one in closed
        for pod, base_cut, opened_at in rows
        if base_cut < one.cuts.get(pod, 0) and opened_at > one.closed_at
    ]


def require_spans(connection: Connection) -> None:
    """Raise WarehouseError if the marts were built before they supported spans: they would silently show too much."""
    rows = connection.execute(
        """select count(*) from duckdb_views() where database_name = 'lake' and schema_name = 'marts'
           and view_name in ('journal', 'tax_lines', 'daily_sales') and contains(sql, 'first_day')"""
    ).fetchall()
    if int(rows[0][0]) != 3:
        raise WarehouseError(
            "The warehouse was built by an earlier version, which knew no periods; run `tieout reconcile` to build it."
        )


def _with_entries(connection: Connection, cuts: Mapping[str, int], parts: Sequence[Part]) -> list[Part]:
    """Return the parts without late parts for which nothing arrived; after some years most late parts are empty."""
    late = [part for part in parts if part.posting is Posting.LATE_ARRIVAL]
    if not late:
        return list(parts)
    days = _days(connection, cuts, Span(since=late[-1].span.since, last_day=late[-1].span.last_day))
    return [part for part in parts if part not in late or any(_is_within(day, part.span) for day in days)]


def _is_within(day: date, span: Span) -> bool:
    return (span.first_day is None or span.first_day <= day) and (span.last_day is None or day <= span.last_day)


def _rows(
    connection: Connection, name: str, cuts: Mapping[str, int], parts: Sequence[Part]
) -> tuple[tuple[str, ...], tuple[tuple[object, ...], ...]]:
    mart, order = REPORTS[name]
    columns: tuple[str, ...] = ()
    rows: list[tuple[object, ...]] = []
    for part in parts:
        table = as_of(connection, mart, cuts if part.cuts is None else part.cuts, order_by=order, span=part.span)
        columns = (*table.column_names, POSTING, LATE_FOR)
        late_for = None if part.late_for is None else str(part.late_for)
        rows += [(*row, part.posting.value, late_for) for row in rows_of(table)]
    return columns, tuple(rows)


def _days(connection: Connection, cuts: Mapping[str, int], span: Span) -> list[date]:
    queries = [f"select {column} as day from lake.marts.{mart}" for mart, column in DAYS]
    with standing_at(connection, cuts, span):
        rows = connection.execute(f"select distinct day from ({' union all '.join(queries)}) order by day").fetchall()
    return [row[0] for row in rows]


def _has_late_arrivals(connection: Connection, closes: Sequence[Close], cuts: Mapping[str, int]) -> bool:
    last = closes[-1]
    return bool(_days(connection, cuts, Span(since=last.cuts, last_day=last.period.last_day)))
