"""Lake <-> read models: every row of the account and the fulfillment view, at the positions the view itself has.

A view keeps no history, so it chooses the cut: its rows and its position in every partition are read in one snapshot,
and the lake's events are folded as of exactly those positions. Belongs here: what a view must say of a state, as SQL of
the comparison's own. Does not belong here: the views (`derived/read_models/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import adbc_driver_postgresql.dbapi as adbc

from contracts.errors import ComparisonError
from reconcile.compare import compare
from reconcile.context import wait_for
from reconcile.entities import AGGREGATE_ID, entities_of
from reconcile.lake import PartitionPosition, at_positions, fold, right_name
from reconcile.oltp import snapshot_cursor
from reconcile.pair import Findings, LateError, Pair, PodRun, Stage
from reconcile.parked import ParkedAggregate, overdue
from reconcile.scratch import load, table
from reconcile.shapes import BIGINT, TIMESTAMP, VARCHAR, Column, Shape, belongs_to
from reconcile.view_positions import known_positions, read_positions, shown

CASTS = {VARCHAR: "text", BIGINT: "bigint", TIMESTAMP: "timestamptz"}


def text(*names: str) -> tuple[Column, ...]:
    """Return text columns."""
    return tuple(Column(name=name, type=VARCHAR) for name in names)


def number(*names: str) -> tuple[Column, ...]:
    """Return whole-number columns."""
    return tuple(Column(name=name, type=BIGINT) for name in names)


def moment(*names: str) -> tuple[Column, ...]:
    """Return timestamp columns."""
    return tuple(Column(name=name, type=TIMESTAMP) for name in names)


@dataclass(frozen=True, kw_only=True)
class ViewTable:
    """A table of a view, and what the lake's states say it must hold.

    `expected` is DuckDB SQL over the folded states, ``{orders}`` standing for those of orders and so on. `root` names
    the table that says which pod a row belongs to, where the table itself does not.
    """

    shape: Shape
    aggregate_type: str
    id_column: str
    expected: str
    root: str | None = None

    @property
    def name(self) -> str:
        """The table's name in schema `read_models`."""
        return self.shape.name


ACCOUNT = (
    ViewTable(
        shape=Shape(
            name="account_orders",
            key=("order_id",),
            columns=(
                *text("merchant_id", "customer_id", "order_number", "status", "currency"),
                *number("item_quantity", "lines_minor", "discount_minor", "shipping_minor", "tax_minor"),
                *number("total_minor", "cancelled_minor", "cancelled_tax_minor", "version"),
                *moment("placed_at"),
            ),
            day="placed_at",
            currency="currency",
            version="version",
            aggregate=belongs_to("order", "order_id"),
        ),
        aggregate_type="order",
        id_column="order_id",
        expected="""
            select o.*, coalesce(l.item_quantity, 0)::BIGINT as item_quantity
            from {orders} as o
            left join (
                select aggregate_id, sum(quantity) as item_quantity from {order_lines}
                where kind <> 'shipping' group by aggregate_id
            ) as l on l.aggregate_id = o.aggregate_id
            where o.customer_id is not null""",
    ),
    ViewTable(
        shape=Shape(
            name="account_payments",
            key=("payment_id",),
            columns=(
                *text("merchant_id", "customer_id", "order_id", "status", "currency"),
                *number("authorized_minor", "captured_minor", "refunded_minor", "version"),
                *moment("authorized_at"),
            ),
            day="authorized_at",
            currency="currency",
            version="version",
            aggregate=belongs_to("payment", "payment_id"),
        ),
        aggregate_type="payment",
        id_column="payment_id",
        expected="select * from {payments} where customer_id is not null",
    ),
    ViewTable(
        shape=Shape(
            name="account_refunds",
            key=("refund_id",),
            columns=(
                *text("merchant_id", "customer_id", "order_id", "payment_id", "status", "currency", "reason"),
                *number("amount_minor", "tax_minor", "version"),
                *moment("requested_at", "completed_at"),
            ),
            day="requested_at",
            currency="currency",
            version="version",
            aggregate=belongs_to("refund", "refund_id"),
        ),
        aggregate_type="refund",
        id_column="refund_id",
        expected="select * from {refunds} where customer_id is not null",
    ),
    ViewTable(
        shape=Shape(
            name="account_entitlements",
            key=("entitlement_id",),
            columns=(*text("merchant_id", "customer_id", "feature"), *number("effective_level", "version")),
            version="version",
            aggregate=belongs_to("customer_entitlement", "entitlement_id"),
        ),
        aggregate_type="customer_entitlement",
        id_column="entitlement_id",
        expected="select * from {customer_entitlements}",
    ),
)

