"""Reading the warehouse for finance: four reports, and any mart, at the newest complete build or as of given cuts.

Belongs here: which mart a report shows, in which order, and at which cuts it is read. Does not belong here: which
columns it has (all of its mart), how a figure is computed (dbt_project/models/marts), how it is printed (`cli/`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime

import duckdb
import pyarrow as pa

from contracts.clock import Clock, utc_now
from contracts.errors import InputError, WarehouseError
from contracts.settings import Settings
from derived.builds import latest_build
from derived.lake_connection import open_lake, scrub

Connection = duckdb.DuckDBPyConnection

MARTS = (
    "adjustments",
    "daily_sales",
    "entitlements",
    "fulfillments",
    "gift_cards",
    "inventory_movements",
    "journal",
    "merchant_payable",
    "merchants",
    "order_lines",
    "orders",
    "payment_captures",
    "payments",
    "product_variants",
    "refund_lines",
    "refunds",
    "reservations",
    "tax_by_jurisdiction",
    "tax_lines",
    "trial_balance",
)
"""Every mart; a test checks this list against dbt_project/models/marts."""

REPORTS = {
    "daily": ("daily_sales", ("sales_date", "merchant_id", "currency")),
    "merchant-payable": ("merchant_payable", ("merchant_id", "currency")),
    "tax": ("tax_by_jurisdiction", ("tax_month", "merchant_id", "currency", "jurisdiction", "tax_category")),
    "trial-balance": ("trial_balance", ("merchant_id", "currency", "account")),
}
"""Report name -> (its mart, the columns that order it, which are also its key)."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Which journal entries, tax movements and placed orders count, in addition to the limit of the cuts.

    Only marts that add up such facts support a span: the reports, `journal` and `tax_lines`.
    """

    since: Mapping[str, int] | None = None
    """Only facts after these cuts (pod -> cut; 0 for a pod that is not named)."""
    first_day: date | None = None
    """Only business days from this day on."""
    last_day: date | None = None
    """Only business days up to this day, inclusive."""


@dataclass(frozen=True, kw_only=True)
class NotedCut:
    """What the lake recorded of a cut."""

    registered_at: datetime
    """When the cut was registered in its pod."""
    epoch: str
    """Identifies the database, and its timeline, that the cut comes from."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures at one cut vector. Amounts are integers; each column's name ends with the unit."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    """Ordered by the report's key."""
    cuts: Mapping[str, int]
    """Pod -> cut of the figures."""
    build_id: str
    """The build that computed the figures."""
    data_at: datetime | None
    """When the oldest of the cuts was registered in its pod; None if nothing has arrived yet."""
    age_seconds: float | None
    """Seconds from `data_at` until the report was made."""
    noted: Mapping[str, NotedCut | None] = field(default_factory=dict)
    """Pod -> what the lake recorded of its cut; None if nothing of the pod has arrived."""


def read_report(
    settings: Settings, name: str, *, cuts: Mapping[str, int] | None = None, clock: Clock = utc_now
) -> Report:
    """Return a report as of `cuts` (pod -> cut; a pod that is not named shows nothing), by default of the newest build.

    Raises InputError for an unknown report and for cuts beyond the newest build, WarehouseError if nothing was built.
    """
    try:
        with open_lake(settings, read_only=True) as connection:
            return report_on(connection, name, cuts=cuts, clock=clock)
    except duckdb.Error as error:
        raise WarehouseError(f"The report could not be read: {scrub(error, settings.catalog_dsn)}") from None


def report_on(
    connection: Connection, name: str, *, cuts: Mapping[str, int] | None = None, clock: Clock = utc_now
) -> Report:
    """Return the same as `read_report`, on an open connection to the lake."""
    if name not in REPORTS:
        raise InputError(f"There is no report {name!r}; the reports are {', '.join(REPORTS)}.")
    mart, order = REPORTS[name]
    build_id, wanted = standing_cuts(connection, cuts)
    table = as_of(connection, mart, wanted, order_by=order)
    noted = noted_cuts(connection, wanted)
    data_at = oldest(noted)
    return Report(
        name=name,
        columns=tuple(table.column_names),
        rows=rows_of(table),
        cuts=wanted,
        build_id=build_id,
        data_at=data_at,
        age_seconds=None if data_at is None else (clock() - data_at).total_seconds(),
        noted=noted,
    )


