"""Damage by hand: what a person with a database prompt can do to every store, one function each.

Belongs here: the damages and which comparison must find them. Does not belong here: finding and repairing
(`bench/repairs.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import psycopg
import redis

from contracts.settings import Settings
from derived.lake_connection import connect_lake
from derived.lake_reads import lake_positions
from streams.valkey_log import build_log
from traffic.generator import place_orders

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where damage is done."""

    settings: Settings
    pod: str

    @contextmanager
    def lake(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write to the lake."""
        with connect_lake(self.settings.catalog_dsn, self.settings.lake_data_path) as lake:
            yield lake

    def change_lake(self, statement: str, values: dict[str, Any] | None = None) -> None:
        """Run one statement in the lake, again when a worker's commit was faster."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self.lake() as lake:
            while True:
                try:
                    lake.execute(statement, values or {})
                    return
                except duckdb.TransactionException:
                    if time.monotonic() > deadline:
                        raise

    def views(self) -> psycopg.Connection[Any]:
        """A connection to the read models."""
        return psycopg.connect(self.settings.read_models_dsn)

    def oltp(self) -> psycopg.Connection[Any]:
        """A connection to the pod as its owner."""
        return psycopg.connect(self.settings.pod(self.pod).owner_dsn)


Damage = Callable[[Place], None]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One kind of damage to one store, the pairs that must find it, and what becomes of it."""

    name: str
    store: str
    damage: Damage
    pairs: tuple[str, ...]
    is_repaired: bool = True
    """False: it must be put before people, unrepaired."""
    undo: Damage | None = None
    """What a person does about it, where code must not; or the fix that a repair waits for."""
    is_fixed_first: bool = False
    """Whether `undo` comes before the repair: a fix is deployed, and the repair replays."""
    may_mend_itself: bool = False
    """Whether running workers may have mended it before anybody looks."""
    needs_build: bool = False


NEWEST = """
    select event_id, payload from lake.raw.events where pod = $pod and aggregate_type = $type
      and event_type = $event order by cut desc, event_id limit $number
"""


def _events(place: Place, aggregate_type: str, event_type: str, number: int = 1) -> list[tuple[str, dict[str, Any]]]:
    bound = {"pod": place.pod, "type": aggregate_type, "event": event_type, "number": number}
    with place.lake() as lake:
        return [(event_id, json.loads(payload)) for event_id, payload in lake.execute(NEWEST, bound).fetchall()]


def _rewrite(place: Place, event_id: str, payload: dict[str, Any]) -> None:
    text = json.dumps(payload, separators=(",", ":"))
    place.change_lake("update lake.raw.events set payload = $text where event_id = $id", {"text": text, "id": event_id})


def lose_event(place: Place) -> None:
    """Delete an order's event from the lake."""
    ((event_id, _),) = _events(place, "order", "order_placed")
    place.change_lake("delete from lake.raw.events where event_id = $id", {"id": event_id})


def double_event(place: Place) -> None:
    """Insert an order's event a second time."""
    ((event_id, _),) = _events(place, "order", "order_placed")
    statement = "insert into lake.raw.events select * from lake.raw.events where event_id = $id"
    place.change_lake(statement, {"id": event_id})


def change_amount(place: Place, difference: int = 1) -> None:
    """Change what a payment captured by one minor unit."""
    ((event_id, payload),) = _events(place, "payment", "payment_captured")
    payload["state"]["captured_minor"] += difference
    _rewrite(place, event_id, payload)


def change_currency(place: Place) -> None:
    """Make a payment one in another currency."""
    ((event_id, payload),) = _events(place, "payment", "payment_captured")
    payload["state"]["currency"] = "JPY" if payload["state"]["currency"] != "JPY" else "GBP"
    _rewrite(place, event_id, payload)


def change_two_amounts(place: Place) -> None:
    """Add one minor unit to a payment and take it from another: every total stays what it was."""
    for difference, (event_id, payload) in zip((1, -1), _events(place, "payment", "payment_captured", 2), strict=True):
        payload["state"]["captured_minor"] += difference
        _rewrite(place, event_id, payload)


def forge_event(place: Place) -> None:
    """Insert an event that no command wrote: a version of an order that OLTP never had."""
    ((event_id, _),) = _events(place, "order", "order_placed")
    place.change_lake(
        """insert into lake.raw.events by name select * replace (
               uuid()::varchar as event_id, aggregate_version + 50 as aggregate_version,
               replace(payload, '"version":', '"version":9') as payload)
           from lake.raw.events where event_id = $id""",
        {"id": event_id},
    )


def bypass_outbox(place: Place) -> None:
    """Change an order past the commands, as a script does that somebody runs by hand."""
    with place.oltp() as connection:
        connection.execute("select oltp.declare_bypass('a script run by hand')")
        connection.execute(
            """update oltp.orders set customer_id = 'a customer by hand'
               where order_id = (select order_id from oltp.orders order by placed_at desc, order_id limit 1)"""
        )


def lose_log_entry(place: Place) -> None:
    """Delete the newest entry of the log that has events."""
    with redis.Redis.from_url(place.settings.log_url) as client:
        log = build_log(place.settings)
        generation = log.tail(place.pod, 1).generation
        for partition in range(place.settings.partition_count):
            key = log.entries_key(place.pod, generation, partition)
            entries: Any = client.xrevrange(key, count=1)
            if entries:
                client.xdel(key, entries[0][0])
                break
        log.close()


def _view(statement: str) -> Damage:
    def damage(place: Place) -> None:
        with place.views() as connection:
            connection.execute(statement.encode(), {"pod": place.pod})

    return damage


OF_ONE_PAYMENT = "payment_id = (select max(payment_id) from read_models.account_payments where pod = %(pod)s)"
lose_row = _view(f"delete from read_models.account_payments where {OF_ONE_PAYMENT}")
age_row = _view(f"update read_models.account_payments set version = version - 1 where {OF_ONE_PAYMENT}")
change_row = _view(
    f"update read_models.account_payments set captured_minor = captured_minor - 1 where {OF_ONE_PAYMENT}"
)
truncate_view = _view("delete from read_models.fulfillment_orders where pod = %(pod)s")
set_back = _view(
    "update read_models.positions set cut = greatest(cut - 3, 0), chunk = 0 "
    "where projection = 'account_view' and pod = %(pod)s"
)


def add_row(place: Place) -> None:
    """Insert a payment that nobody made."""
    with place.views() as connection:
        connection.execute("create temp table ghost (like read_models.account_payments) on commit drop")
        connection.execute(
            f"insert into ghost select * from read_models.account_payments where {OF_ONE_PAYMENT}".encode(),
            {"pod": place.pod},
        )
        connection.execute("update ghost set payment_id = '01970000-0000-7000-8000-000000000000'")
        connection.execute("insert into read_models.account_payments select * from ghost")


def skip_events(place: Place) -> None:
    """Move a view's position past events that it has not applied."""
    with place.views() as connection:
        # The consumer waits for this lock while new orders reach the lake.
        connection.execute(
            "select from read_models.positions where projection = 'account_view' and pod = %s for update", [place.pod]
        )
        before = _lake_cut(place)
        place_orders(place.settings, orders=4, seed=before)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while _lake_cut(place) <= before and time.monotonic() < deadline:
            time.sleep(0.05)
        connection.execute(
            """update read_models.positions set cut = %s, chunk = 0
               where projection = 'account_view' and pod = %s""",
            [_lake_cut(place), place.pod],
        )


def _lake_cut(place: Place) -> int:
    with place.lake() as lake:
        return min(position.cut for position in lake_positions(lake, place.pod).values())


REFUSING = """
    create or replace function read_models.refuse() returns trigger language plpgsql as
    'begin raise exception using errcode = ''22023'', message = ''this version cannot store it''; end'
"""


def park_events(place: Place) -> None:
    """Let the account view refuse new orders for a while: they are parked, with what follows them."""
    with place.views() as connection:
        connection.execute(REFUSING)
        connection.execute(
            """create or replace trigger refuse before insert or update on read_models.account_orders
               for each row execute function read_models.refuse()"""
        )
    place_orders(place.settings, orders=6, seed=_lake_cut(place))
    deadline = time.monotonic() + PATIENCE_SECONDS
    with place.views() as connection:
        connection.autocommit = True
        # As if it had been an hour: nobody is told of what is parked for a moment.
        aged = "update read_models.parked_events set parked_at = parked_at - interval '1 hour' where pod = %s"
        while not connection.execute(aged, [place.pod]).rowcount and time.monotonic() < deadline:
            time.sleep(0.05)


fix_view = _view("drop trigger if exists refuse on read_models.account_orders")


def change_mart(place: Place) -> None:
    """Change an order's total in the warehouse."""
    place.change_lake(
        """update lake.intermediate.int_orders_history set total_minor = total_minor + 1
           where pod = $pod and valid_to_cut is null
             and order_id = (select max(order_id) from lake.intermediate.int_orders_history where pod = $pod)""",
        {"pod": place.pod},
    )


def lose_journal_entry(place: Place) -> None:
    """Delete one line of the journal."""
    place.change_lake(
        """delete from lake.intermediate.int_journal_entries where pod = $pod and account = 'cash'
           and event_id = (select max(event_id) from lake.intermediate.int_journal_entries
                           where pod = $pod and event_type = 'payment_captured')""",
        {"pod": place.pod},
    )


def _past_the_triggers(table: str, statement: str) -> Damage:
    def damage(place: Place) -> None:
        with place.oltp() as connection:
            connection.execute(f"alter table oltp.{table} disable trigger user".encode())
            connection.execute(statement.encode())
            connection.execute(f"alter table oltp.{table} enable trigger user".encode())

    return damage


A_REFUND = "refund_id = (select refund_id from oltp.refunds where status = 'completed' order by refund_id limit 1)"
refund_too_much = _past_the_triggers(
    "refunds", f"update oltp.refunds set amount_minor = amount_minor + 1000000 where {A_REFUND}"
)
correct_refund = _past_the_triggers(
    "refunds", f"update oltp.refunds set amount_minor = amount_minor - 1000000 where {A_REFUND}"
)

LAKE, LOG, OLTP, VIEW, FULFILLMENT = "lake", "log", "oltp", "account_view", "fulfillment_view"
IN_LAKE = ("oltp_lake.order", "oltp_lake.payment", "log_manifests")
IN_VIEW, IN_FULFILLMENT = ("lake_account_view",), ("lake_fulfillment_view",)
IN_MARTS = ("operational_finance.orders", "operational_finance.daily_sales", "journal_identities")

CELLS: tuple[Cell, ...] = (
    Cell(name="event lost", store=LAKE, damage=lose_event, pairs=IN_LAKE),
    Cell(name="event twice", store=LAKE, damage=double_event, pairs=IN_LAKE),
    Cell(name="amount changed by one", store=LAKE, damage=change_amount, pairs=IN_LAKE),
    Cell(name="currency changed", store=LAKE, damage=change_currency, pairs=IN_LAKE),
    Cell(name="two errors that cancel", store=LAKE, damage=change_two_amounts, pairs=IN_LAKE),
    Cell(name="event forged", store=LAKE, damage=forge_event, pairs=IN_LAKE),
    Cell(name="write past the outbox", store=OLTP, damage=bypass_outbox, pairs=IN_LAKE),
    Cell(name="log entry lost", store=LOG, damage=lose_log_entry, pairs=("log_manifests",)),
    Cell(name="row missing", store=VIEW, damage=lose_row, pairs=IN_VIEW),
    Cell(name="row extra", store=VIEW, damage=add_row, pairs=IN_VIEW),
    Cell(name="row stale", store=VIEW, damage=age_row, pairs=IN_VIEW),
    Cell(name="row changed", store=VIEW, damage=change_row, pairs=IN_VIEW),
    Cell(name="table emptied", store=FULFILLMENT, damage=truncate_view, pairs=IN_FULFILLMENT),
    Cell(name="position moved back", store=VIEW, damage=set_back, pairs=IN_VIEW, may_mend_itself=True),
    Cell(name="position moved forward", store=VIEW, damage=skip_events, pairs=IN_VIEW),
    Cell(name="events parked", store=VIEW, damage=park_events, pairs=IN_VIEW, undo=fix_view, is_fixed_first=True),
    Cell(
        name="refunded more than captured",
        store=OLTP,
        damage=refund_too_much,
        pairs=("oltp_identities", "oltp_lake.refund"),
        is_repaired=False,
        undo=correct_refund,
    ),
    Cell(name="row changed", store="warehouse", damage=change_mart, pairs=IN_MARTS, needs_build=True),
    Cell(name="journal entry lost", store="warehouse", damage=lose_journal_entry, pairs=IN_MARTS, needs_build=True),
)