OPEN = "quantity - fulfilled_quantity - cancelled_quantity"
HELD = "quantity - consumed_quantity - released_quantity"
FULFILLMENT = (
    ViewTable(
        shape=Shape(
            name="fulfillment_orders",
            key=("order_id",),
            columns=(
                *text("merchant_id", "customer_id", "order_number", "status", "reservation_id"),
                *number("open_quantity", "version"),
                *moment("ordered_at"),
            ),
            day="ordered_at",
            version="version",
            aggregate=belongs_to("order", "order_id"),
        ),
        aggregate_type="order",
        id_column="order_id",
        expected=f"""
            select o.*, o.placed_at as ordered_at, coalesce(l.open_quantity, 0)::BIGINT as open_quantity
            from {{orders}} as o
            left join (
                select aggregate_id, sum({OPEN}) as open_quantity from {{order_lines}}
                where kind = 'goods' group by aggregate_id
            ) as l on l.aggregate_id = o.aggregate_id""",
    ),
    ViewTable(
        shape=Shape(
            name="fulfillment_lines",
            key=("order_id", "order_line_id"),
            columns=(
                *text("merchant_id", "variant_id", "sku", "title"),
                *number("line_number", "quantity", "fulfilled_quantity", "cancelled_quantity", "open_quantity"),
            ),
            aggregate=belongs_to("order", "order_id"),
        ),
        aggregate_type="order",
        id_column="order_id",
        root="fulfillment_orders",
        expected=f"""
            select *, aggregate_id as order_id, {OPEN} as open_quantity from {{order_lines}}
            where kind = 'goods' and {OPEN} > 0""",
    ),
    ViewTable(
        shape=Shape(
            name="fulfillment_reservations",
            key=("reservation_id",),
            columns=(*text("merchant_id", "order_id", "status"), *number("version")),
            version="version",
            aggregate=belongs_to("reservation", "reservation_id"),
        ),
        aggregate_type="reservation",
        id_column="reservation_id",
        expected="select * from {reservations}",
    ),
    ViewTable(
        shape=Shape(
            name="fulfillment_reservation_lines",
            key=("reservation_id", "reservation_line_id"),
            columns=(*text("merchant_id", "variant_id", "location_id"), *number("held_quantity")),
            aggregate=belongs_to("reservation", "reservation_id"),
        ),
        aggregate_type="reservation",
        id_column="reservation_id",
        root="fulfillment_reservations",
        expected=f"""
            select *, aggregate_id as reservation_id, {HELD} as held_quantity from {{reservation_lines}}
            where {HELD} > 0""",
    ),
)

GRANTS = ViewTable(
    shape=Shape(
        name="account_entitlement_grants",
        key=("entitlement_id", "grant_id"),
        columns=(
            *text("merchant_id", "grantor"),
            *number("level"),
            *moment("granted_at", "expires_at", "revoked_at"),
        ),
        aggregate=belongs_to("customer_entitlement", "entitlement_id"),
    ),
    aggregate_type="customer_entitlement",
    id_column="entitlement_id",
    expected="select *, aggregate_id as entitlement_id from {customer_entitlement_grants} where revoked_at is null",
)
"""The grants that survive; the view holds them as JSON in its entitlements, taken apart here."""
GRANTS_QUERY = """
    select merchant_id, entitlement_id, item ->> 'grant_id' as grant_id, item ->> 'grantor' as grantor,
           (item ->> 'level')::bigint as level, (item ->> 'granted_at')::timestamptz as granted_at,
           (item ->> 'expires_at')::timestamptz as expires_at, (item ->> 'revoked_at')::timestamptz as revoked_at
    from read_models.account_entitlements as present, json_array_elements(present.grants::json) as item
    where {condition}
"""

