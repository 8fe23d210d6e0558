"""Where damage is done and what a damage is: values and connections for the matrix of damages.

Belongs here: what all damages share. Does not belong here: the damages of one store (the other modules), their list
(`drills/damages/rounds.py`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
import psycopg

from contracts.errors import StackError
from contracts.events import STATE_TYPES
from contracts.ids import aggregate_key
from contracts.settings import Settings
from contracts.verdicts import DifferenceClass
from derived.lake_connection import open_lake, transaction
from derived.lake_reads import lake_positions
from drills.scene import wait
from repair.values import ActionKind
from streams.projection import Projection
from traffic.generator import place_orders

PATIENCE_SECONDS = 60.0
DEADLOCK_TRIES = 5
ORDERS_MORE = 6


@dataclass(frozen=True, kw_only=True)
class Target:
    """One aggregate of a pod that no running command touches any more."""

    kind: str
    merchant_id: str
    aggregate_id: str
    traits: frozenset[str]

    @property
    def key(self) -> str:
        """Its aggregate key."""
        return aggregate_key(self.merchant_id, self.kind, self.aggregate_id)


PLAIN_TARGETS = {
    name: f"select merchant_id, {state.ID_FIELD}::text, array[]::text[] from oltp.{name}s"
    for name, state in STATE_TYPES.items()
}
TARGETS: Mapping[str, str] = {
    **PLAIN_TARGETS,
    "order": """
        select merchant_id, order_id::text, array_remove(array[
            case when customer_id is not null then 'customer' end,
            case when exists (
                select from oltp.order_lines as line where line.order_id = o.order_id and line.kind = 'goods'
                  and line.quantity > line.fulfilled_quantity + line.cancelled_quantity
            ) then 'open' end,
            case when exists (
                select from oltp.order_lines as line
                where line.order_id = o.order_id and line.cancelled_quantity > 0
            ) then null else 'uncancelled' end,
            case when (
                select count(*) from oltp.order_lines as line where line.order_id = o.order_id and line.kind = 'goods'
            ) > 1 then 'several lines' end,
            case when version > 1 then 'changed' end,
            case when exists (
                select from oltp.payments as p where p.order_id = o.order_id and p.captured_minor > 0
            ) then 'captured' end,
            case when exists (
                select from oltp.order_line_taxes as t where t.order_id = o.order_id
            ) then 'several taxes' end], null)
        from oltp.orders as o""",
    "payment": """
        select merchant_id, payment_id::text, array_remove(array[
            case when customer_id is not null then 'customer' end,
            case when captured_minor > 0 then 'captured' end,
            case when refunded_minor = 0 then 'unrefunded' end], null)
        from oltp.payments as p
        where p.gift_card_id is null
          and not exists (select from oltp.refunds as r where r.payment_id = p.payment_id)""",
    "refund": """
        select merchant_id, refund_id::text, array_remove(array[
            case when customer_id is not null then 'customer' end, status], null)
        from oltp.refunds where gift_card_id is null""",
    "reservation": "select merchant_id, reservation_id::text, array[status] from oltp.reservations",
    "stock_movement": "select merchant_id, stock_movement_id::text, array[kind] from oltp.stock_movements",
}
"""The aggregates of each type: merchant, id, and what damages ask for. Payments by gift card and refunds onto one are
left alone: with one of them its card would differ, too."""
SCARCE_TRAITS = frozenset({"several taxes"})
"""Aggregates with such a trait are kept for the damages that ask for it."""
QUIETEST_FIRST = """
    select merchant_id, id, traits from ({targets}) as target (merchant_id, id, traits)
    left join (select aggregate_id as id, max(recorded_at) as at from oltp.outbox group by 1) as newest using (id)
    order by newest.at nulls first, id"""
"""Every copy has what happened longest ago, and running traffic touches it no more."""


UNGUARDED = (
    "orders",
    "order_lines",
    "order_tax_lines",
    "order_line_taxes",
    "order_discounts",
    "payments",
    "payment_captures",
    "refunds",
    "stock_levels",
    "adjustments",
    "products",
    "outbox",
)
"""Tables of which damages switch the triggers off."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What damages need of whoever composes the system."""

    newest_cut: Callable[[str], int]
    """Registers a cut of a pod now and returns its number."""
    projection: Callable[[str], Projection]
    stopped: Callable[[str], AbstractContextManager[bool]]
    """Keeps a worker from running meanwhile; False: there is no process of that name."""