def rows_of(table: pa.Table) -> tuple[tuple[object, ...], ...]:
    """Return a table's rows as Python values."""
    return tuple(zip(*map(_values, table.columns), strict=True)) if table.num_rows else ()


def _values(column: pa.ChunkedArray) -> list[object]:
    """Return a column's values; Arrow holds sums (DuckDB's hugeint) as decimals, which are converted to integers."""
    values: list[object] = column.to_pylist()
    if pa.types.is_decimal(column.type):
        return [None if value is None else int(str(value)) for value in values]
    return values


def oldest(noted: Mapping[str, NotedCut | None]) -> datetime | None:
    """Return when the oldest of the pods' cuts was registered; None if nothing has arrived."""
    return min((cut.registered_at for cut in noted.values() if cut is not None), default=None)


def as_of(
    connection: Connection,
    mart: str,
    cuts: Mapping[str, int],
    *,
    order_by: tuple[str, ...] = (),
    span: Span | None = None,
) -> pa.Table:
    """Return a mart's rows as of a cut vector; the current models compute them from the stored history.

    `order_by` are columns of the mart; without it the order is not defined. Raises InputError for an unknown mart.
    """
    if mart not in MARTS:
        raise InputError(f"There is no mart {mart!r}; the marts are {', '.join(MARTS)}.")
    order = f" order by {', '.join(order_by)}" if order_by else ""
    with standing_at(connection, cuts, span):
        return connection.execute(f"select * from lake.marts.{mart}{order}").to_arrow_table()


@contextmanager
def standing_at(connection: Connection, cuts: Mapping[str, int], span: Span | None = None) -> Iterator[None]:
    """Let every mart on `connection` show the state at `cuts` inside the block, and the current state afterwards."""
    wanted = span or Span()
    _set_cuts(connection, "as_of", cuts)
    if wanted.since is not None:
        _set_cuts(connection, "since", wanted.since)
    if wanted.first_day is not None:
        connection.execute("set variable first_day = cast(? as date)", [wanted.first_day])
    if wanted.last_day is not None:
        connection.execute("set variable last_day = cast(? as date)", [wanted.last_day])
    try:
        yield
    finally:
        for name in ("as_of", "since", "first_day", "last_day"):
            connection.execute(f"reset variable {name}")


def _set_cuts(connection: Connection, variable: str, cuts: Mapping[str, int]) -> None:
    connection.execute(
        f"set variable {variable} = map(cast(? as varchar[]), cast(? as bigint[]))",
        [list(cuts.keys()), list(cuts.values())],
    )


def standing_cuts(connection: Connection, cuts: Mapping[str, int] | None) -> tuple[str, dict[str, int]]:
    """Return (id of the newest complete build, the cuts to read it at): `cuts`, or by default the build's own.

    Raises InputError for cuts beyond the build, WarehouseError if nothing was built.
    """
    build = latest_build(connection)
    if build is None:
        raise WarehouseError("The warehouse has not been built completely yet; run `tieout reconcile` to build it.")
    if cuts is None:
        return build.build_id, dict(build.cuts)
    for pod, cut in cuts.items():
        standing = build.cuts.get(pod, 0)
        if cut > standing:
            raise InputError(
                f"The warehouse stands at cut {standing} of pod {pod!r}; it cannot answer as of cut {cut}."
            )
    return build.build_id, dict(cuts)


def noted_cuts(connection: Connection, cuts: Mapping[str, int]) -> dict[str, NotedCut | None]:
    """Return what the lake recorded of each pod's cut, or of the last recorded cut before it."""
    rows = connection.execute(
        """select pod, max(seen.data_at), max_by(seen.epoch, seen.cut) from lake.raw.cuts as seen
           inner join (select unnest($pods) as pod, unnest($cuts) as cut) as wanted using (pod)
           where seen.cut <= wanted.cut group by pod""",
        {"pods": list(cuts.keys()), "cuts": list(cuts.values())},
    ).fetchall()
    found = {str(pod): NotedCut(registered_at=moment, epoch=str(epoch)) for pod, moment, epoch in rows}
    return {pod: found.get(pod) for pod in cuts}
