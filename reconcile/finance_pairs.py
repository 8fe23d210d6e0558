"""Operations <-> finance: OLTP's tables against the warehouse's marts, as of the cut at which OLTP was read.

The marts are views over stored history. When a session's variable `as_of` names a cut per pod, they show exactly that
cut, so later events make no difference. Belongs here: which mart column must equal which value in OLTP, as SQL of the
comparison's own. Does not belong here: the models (`dbt_project/`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.errors import LateError
from contracts.text import are, counted
from contracts.verdicts import Scalar
from reconcile.compare import compare
from reconcile.entities import AGGREGATE_ID, entities_of
from reconcile.oltp_side import left_name
from reconcile.pair import Findings, Pair, PodRun, Stage, Sweep
from reconcile.scratch import table
from reconcile.shapes import TIMESTAMP, Column, Shape, belongs_to, number, quoted, text

CANNOT_CATCH = (
    "A value that OLTP itself has wrong; what a mart says of an earlier cut; columns that a mart does not have. "
    "Everything a mart adds by itself (event times, recorded_at) is not compared."
)


AS_OF = "set variable as_of = map($pods::VARCHAR[], $cuts::BIGINT[])"
OF_POD = "pod = $pod"
EVERY_CUT = 2**62


@dataclass(frozen=True, kw_only=True)
class Mart:
    """A mart, and the query over OLTP's scratch tables that it must equal.

    In `left`, ``{orders}`` is replaced by the scratch table of OLTP's orders, and so on; it returns the shape's
    columns.
    """

    shape: Shape
    left: str
    right: str
    """The mart's query; it returns the shape's columns, and filters by ``pod = $pod`` when the mart has that column."""
    id_column: str | None = None
    """The column with the id of a row's aggregate; None when rows are sums over several aggregates."""

    @property
    def entities(self) -> tuple[str, ...]:
        """The OLTP tables that `left` reads."""
        return tuple(sorted(set(re.findall(r"\{(\w+)\}", self.left))))


def mart_view(run: PodRun, mart: Mart) -> tuple[str, str]:
    """Write both sides of a mart into scratch tables as of the run's cut; return their names."""
    left, right = table("mart_left"), table("mart_right")
    names = {name: table(left_name(run.pod, name)) for name in mart.entities}
    run.connection.execute(f"create or replace table {left} as from {_looked_at(run, mart, mart.left.format(**names))}")
    write_as_of(run, right, _looked_at(run, mart, mart.right))
    return left, right


def write_as_of(run: PodRun, target: str, relation: str) -> None:
    """Write what a relation over the marts holds of the run's pod, as of its cut, into a table.

    A mart with a column `pod` is asked for ``pod = $pod``; one without it shows, as of the cut, nothing of other pods
    either. Merchants that moved away are left out; of those that came, everything is taken, whichever pod it came by.
    """
    connection, pods = run.connection, {run.pod: run.cut}
    bound = {"pod": run.pod} if OF_POD in relation else {}
    connection.execute(AS_OF, {"pods": list(pods), "cuts": list(pods.values())})
    moved = [*run.moved.away, *run.moved.here]
    stayed = (
        f"(select * from {relation} where not list_contains($moved::VARCHAR[], merchant_id))" if moved else relation
    )
    connection.execute(
        f"create or replace table {target} as from {stayed}", bound | ({"moved": moved} if moved else {})
    )
    if run.moved.here:
        pods = dict.fromkeys(run.context.pods, EVERY_CUT) | pods
        connection.execute(AS_OF, {"pods": list(pods), "cuts": list(pods.values())})
        came = relation.replace(OF_POD, "true")
        connection.execute(
            f"insert into {target} by name select * from {came} where list_contains($came::VARCHAR[], merchant_id)",
            {"came": list(run.moved.here)},
        )
    connection.execute("reset variable as_of")


def _looked_at(run: PodRun, mart: Mart, query: str) -> str:
    return f"({query})" if mart.id_column is None else run.in_scope(f"({query})", mart.id_column)


def fields(aggregate_type: str, part: str | None = None) -> tuple[Column, ...]:
    """Return the payload fields of an aggregate or of one of its parts."""
    return next(entity for entity in entities_of(aggregate_type) if entity.field == part).fields


def _names(columns: Sequence[Column], alias: str) -> str:
    return ", ".join(f"{alias}.{quoted(column.name)}" for column in columns)


def _of_mart(name: str, columns: Sequence[Column], dates: Sequence[str] = ()) -> str:
    shown = [f"{quoted(column.name)}::{column.type} as {quoted(column.name)}" for column in columns]
    shown += [f"strftime({quoted(date)}, '%Y-%m-%d') as {quoted(date)}" for date in dates]
    return f"select {', '.join(shown)} from lake.marts.{name} where pod = $pod"