PARKED = """
    select aggregate_key, count(*), min(parked_at), (array_agg(error order by cut, position))[1]
    from read_models.parked_events where projection = $1 and pod = $2 group by aggregate_key order by aggregate_key
"""
OLDEST_UNAPPLIED = "select min(data_at) from lake.raw.cuts where pod = $pod and cut > $cut"


@dataclass(frozen=True, kw_only=True)
class View:
    """A read model: its name as a projection, and its tables."""

    name: str
    tables: tuple[ViewTable, ...]

    @property
    def aggregate_types(self) -> tuple[str, ...]:
        """The aggregates whose states it holds."""
        return tuple(dict.fromkeys(item.aggregate_type for item in self.tables))


def _compare(run: PodRun, view: View) -> Findings:
    dsn = run.context.read_models_dsn
    if dsn is None:
        raise ComparisonError("The read models cannot be looked at: this run was given no connection to them.")
    with snapshot_cursor(dsn) as cursor:
        stored = read_positions(cursor, view.name, run.pod)
        parked = _parked(cursor, view.name, run.pod)
        for item in view.tables:
            _read(run, cursor, item)
    _load_parked(run, parked)
    positions, beyond = known_positions(run, stored)
    _await_lake(run, view, positions)
    outcomes = [beyond, overdue(parked, run.context.now(), _pair_of(view).lag_seconds_max, run.context.limits)]
    extent = at_positions(run.connection, run.pod, positions)
    for aggregate_type in view.aggregate_types:
        fold(run.connection, extent, aggregate_type)
        for item in view.tables:
            if item.aggregate_type == aggregate_type:
                left, right = _sides(run, item)
                outcomes.append(compare(run.connection, item.shape, left, right, run.context.limits))
    floor = min((position.cut for position in positions), default=0)
    return Findings(
        outcomes=outcomes,
        cut=floor,
        cut_vector={str(position.partition): shown(position) for position in positions},
        late_aggregates=[one.key for one in parked],
        late_reason=_lateness(run, view, floor, len(parked)),
    )


def _read(run: PodRun, cursor: adbc.Cursor, item: ViewTable) -> None:
    """Read this pod's rows of a table into a scratch table; rows of pods that do not exist count as the first pod's."""
    known = sorted(run.context.pods)
    alias = "root" if item.root else "present"
    condition = f"{alias}.pod = $1 or (($1 = $2) and {alias}.pod <> all(string_to_array($3, ',')))"
    if item.root:
        condition += f" or ({alias}.pod is null and {_orphan(item)})"
    if item is GRANTS:
        query = GRANTS_QUERY.format(condition=condition)
    else:
        columns = ", ".join(f"present.{name}::{CASTS[item.shape.type_of(name)]}" for name in item.shape.names)
        join = f"left join read_models.{item.root} as root using (merchant_id, {item.id_column})" if item.root else ""
        columns = columns.replace("present.merchant_id", "merchant_id") if item.root else columns
        columns = columns.replace(f"present.{item.id_column}:", f"{item.id_column}:") if item.root else columns
        query = f"select {columns} from read_models.{item.name} as present {join} where {condition}"
    cursor.execute(query, (run.pod, known[0], ",".join(known)))
    load(run.connection, f"view_{item.name}", cursor.fetch_record_batch())


