"""What each store holds of one order, or of a gift card alone: the pod, the lake, the log, the marts, the read models.

Belongs here: reading, with roles and transactions that cannot write, and with bound values only. Does not belong here:
finding the order (`stack/looking/story/collecting.py`), how it is shown (`cli/commands/explain.py`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from contracts.errors import LogGapError
from contracts.ids import aggregate_key, partition_of
from contracts.settings import Settings
from derived.read_models.known import tables_with

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """An aggregate of the order; the order itself is one of them."""

    merchant_id: str
    type: str
    id: str

    @property
    def key(self) -> str:
        """Its key, as comparisons and repairs name it."""
        return aggregate_key(self.merchant_id, self.type, self.id)


@dataclass(frozen=True, kw_only=True)
class Place:
    """An order, or a gift card that no order names, with its pod and merchant."""

    pod: str
    merchant_id: str
    order_id: str
    """The card's id, of a card."""
    type: str = "order"
    """The aggregate's type: order, or gift_card."""
    order_number: str | None = None
    is_here: bool = True
    """Whether the merchant lives in the pod; of one that has moved away, its earlier pod still has rows."""


IS_HERE = "exists (select from oltp.residents as r where r.merchant_id = {table}.merchant_id) as is_here"
OF_ORDER = IS_HERE.format(table="orders")
# We compare ids as uuid, because a comparison as text cannot use the index. Breaks and alerts also name the aggregates
# of an order, so we also search for the id of a payment, a refund, a reservation, a fulfillment or a gift card.
FIND_BY_ID = f"""
select order_id::text, merchant_id, order_number, {OF_ORDER} from oltp.orders
where order_id = %(order)s::uuid or reservation_id = %(order)s::uuid
   or order_id in (
       select order_id from oltp.payments where payment_id = %(order)s::uuid
       union all select order_id from oltp.payments where gift_card_id = %(order)s::uuid
       union all select order_id from oltp.refunds where refund_id = %(order)s::uuid
       union all select order_id from oltp.refunds where gift_card_id = %(order)s::uuid
       union all select order_id from oltp.reservations where reservation_id = %(order)s::uuid
       union all select order_id from oltp.fulfillments where fulfillment_id = %(order)s::uuid
   )
"""
FIND_CARD = f"""
select gift_card_id::text as order_id, merchant_id, 'gift_card' as type, {IS_HERE.format(table="gift_cards")}
from oltp.gift_cards where gift_card_id = %(order)s::uuid
"""
FIND_BY_NUMBER = f"""
select order_id::text, merchant_id, order_number, {OF_ORDER} from oltp.orders where order_number = %(order)s
"""

OLTP_TABLES = {
    "orders": "select * from oltp.orders where order_id = %(order_id)s",
    "order_lines": "select * from oltp.order_lines where order_id = %(order_id)s order by line_number",
    "payments": "select * from oltp.payments where order_id = %(order_id)s order by payment_id",
    "payment_captures": """
        select c.* from oltp.payment_captures as c join oltp.payments as p on p.payment_id = c.payment_id
        where p.order_id = %(order_id)s order by c.payment_capture_id""",
    "payment_disputes": """
        select d.* from oltp.payment_disputes as d join oltp.payments as p on p.payment_id = d.payment_id
        where p.order_id = %(order_id)s order by d.payment_dispute_id""",
    "payment_movements": """
        select m.* from oltp.payment_movements as m join oltp.payments as p on p.payment_id = m.payment_id
        where p.order_id = %(order_id)s order by m.payment_movement_id""",
    "refunds": "select * from oltp.refunds where order_id = %(order_id)s order by refund_id",
    "gift_cards": """
        select * from oltp.gift_cards where gift_card_id in (
            select gift_card_id from oltp.payments where order_id = %(order_id)s
            union all select gift_card_id from oltp.refunds where order_id = %(order_id)s
            union all select %(order_id)s::uuid
        ) order by gift_card_id""",
    "reservations": """
        select * from oltp.reservations
        where order_id = %(order_id)s
           or reservation_id = (select reservation_id from oltp.orders where order_id = %(order_id)s)
        order by reservation_id""",
    "fulfillments": "select * from oltp.fulfillments where order_id = %(order_id)s order by fulfillment_id",
}
ROOTS = {
    "payments": ("payment", "payment_id"),
    "refunds": ("refund", "refund_id"),
    "gift_cards": ("gift_card", "gift_card_id"),
    "reservations": ("reservation", "reservation_id"),
    "fulfillments": ("fulfillment", "fulfillment_id"),
}
"""Tables whose rows are separate aggregates: the aggregates' type and the column of their id."""