def _root_mart(aggregate_type: str, name: str, date: tuple[str, str], extra: tuple[str, str] | None = None) -> Mart:
    """Return a mart with one row per aggregate: its fields, the day of one timestamp, and one computed amount."""
    columns = fields(aggregate_type)
    if aggregate_type in ("adjustment", "stock_movement"):
        columns = tuple(column for column in columns if column.name != "version")  # always 1
    key = entities_of(aggregate_type)[0].id_field
    computed = f", ({extra[1]})::BIGINT as {extra[0]}" if extra else ""
    source = entities_of(aggregate_type)[0].shape.name
    added = number(extra[0]) if extra else ()
    has_version = any(column.name == "version" for column in columns)
    return Mart(
        shape=Shape(
            name=f"marts.{name}",
            key=(key,),
            columns=(*columns, *added, *text(date[0])),
            day=date[0],
            currency="currency" if any(column.name == "currency" for column in columns) else None,
            version="version" if has_version else None,
            aggregate=belongs_to(aggregate_type, key),
        ),
        left=f"select {_names(columns, 't')}, strftime(t.{date[1]}, '%Y-%m-%d') as {date[0]}{computed} "
        f"from {{{source}}} as t",
        right=_of_mart(name, (*columns, *added), [date[0]]),
        id_column=key,
    )


def _part_mart(
    aggregate_type: str, part: str, name: str, key: str, of_root: Sequence[Column], date: tuple[str, str] | None
) -> Mart:
    """Return a mart with one row per part of an aggregate: the part's fields, some fields of the root, the day."""
    root, entity = (next(e for e in entities_of(aggregate_type) if e.field == wanted) for wanted in (None, part))
    columns = (*entity.fields, *of_root)
    day = f", strftime({date[1]}, '%Y-%m-%d') as {date[0]}" if date else ""
    return Mart(
        shape=Shape(
            name=f"marts.{name}",
            key=(key,),
            columns=(*columns, *(text(date[0]) if date else ())),
            day=date[0] if date else None,
            currency="currency" if any(column.name == "currency" for column in of_root) else None,
            aggregate=belongs_to(aggregate_type, root.id_field),
        ),
        left=f"select {_names(entity.fields, 'p')}, {_names(of_root, 't')}{day} from {{{entity.shape.name}}} as p "
        f"left join {{{root.shape.name}}} as t on t.{AGGREGATE_ID} = p.{AGGREGATE_ID}",
        right=_of_mart(name, columns, [date[0]] if date else []),
        id_column=root.id_field,
    )


ORDERS = (
    _root_mart("order", "orders", ("order_date", "placed_at"), ("net_minor", "t.total_minor - t.cancelled_minor")),
    _part_mart(
        "order",
        "lines",
        "order_lines",
        "order_line_id",
        text("order_id", "merchant_id", "currency"),
        ("order_date", "t.placed_at"),
    ),
)
PAYMENTS = (
    _root_mart(
        "payment",
        "payments",
        ("authorized_date", "authorized_at"),
        ("net_minor", "t.captured_minor - t.returned_minor - t.refunded_minor"),
    ),
    _part_mart(
        "payment",
        "captures",
        "payment_captures",
        "payment_capture_id",
        text("payment_id", "order_id", "merchant_id", "currency"),
        ("captured_date", "p.captured_at"),
    ),
)
REFUNDS = (
    _root_mart(
        "refund",
        "refunds",
        ("refund_date", "completed_at"),
        ("refunded_minor", "case when t.status = 'completed' then t.amount_minor else 0 end"),
    ),
    _part_mart(
        "refund",
        "lines",
        "refund_lines",
        "refund_line_id",
        text("refund_id", "order_id", "merchant_id", "currency", "status"),
        ("refund_date", "t.completed_at"),
    ),
)
ADJUSTMENTS = (_root_mart("adjustment", "adjustments", ("adjustment_date", "adjusted_at")),)
GIFT_CARDS = (_root_mart("gift_card", "gift_cards", ("issued_date", "issued_at")),)
INVENTORY = (_root_mart("stock_movement", "inventory_movements", ("movement_date", "moved_at")),)
FULFILLMENTS = (
    _part_mart(
        "fulfillment",
        "lines",
        "fulfillments",
        "fulfillment_line_id",
        (
            *text("fulfillment_id", "order_id", "merchant_id", "location_id", "tracking_number"),
            Column(name="shipped_at", type=TIMESTAMP),
        ),
        ("shipped_date", "t.shipped_at"),
    ),
)

HELD = "p.quantity - p.consumed_quantity - p.released_quantity"
RESERVATION_COLUMNS = (
    *fields("reservation", "lines"),
    *text("reservation_id", "merchant_id", "order_id", "status"),
    Column(name="expires_at", type=TIMESTAMP),
    *number("version"),
)
RESERVATIONS = (
    Mart(
        shape=Shape(
            name="marts.reservations",
            key=("reservation_line_id",),
            columns=(*RESERVATION_COLUMNS, *number("held_quantity")),
            version="version",
            aggregate=belongs_to("reservation", "reservation_id"),
        ),
        left=f"select {_names(fields('reservation', 'lines'), 'p')}, t.reservation_id, t.merchant_id, t.order_id, "
        f"t.status, t.expires_at, t.version, ({HELD})::BIGINT as held_quantity from {{reservation_lines}} as p "
        f"left join {{reservations}} as t on t.{AGGREGATE_ID} = p.{AGGREGATE_ID}",
        right=_of_mart("reservations", (*RESERVATION_COLUMNS, *number("held_quantity"))),
        id_column="reservation_id",
    ),
)