@dataclass(kw_only=True)
class Place:
    """A pod and its copies; hands out aggregates, each once, so that damages do not meet by accident.

    Those that there are when the place is made: what running traffic adds later is its own.
    """

    settings: Settings
    pod: str
    tools: Tools
    _free: dict[str, list[Target]] = field(init=False)

    def __post_init__(self) -> None:
        """Note what there is now."""
        with self.oltp() as connection:
            self._free = {
                kind: [
                    Target(kind=kind, merchant_id=merchant_id, aggregate_id=aggregate_id, traits=frozenset(traits))
                    for merchant_id, aggregate_id, traits in connection.execute(
                        QUIETEST_FIRST.format(targets=query).encode()
                    ).fetchall()
                ]
                for kind, query in TARGETS.items()
            }

    def take(self, kind: str, *traits: str) -> Target:
        """Return an aggregate that nobody had before; LookupError when there is none."""
        for target in self._free[kind]:
            if target.traits.issuperset(traits) and SCARCE_TRAITS.intersection(target.traits).issubset(traits):
                self._free[kind].remove(target)
                return target
        raise LookupError(f"{self.pod} has no {kind} left that is {', '.join(traits) or 'anything'}: place more orders")

    def take_known(self, kind: str, aggregate_id: str) -> Target | None:
        """Return this aggregate, unless somebody had it before or it is younger than the place."""
        for target in self._free[kind]:
            if target.aggregate_id == aggregate_id:
                self._free[kind].remove(target)
                return target
        return None

    @contextmanager
    def lake(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write to the lake."""
        with open_lake(self.settings) as lake:
            yield lake

    def change_lake(self, *statements: str, **values: Any) -> None:
        """Run statements in one commit of the lake, again when a worker's commit was faster."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self.lake() as lake:
            while True:
                try:
                    _run_all(lake, statements, values)
                    return
                except duckdb.TransactionException:
                    if time.monotonic() > deadline:
                        raise

    def lake_cut(self) -> int:
        """Return the cut that the lake has of the pod."""
        with self.lake() as lake:
            return min(position.cut for position in lake_positions(lake, self.pod).values())

    def place_orders(self, *, waits: bool = True) -> None:
        """Place some more orders; wait until the lake has all that happened to them, unless told not to."""
        place_orders(self.settings, orders=ORDERS_MORE, seed=self.lake_cut(), processes=0)
        if waits:
            cut = self.tools.newest_cut(self.pod)
            until(lambda: self.lake_cut() >= cut, f"Cut {cut} in the lake of {self.pod}")

    def views(self) -> psycopg.Connection[Any]:
        """A connection to the read models."""
        return psycopg.connect(self.settings.read_models_dsn)

    def change_view(self, *statements: str, **values: Any) -> None:
        """Run statements in the read models, in one transaction."""
        with self.views() as connection:
            for statement in statements:
                connection.execute(statement.encode(), {"pod": self.pod, **values})

    def oltp(self) -> psycopg.Connection[Any]:
        """A connection to the pod as its owner."""
        return psycopg.connect(self.settings.pod(self.pod).owner_dsn)

    def change_oltp(self, *statements: str, **values: Any) -> None:
        """Run statements in the pod in one transaction whose triggers are off: nothing is checked, nothing is told.

        Traffic goes on meanwhile, so PostgreSQL may take this transaction back for a deadlock; then it is done again.
        """
        for tries_left in reversed(range(DEADLOCK_TRIES)):
            try:
                self._change_oltp(statements, values)
                return
            except psycopg.errors.DeadlockDetected:
                if not tries_left:
                    raise

    def _change_oltp(self, statements: Sequence[str], values: Mapping[str, Any]) -> None:
        with self.oltp() as connection:
            for table in UNGUARDED:
                connection.execute(f"alter table oltp.{table} disable trigger user".encode())
            for statement in statements:
                connection.execute(statement.encode(), values)
            for table in UNGUARDED:
                connection.execute(f"alter table oltp.{table} enable trigger user".encode())


def _run_all(lake: duckdb.DuckDBPyConnection, statements: Sequence[str], values: Mapping[str, Any]) -> None:
    with transaction(lake):
        for statement in statements:
            named = set(re.findall(r"\$([a-z_]+)", statement))
            lake.execute(statement, {name: value for name, value in values.items() if name in named})


def until(is_true: Callable[[], bool], what: str) -> None:
    """Wait for something that running workers bring about."""
    if not wait(is_true, PATIENCE_SECONDS):
        raise StackError(f"{what} did not come about.")


@dataclass(frozen=True, kw_only=True)
class Harm:
    """What a damage touched: by it, its breaks are told from those of others."""

    aggregates: frozenset[str] = frozenset()
    """Keys of aggregates; empty: everything that the cell's pairs find in the pod."""
    note: Any = None
    """What undoing it needs."""


def harm(*targets: Target, note: Any = None) -> Harm:
    """Return the harm done to these aggregates."""
    return Harm(aggregates=frozenset(target.key for target in targets), note=note)


WHOLE = Harm()

Damage = Callable[[Place], Harm]
Undo = Callable[[Place, Harm], None]

Names = Mapping[str, frozenset[DifferenceClass]]
"""Pair -> the classes that the damage must be named as there: all of these, and no others; none: whatever it is."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One kind of damage to one store: what it must be called, and what must become of it."""

    damage: str
    """In words, as tables show it."""
    store: str
    do: Damage
    named: Names
    may_also_be: frozenset[DifferenceClass] = frozenset()
    """What keys besides those may be called, which running traffic changes meanwhile."""
    actions: tuple[ActionKind, ...] = ()
    """What the audit must say was done because of it; none where people decide."""
    may_instead: tuple[ActionKind, ...] = ()
    """What may be done instead where running traffic has written there again."""
    reason: str = ""
    """Part of the reason with which it is put before people; empty: it is repaired."""
    undo: Undo | None = None
    """What a person does about it; or, before the repair, the fix that the repair waits for."""
    is_fixed_first: bool = False
    """Whether `undo` comes before the repair: a fix is deployed, and the repair replays."""
    may_mend_itself: bool = False
    """Whether running workers mend it as well, and may be faster than the comparison."""
    pod: int = 0
    """Which of the pods is damaged."""

    @property
    def is_for_people(self) -> bool:
        """Whether code must not mend it."""
        return bool(self.reason)

    @property
    def pairs(self) -> tuple[str, ...]:
        """The comparisons that must find it."""
        return tuple(self.named)


@dataclass(frozen=True, kw_only=True)
class Round:
    """Damages that are done at the same time, found by one comparison and mended by one repair."""

    name: str
    cells: tuple[Cell, ...]
    families: tuple[str, ...]
    """What is compared; more than the cells name, so that what a damage does elsewhere is found and mended with it."""


def back(store: str, do: Damage, pair: str, pod: int = 0) -> Cell:
    """Return the cell of a position that was moved back.

    A worker goes on from there and recognises what it has; until then rows are newer than their position.
    """
    named = {pair: frozenset[DifferenceClass]()}
    return Cell(damage="position moved back", store=store, do=do, named=named, may_mend_itself=True, pod=pod)


def names(**classes: DifferenceClass | tuple[DifferenceClass, ...]) -> Names:
    """Return names by pair; a pair's dot is written as two underscores."""
    return {
        pair.replace("__", "."): frozenset(found if isinstance(found, tuple) else (found,))
        for pair, found in classes.items()
    }