def _orphan(item: ViewTable) -> str:
    """Return the condition by which a row without its root belongs to the pod that has its merchant, or the first."""
    same = (
        f"(select min(other.pod) from read_models.{item.root} as other where other.merchant_id = present.merchant_id)"
    )
    return f"coalesce({same}, $2) = $1"


def _parked(cursor: adbc.Cursor, projection: str, pod: str) -> list[ParkedAggregate]:
    cursor.execute(PARKED, (projection, pod))
    return [
        ParkedAggregate(key=str(key), events=int(events), parked_at=parked_at, error=str(error))
        for key, events, parked_at, error in cursor.fetchall()
    ]


def _load_parked(run: PodRun, parked: Sequence[ParkedAggregate]) -> None:
    target = table("parked_keys")
    run.connection.execute(f"create or replace table {target} (aggregate_type varchar, aggregate_id varchar)")
    for one in parked:
        run.connection.execute(f"insert into {target} values ($1, $2)", [one.aggregate_type, one.aggregate_id])


def _await_lake(run: PodRun, view: View, positions: Sequence[PartitionPosition]) -> None:
    needed = max((position.cut + (1 if position.chunk else 0) for position in positions), default=0)
    allowed = _pair_of(view).lag_seconds_max
    if not wait_for(run.context, lambda: run.context.lake_cut(run.connection, run.pod) >= needed, allowed):
        raise LateError(f"The lake has not reached cut {needed} of {run.pod}, up to which {view.name} is applied.")


def _sides(run: PodRun, item: ViewTable) -> tuple[str, str]:
    """Write what the lake says a table must hold, and return it and what the table holds, parked keys apart."""
    expected = table(f"expected_{item.name}")
    states = {entity.shape.name: table(right_name(entity)) for entity in entities_of(item.aggregate_type)}
    run.connection.execute(f"create or replace table {expected} as {item.expected.format(**states)}")
    left_out = f"(select aggregate_id from {table('parked_keys')} where aggregate_type = '{item.aggregate_type}')"
    left = f"(select * from {expected} where {AGGREGATE_ID} not in {left_out})"
    right = f"(select * from {table('view_' + item.name)} where {item.id_column} not in {left_out})"
    return left, right


def _lateness(run: PodRun, view: View, floor: int, parked: int) -> str:
    """Return why the view is late, if it is: parked keys, or an unapplied cut older than the contract allows."""
    rows = run.connection.execute(OLDEST_UNAPPLIED, {"pod": run.pod, "cut": floor}).fetchall()
    oldest = rows[0][0]
    if oldest is not None:
        seconds = (run.context.now() - oldest).total_seconds()
        if seconds > _pair_of(view).lag_seconds_max:
            return f"{view.name} stands at cut {floor} of {run.pod}; the next one is {seconds:.0f} s old."
    return f"{parked} aggregates of {run.pod} are parked and were left out." if parked else ""


def _pair_of(view: View) -> Pair:
    return next(pair for pair in READ_MODEL_PAIRS if pair.name == f"lake_{view.name}")


def _pair(view: View, description: str) -> Pair:
    return Pair(
        name=f"lake_{view.name}",
        left="lake: the newest version of every aggregate, as of the view's positions",
        right=f"read models: {', '.join(item.name for item in view.tables)}",
        description=description,
        cannot_catch=(
            "Events that neither the lake nor the view has (the OLTP pairs find those); epochs, and columns that only "
            "serve the view's own bookkeeping."
        ),
        copy=view.name,
        stage=Stage.OWN,
        shapes=tuple(item.shape for item in view.tables),
        compare=lambda run: _compare(run, view),
    )


ACCOUNT_VIEW = View(name="account_view", tables=(*ACCOUNT, GRANTS))
FULFILLMENT_VIEW = View(name="fulfillment_view", tables=FULFILLMENT)
READ_MODEL_PAIRS = (
    _pair(ACCOUNT_VIEW, "Every row of a customer's orders, payments, refunds and entitlements."),
    _pair(FULFILLMENT_VIEW, "Every order with what is still to ship, and every reservation with what it holds."),
)
