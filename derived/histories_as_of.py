"""Reading the stored histories of aggregates as of a cut; later versions are judged against them.

Belongs here: SQL over the stored histories. Does not belong here: the events themselves (`derived/judging.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import duckdb

from contracts.events import STATE_TYPES
from derived import unexplained
from derived.defective import Before
from derived.defects import taxed_lines, taxed_places
from derived.lake_connection import LAKE, quote

Connection = duckdb.DuckDBPyConnection

LEFT_OUT_EVENTS = f"{LAKE}.builds.left_out_events"
"""The events of scopes that are or were left out; `derived/leaving_out.py` writes them."""

BEFORE_AMOUNTS = {
    "order": "json_object('placed_minor', total_minor, 'cancelled_minor', cancelled_minor)",
    "payment": "json_object('captured_minor', captured_minor - returned_minor, 'refunded_minor', refunded_minor)",
    "refund": "json_object('refunded_minor', if(status = 'completed', amount_minor, 0))",
    "adjustment": "json_object('adjusted_minor', amount_minor)",
}

BEFORE_TAXED = {
    "order": taxed_lines("lines", "line_taxes", "order_line_id"),
    "refund": taxed_lines("lines", "line_taxes", "refund_line_id"),
    "adjustment": taxed_places("history", "taxes"),
}

BEFORE_CONSTANT = {
    "order": unexplained.order_constant("history", "line_taxes"),
    "payment": unexplained.payment_constant("history"),
    "refund": unexplained.refund_constant("history", "line_taxes"),
    "adjustment": unexplained.adjustment_constant("history", "tax_minor", "taxes"),
    "gift_card": unexplained.gift_card_constant("history"),
}

BEFORE_PARTS = {
    "order": unexplained.order_parts("history"),
    "payment": unexplained.payment_parts(
        "history",
        "released_minor",
        ("disputed_minor", "charged_back_minor", "dispute_fee_minor"),
        "coalesce(movements, [])",
    ),
    "gift_card": unexplained.gift_card_parts("history"),
}

NO_TAXED = "[]::VARCHAR[]"

STANDING = {
    "aggregate_id": "VARCHAR",
    "version": "BIGINT",
    "merchant_id": "VARCHAR",
    "currency": "VARCHAR",
    "order_id": "VARCHAR",
    "payment_id": "VARCHAR",
    "amount": "BIGINT",
}


def compared_before(connection: Connection, pod: str, aggregate_type: str, since: int) -> str:
    """Return a query for the earlier values that versions are compared with, for aggregates in the query's `added`."""
    if aggregate_type not in BEFORE_CONSTANT or not _had_history(connection, aggregate_type, since):
        columns = "aggregate_id, null::VARCHAR[] as taxed, null::UBIGINT as constant, null::UBIGINT[] as parts"
        return f"select null::VARCHAR as {columns} where false"
    key = STATE_TYPES[aggregate_type].ID_FIELD
    return f"""select {key} as aggregate_id, list_sort({BEFORE_TAXED.get(aggregate_type, NO_TAXED)}) as taxed,
                      {BEFORE_CONSTANT[aggregate_type]} as constant,
                      {BEFORE_PARTS.get(aggregate_type, unexplained.NO_PARTS)} as parts
               from {history_of(aggregate_type)} as history
               where {stood(pod, since)} and {key} in (select aggregate_id from added where first > 1)"""


def standing(connection: Connection, pod: str, aggregate_type: str, since: int) -> str:
    """Return a query for a type's rows as of a cut; `amount`: refunded amount of a payment or refund (minor units)."""
    names = ", ".join(f"null::{kind} as {name}" for name, kind in STANDING.items())
    if not _had_history(connection, aggregate_type, since):
        return f"select {names} where false"
    fields = STATE_TYPES[aggregate_type].__struct_fields__
    named = ("currency", "order_id", "payment_id")
    amount = {"payment": "refunded_minor", "refund": "if(status = 'completed', amount_minor, 0)"}
    return f"""select {STATE_TYPES[aggregate_type].ID_FIELD} as aggregate_id, version, merchant_id,
                      {", ".join(f"{name if name in fields else 'null::VARCHAR'} as {name}" for name in named)},
                      {amount.get(aggregate_type, "0")} as amount
               from {history_of(aggregate_type)} where {stood(pod, since)}"""