# The cut of an event is the first whose snapshot sees the transaction that wrote it.
OUTBOX = """
select e.event_id::text, e.event_type, e.aggregate_type, e.aggregate_id, e.aggregate_version, e.merchant_id,
       e.position, e.occurred_at, e.recorded_at,
       (select min(c.cut) from oltp.cuts as c where pg_visible_in_snapshot(e.xid, c.snapshot)) as cut
from unnest(%(types)s::text[], %(ids)s::text[]) as wanted (aggregate_type, aggregate_id)
join oltp.outbox as e using (aggregate_type, aggregate_id)
order by e.position
"""

LAKE_EVENTS = """
select event_id, any_value(event_type) as event_type, any_value(aggregate_type) as aggregate_type,
       any_value(aggregate_id) as aggregate_id, any_value(aggregate_version) as aggregate_version,
       any_value(merchant_id) as merchant_id, any_value("position") as position,
       any_value(occurred_at) as occurred_at, any_value(recorded_at) as recorded_at, any_value(cut) as cut,
       any_value("partition") as partition, any_value(chunk) as chunk, count(*) as copies
from lake.raw.events
where pod = $pod and (
    aggregate_id = $order_id or contains(payload, $order_id)
    or aggregate_type = 'gift_card' and list_contains($gift_cards::varchar[], aggregate_id)
)
group by event_id order by position
"""
LAKE_FIND = """
select distinct aggregate_id, aggregate_type, merchant_id, pod from lake.raw.events
where aggregate_type = 'order' and (aggregate_id = $order or contains(payload, $number))
   or aggregate_type = 'gift_card' and aggregate_id = $order
"""
LAKE_PARKED = """
select aggregate_key, event_id, cut, error, parked_at from lake.raw.parked
where pod = $pod and aggregate_key in (select unnest($keys::varchar[])) order by parked_at
"""

MARTS = (
    "orders",
    "order_lines",
    "payments",
    "payment_captures",
    "refunds",
    "refund_lines",
    "reservations",
    "fulfillments",
    "tax_lines",
    "journal",
)
"""Marts with a column `order_id`."""
GIFT_CARDS_MART = """
select * from lake.marts.gift_cards
where pod = $pod and list_contains($gift_cards::varchar[], gift_card_id) order by gift_card_id
"""

VIEW_POSITIONS = """
select projection, min(cut) as cut, min(data_at) as data_at from read_models.positions where pod = %(pod)s
group by projection order by projection
"""
VIEW_PARKED = """
select projection, aggregate_key, event_id, cut, error, parked_at from read_models.parked_events
where pod = %(pod)s and aggregate_key = any(%(keys)s) order by parked_at
"""


@contextmanager
def reading(dsn: str) -> Iterator[psycopg.Connection[Row]]:
    """Open one snapshot of a database, in a transaction that cannot write."""
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        yield connection


def find_in_pod(dsn: str, pod: str, order: str, *, is_id: bool) -> list[Place]:
    """Return the orders of a pod with this id or number, or else the gift card with this id."""
    with reading(dsn) as connection:
        rows = connection.execute(FIND_BY_ID if is_id else FIND_BY_NUMBER, {"order": order}).fetchall()
        if is_id and not rows:
            rows = connection.execute(FIND_CARD, {"order": order}).fetchall()
    return [Place(pod=pod, **row) for row in rows]


def find_in_lake(connection: duckdb.DuckDBPyConnection, order: str) -> list[Place]:
    """Return the orders with this id or number, or the card, that have events in the lake; OLTP may have lost them."""
    bound = {"order": order, "number": f'"order_number":{json.dumps(order)}'}
    rows = connection.execute(LAKE_FIND, bound).fetchall()
    return [Place(pod=pod, merchant_id=merchant, order_id=found, type=kind) for found, kind, merchant, pod in rows]


def read_pod(dsn: str, place: Place) -> tuple[dict[str, list[Row]], list[Aggregate]]:
    """Return the pod's rows by table, and the aggregates among them."""
    with reading(dsn) as connection:
        tables = {
            name: connection.execute(query, {"order_id": place.order_id}).fetchall()
            for name, query in OLTP_TABLES.items()
        }
    found = [
        Aggregate(merchant_id=row["merchant_id"], type=kind, id=str(row[column]))
        for name, (kind, column) in ROOTS.items()
        for row in tables[name]
    ]
    return tables, [Aggregate(merchant_id=place.merchant_id, type=place.type, id=place.order_id), *found]