ENTITLEMENT_COLUMNS = (
    *text("entitlement_id", "merchant_id", "customer_id", "feature"),
    *number("effective_level", "grant_count", "version"),
    *text("effective_grant_id"),
    Column(name="expires_at", type=TIMESTAMP),
)


def _entitlements(holder: str, customer: str) -> str:
    return f"""
        select e.entitlement_id, e.merchant_id, {customer} as customer_id, e.feature, e.effective_level,
               (select count(*) from {{{holder}_entitlement_grants}} as g where g.{AGGREGATE_ID} = e.{AGGREGATE_ID})
               as grant_count, e.version, e.effective_grant_id, b.expires_at
        from {{{holder}_entitlements}} as e
        left join {{{holder}_entitlement_grants}} as b
          on b.{AGGREGATE_ID} = e.{AGGREGATE_ID} and b.grant_id = e.effective_grant_id"""


def _entitlement(row: Mapping[str, Scalar]) -> str | None:
    holder = "merchant" if row["customer_id"] is None else "customer"
    return belongs_to(f"{holder}_entitlement", "entitlement_id")(row)


ENTITLEMENTS = (
    Mart(
        shape=Shape(
            name="marts.entitlements",
            key=("entitlement_id",),
            columns=ENTITLEMENT_COLUMNS,
            version="version",
            aggregate=_entitlement,
        ),
        left=f"{_entitlements('merchant', 'null::VARCHAR')} union all {_entitlements('customer', 'e.customer_id')}",
        right=_of_mart("entitlements", ENTITLEMENT_COLUMNS),
        id_column="entitlement_id",
    ),
)


def refuse_parked(run: PodRun, aggregate_types: Sequence[str]) -> None:
    """Raise LateError if the lake has parked aggregates of these types: the warehouse cannot have their events."""
    number = sum(one.aggregate_type in aggregate_types for one in run.parked())
    if number:
        raise LateError(f"{counted(number, 'aggregate')} of {run.pod} {are(number)} parked on their way to the lake.")


def _compare(run: PodRun, marts: Sequence[Mart], aggregate_types: Sequence[str]) -> Findings:
    refuse_parked(run, aggregate_types)
    outcomes = []
    for mart in marts:
        left, right = mart_view(run, mart)
        outcomes.append(compare(run.connection, mart.shape, left, right, run.context.limits))
    return Findings(outcomes=outcomes)


def finance_pair(
    fact: str,
    marts: Sequence[Mart],
    types: tuple[str, ...],
    description: str,
    *,
    cannot_catch: str = CANNOT_CATCH,
    queries: Mapping[str, str] | None = None,
) -> Pair:
    """Return the pair that compares `marts` with OLTP's tables of the aggregate types `types`.

    With `queries`, it compares sums that these PostgreSQL queries compute over the tables; it is always complete.
    """
    names = ", ".join(mart.shape.name for mart in marts)
    return Pair(
        name=f"operational_finance.{fact}",
        left=f"OLTP: {', '.join(sorted({entity for mart in marts for entity in mart.entities}))}",
        right=f"warehouse: {names}, as of the cut",
        description=description,
        cannot_catch=cannot_catch,
        copy="warehouse",
        stage=Stage.WAREHOUSE,
        shapes=tuple(mart.shape for mart in marts),
        compare=lambda run: _compare(run, marts, types),
        aggregate_types=() if queries else types,
        queries=queries or {},
        sweep=Sweep.WHOLE if queries else Sweep.AGGREGATES,
    )


FINANCE_PAIRS = (
    finance_pair("orders", ORDERS, ("order",), "Every order and order line, by merchant, order day and currency."),
    finance_pair("payments", PAYMENTS, ("payment",), "Every payment and capture, by merchant, day and currency."),
    finance_pair(
        "refunds", REFUNDS, ("refund",), "Every refund and refund line, by merchant, day of completion and currency."
    ),
    finance_pair(
        "reservations", RESERVATIONS, ("reservation",), "Every line of every reservation, with what it still holds."
    ),
    finance_pair(
        "entitlements",
        ENTITLEMENTS,
        ("merchant_entitlement", "customer_entitlement"),
        "What every merchant and customer is entitled to, by the grant that decides.",
    ),
    finance_pair("adjustments", ADJUSTMENTS, ("adjustment",), "Every adjustment, by merchant, day and currency."),
    finance_pair("gift_cards", GIFT_CARDS, ("gift_card",), "Every gift card, by merchant, day of issue and currency."),
    finance_pair("inventory", INVENTORY, ("stock_movement",), "Every stock movement, by merchant and day."),
    finance_pair("fulfillments", FULFILLMENTS, ("fulfillment",), "Every fulfilled line, by merchant and day."),
)