def _had_history(connection: Connection, aggregate_type: str, since: int) -> bool:
    return since > 0 and has_history(connection, aggregate_type)


def has_history(connection: Connection, aggregate_type: str) -> bool:
    """Return whether the warehouse stores the history of a type in the current form.

    Before the first build there is none. A history that an earlier release made is recomputed, so it counts as none.
    """
    name = history_of(aggregate_type).rpartition(".")[2]
    query = """select count(*) from duckdb_columns() where database_name = ? and schema_name = 'intermediate'
               and table_name = ? and column_name in ('valid_to_pod', 'directory_epoch')"""
    return rows_of(connection, query, [LAKE, name]) == [(2,)]


def histories_of(
    connection: Connection, pod: str, aggregate_type: str, ids: Iterable[str], since: int
) -> dict[str, Before]:
    """Return id -> state in the histories as of the cut `since`; ids without history are missing."""
    return before_of(connection, pod, aggregate_type, since, STATE_TYPES[aggregate_type].ID_FIELD, set(ids))


def before_of(
    connection: Connection, pod: str, aggregate_type: str, since: int, column: str, ids: set[str]
) -> dict[str, Before]:
    """Return the same for the aggregates whose `column` has one of these ids."""
    if not ids or not _had_history(connection, aggregate_type, since):
        return {}
    names = set(STATE_TYPES[aggregate_type].__struct_fields__)
    homes = ", ".join(name if name in names else "null" for name in ("currency", "order_id", "payment_id"))
    amounts = BEFORE_AMOUNTS.get(aggregate_type, "json_object()")
    rows = rows_of(
        connection,
        f"""select {STATE_TYPES[aggregate_type].ID_FIELD}, version, merchant_id, {homes},
                   {amounts}::VARCHAR, {BEFORE_TAXED.get(aggregate_type, NO_TAXED)},
                   {BEFORE_CONSTANT.get(aggregate_type, unexplained.NO_CONSTANT)},
                   {BEFORE_PARTS.get(aggregate_type, unexplained.NO_PARTS)}
            from {history_of(aggregate_type)} as history
            where {stood(pod, since)} and {column} in (select unnest($ids::VARCHAR[]))""",
        {"ids": sorted(ids)},
    )
    return {
        row[0]: Before(
            version=row[1],
            merchant_id=row[2],
            currency=row[3],
            order_id=row[4],
            payment_id=row[5],
            amounts=json.loads(row[6]),
            taxed=row[7],
            constant=row[8],
            parts=row[9],
        )
        for row in rows
    }


def stood(pod: str, since: int) -> str:
    """Return a condition: the history's row was valid in `pod` at the cut, according to that pod's own events."""
    name = quote(pod)
    ended = f"valid_to_cut is null or valid_to_pod <> {name} or valid_to_cut > {since}"
    return f"(pod = {name} and valid_from_cut <= {since} and ({ended}))"


def window_of(pod: str, since: int, cut: int) -> str:
    """Return a condition on raw events: those of `pod` after the cut `since`, up to `cut`."""
    return f"(pod = {quote(pod)} and cut > {since} and cut <= {cut})"


def history_of(aggregate_type: str) -> str:
    """Return the address of the stored history of a type."""
    return f"{LAKE}.intermediate.int_{aggregate_type}s_history"


def has_table(connection: Connection, name: str, schema: str = "builds") -> bool:
    """Return whether the lake has the table."""
    query = "select 1 from duckdb_tables() where database_name = ? and schema_name = ? and table_name = ?"
    return bool(rows_of(connection, query, [LAKE, schema, name]))


def rows_of(connection: Connection, query: str, parameters: object = None) -> list[tuple[Any, ...]]:
    """Return all rows of a query."""
    return connection.execute(query, parameters).fetchall()