def read_outbox(dsn: str, aggregates: Collection[Aggregate]) -> list[Row]:
    """Return the events of these aggregates that the outbox still has, each with its cut, or null before its cut."""
    bound = {"types": [one.type for one in aggregates], "ids": [one.id for one in aggregates]}
    with reading(dsn) as connection:
        return connection.execute(OUTBOX, bound).fetchall()


def read_lake_events(connection: duckdb.DuckDBPyConnection, place: Place, gift_cards: Collection[str]) -> list[Row]:
    """Return the lake's events of the order, events whose payload names it, and the whole history of its gift cards.

    Each has its number of copies.
    """
    bound = {"pod": place.pod, "order_id": place.order_id, "gift_cards": sorted(gift_cards)}
    return rows_of(connection, LAKE_EVENTS, bound)


def read_lake_parked(connection: duckdb.DuckDBPyConnection, place: Place, keys: Sequence[str]) -> list[Row]:
    """Return the parked events on their way to the lake."""
    return rows_of(connection, LAKE_PARKED, {"pod": place.pod, "keys": list(keys)})


def read_marts(
    connection: duckdb.DuckDBPyConnection, place: Place, gift_cards: Collection[str]
) -> tuple[dict[str, list[Row]], Mapping[str, int]]:
    """Return the rows of every mart, and the warehouse's cuts; both are empty before the first build."""
    from derived.builds import latest_build

    latest = latest_build(connection)
    if latest is None:
        return {}, {}
    bound = {"pod": place.pod, "order_id": place.order_id}
    query = "select * from lake.marts.{} where pod = $pod and order_id = $order_id"
    tables = {name: rows_of(connection, query.format(name), bound) for name in MARTS}
    cards = rows_of(connection, GIFT_CARDS_MART, {"pod": place.pod, "gift_cards": sorted(gift_cards)})
    return {**tables, "gift_cards": cards}, latest.cuts


def read_views(dsn: str, place: Place, keys: Sequence[str]) -> tuple[dict[str, list[Row]], list[Row], list[Row]]:
    """Return the views' rows by table, their positions, and their parked events."""
    with reading(dsn) as connection:
        tables = {}
        for name in tables_with("order_id"):
            query = sql.SQL("select * from {} where merchant_id = %(merchant_id)s and order_id = %(order_id)s")
            tables[name] = connection.execute(query.format(sql.Identifier("read_models", name)), vars(place)).fetchall()
        positions = connection.execute(VIEW_POSITIONS, {"pod": place.pod}).fetchall()
        parked = connection.execute(VIEW_PARKED, {"pod": place.pod, "keys": list(keys)}).fetchall()
    return tables, positions, parked


def read_log(settings: Settings, pod: str, events: Sequence[Row]) -> dict[str, str]:
    """Return for every event (by id) the stream entry that holds it, or why no entry does."""
    from streams.logs import build_log

    with closing(build_log(settings)) as log:
        kept = log.manifests(pod, 0, limit=1)
        found: dict[str, str] = {}
        for cut in sorted({event["cut"] for event in events if event["cut"] is not None}):
            of_cut = [event for event in events if event["cut"] == cut]
            if kept and cut < kept[0].cut:
                found |= {event["event_id"]: "trimmed" for event in of_cut}
                continue
            found |= _entries_of_cut(log, pod, cut, of_cut)
    return found


def _entries_of_cut(log: Any, pod: str, cut: int, events: Sequence[Row]) -> dict[str, str]:
    from streams import codec
    from streams.log import EntryId

    manifests = [one for one in log.manifests(pod, cut - 1, limit=1) if one.cut == cut]
    if not manifests:
        return {event["event_id"]: "not published yet" for event in events}
    (manifest,) = manifests
    found = {event["event_id"]: "in no entry of its cut" for event in events}
    count = len(manifest.partitions)
    keys = (aggregate_key(one["merchant_id"], one["aggregate_type"], one["aggregate_id"]) for one in events)
    for partition in sorted({partition_of(key, count) for key in keys}):
        for chunk in range(len(manifest.partitions[partition])):
            at = EntryId(generation=manifest.generation, partition=partition, cut=cut, chunk=chunk)
            try:
                (data,) = log.fetch(pod, [at])
            except LogGapError:
                continue
            name = f"{log.entries_key(pod, at.generation, partition)} {cut}-{chunk}"
            held = set(codec.decode(data).column("event_id").to_pylist())
            found |= {event_id: name for event_id in found if event_id in held}
    return found


def rows_of(connection: duckdb.DuckDBPyConnection, query: str, bound: Mapping[str, Any]) -> list[Row]:
    """Return a query's rows as dictionaries by column."""
    cursor = connection.execute(query, dict(bound))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
