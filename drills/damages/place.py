"""The types and connections that all damages of the matrix share.

Belongs here: these types and connections. Does not belong here: the damages of one store (the other modules), their
list (`drills/damages/rounds.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
import psycopg
from tenacity import Retrying, retry_if_exception_type, stop_after_delay

from contracts.events import STATE_TYPES
from contracts.ids import aggregate_key
from contracts.settings import Settings
from contracts.verdicts import DifferenceClass
from contracts.waiting import wait_until
from derived.lake_connection import open_lake, transaction
from derived.lake_reads import lake_positions
from repair.values import ActionKind
from streams.projection import Projection
from traffic.generator import place_orders

PATIENCE_SECONDS = 60.0
DEADLOCK_TRIES = 5
ORDERS_MORE = 6


@dataclass(frozen=True, kw_only=True)
class Target:
    """One aggregate of a pod that running traffic no longer changes."""

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
            case when refunded_minor = 0 then 'unrefunded' end,
            case when method is not null then 'later' end], null)
        from oltp.payments as p
        where p.gift_card_id is null
          and not exists (select from oltp.refunds as r where r.payment_id = p.payment_id)""",
    "refund": """
        select merchant_id, refund_id::text, array_remove(array[
            case when customer_id is not null then 'customer' end, status], null)
        from oltp.refunds where gift_card_id is null""",
    "gift_card": """
        select merchant_id, gift_card_id::text, array_remove(array[
            case when redeemed_minor > 0 then 'spent' end, status], null)
        from oltp.gift_cards""",
    "reservation": "select merchant_id, reservation_id::text, array[status] from oltp.reservations",
    "stock_movement": "select merchant_id, stock_movement_id::text, array[kind] from oltp.stock_movements",
}
"""SQL by aggregate type: merchant id, aggregate id, and the traits that damages ask for."""
SCARCE_TRAITS = frozenset({"several taxes", "later"})
"""An aggregate with such a trait is given only to a damage that asks for the trait."""
QUIETEST_FIRST = """
    select merchant_id, id, traits from ({targets}) as target (merchant_id, id, traits)
    left join (select aggregate_id as id, max(recorded_at) as at from oltp.outbox group by 1) as newest using (id)
    order by newest.at nulls first, id"""
"""The aggregates with the oldest events come first: every copy has them, and running traffic no longer changes them."""


UNGUARDED = (
    "orders",
    "order_lines",
    "order_tax_lines",
    "order_line_taxes",
    "order_discounts",
    "payments",
    "payment_captures",
    "payment_disputes",
    "payment_movements",
    "refunds",
    "gift_cards",
    "stock_slots",
    "adjustments",
    "products",
    "outbox",
)
"""The tables whose triggers are disabled during a damage."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Functions that the composition root passes in."""

    newest_cut: Callable[[str], int]
    """Registers a new cut of a pod and returns its number."""
    projection: Callable[[str], Projection]
    stopped: Callable[[str], AbstractContextManager[bool]]
    """Stops the worker of this name during the block; yields False when there is no such process."""


@dataclass(kw_only=True)
class Place:
    """A pod and its copies. It gives out every aggregate only once, so that two damages never share one by accident.

    It gives out only aggregates that existed at its creation, not those of later traffic.
    """

    settings: Settings
    pod: str
    tools: Tools
    _free: dict[str, list[Target]] = field(init=False)
    _given: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Read the existing aggregates."""
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
        """Return an aggregate that was not given out before; LookupError when there is none."""
        for target in self._free[kind]:
            if target.traits.issuperset(traits) and SCARCE_TRAITS.intersection(target.traits).issubset(traits):
                self._free[kind].remove(target)
                return target
        raise LookupError(f"{self.pod} has no {kind} left that is {', '.join(traits) or 'anything'}: place more orders")

    def take_known(self, kind: str, aggregate_id: str) -> Target | None:
        """Return this aggregate; None when it was given out before, or did not exist at the creation of the place."""
        for target in self._free[kind]:
            if target.aggregate_id == aggregate_id:
                self._free[kind].remove(target)
                return target
        return None

    def give_once(self, name: str) -> bool:
        """Say whether this is the first damage to something that several aggregates share, as the sum of a day."""
        is_first = name not in self._given
        self._given.add(name)
        return is_first

    @contextmanager
    def lake(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection that may write to the lake."""
        with open_lake(self.settings) as lake:
            yield lake

    def change_lake(self, *statements: str, **values: Any) -> None:
        """Run statements in one transaction of the lake; retry on a conflict with a worker's commit."""
        retrying = Retrying(
            retry=retry_if_exception_type(duckdb.TransactionException),
            stop=stop_after_delay(PATIENCE_SECONDS),
            reraise=True,
        )
        with self.lake() as lake:
            retrying(_run_all, lake, statements, values)

    def lake_cut(self) -> int:
        """Return the newest cut of the pod that the lake has applied in every partition."""
        with self.lake() as lake:
            return min(position.cut for position in lake_positions(lake, self.pod).values())

    def place_orders(self, *, waits: bool = True) -> None:
        """Place some more orders; if `waits`, wait until the lake has all their events."""
        place_orders(self.settings, orders=ORDERS_MORE, seed=self.lake_cut(), processes=0)
        if waits:
            cut = self.tools.newest_cut(self.pod)
            until(lambda: self.lake_cut() >= cut, f"Cut {cut} in the lake of {self.pod}")

    def views(self) -> psycopg.Connection[Any]:
        """Open a connection to the read models."""
        return psycopg.connect(self.settings.read_models_dsn)

    def change_view(self, *statements: str, **values: Any) -> None:
        """Run statements in the read models in one transaction."""
        with self.views() as connection:
            for statement in statements:
                connection.execute(statement.encode(), {"pod": self.pod, **values})

    def oltp(self) -> psycopg.Connection[Any]:
        """Open a connection to the pod as its owner."""
        return psycopg.connect(self.settings.pod(self.pod).owner_dsn)

    def change_oltp(self, *statements: str, **values: Any) -> None:
        """Run statements in the pod in one transaction with disabled triggers: without checks and without events.

        Traffic goes on meanwhile, so PostgreSQL may abort this transaction because of a deadlock; then it is retried.
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
    """Poll until a condition is true that running workers cause; StackError after `PATIENCE_SECONDS`."""
    wait_until(is_true, timeout_seconds=PATIENCE_SECONDS, failure=lambda: f"{what} did not come about.")


@dataclass(frozen=True, kw_only=True)
class Harm:
    """What a damage changed; it distinguishes the breaks of this damage from those of others."""

    aggregates: frozenset[str] = frozenset()
    """Keys of the changed aggregates; empty: all breaks of the cell's pairs in the pod belong to it."""
    note: Any = None
    """Data for undoing the damage."""


def harm(*targets: Target, note: Any = None) -> Harm:
    """Return the harm to these aggregates."""
    return Harm(aggregates=frozenset(target.key for target in targets), note=note)


WHOLE = Harm()

Damage = Callable[[Place], Harm]
Undo = Callable[[Place, Harm], None]

Names = Mapping[str, frozenset[DifferenceClass]]
"""By pair: the classes that the comparison must report, exactly these; an empty set allows any class."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One kind of damage to one store, with the required difference classes and the required outcome."""

    damage: str
    """A description, as shown in tables."""
    store: str
    do: Damage
    named: Names = field(default_factory=dict)
    named_one_of: Names = field(default_factory=dict)
    """By pair: of these classes the comparison must report one, and no other; which one, running traffic decides."""
    named_any_of: Names = field(default_factory=dict)
    """By pair: of these classes the comparison must report at least one, and no other."""
    may_also_be: frozenset[DifferenceClass] = frozenset()
    """Classes that are allowed for other keys, because running traffic changes them meanwhile."""
    actions: tuple[ActionKind, ...] = ()
    """The repair actions that the audit must contain; () when people decide."""
    may_instead: tuple[ActionKind, ...] = ()
    """Actions that are allowed instead when running traffic has written the same rows again."""
    reason: str = ""
    """Part of the reason with which the break is escalated to people; empty: code repairs it."""
    undo: Undo | None = None
    """The correction by a person or, if `is_fixed_first`, the fix that the repair waits for."""
    is_fixed_first: bool = False
    """Whether `undo` runs before the repair: a fix is deployed, and then the repair replays the events."""
    may_mend_itself: bool = False
    """Whether running workers can also mend it, perhaps before the comparison finds it."""
    pod: int = 0
    """The index of the damaged pod."""

    @property
    def is_for_people(self) -> bool:
        """Whether only people may correct it."""
        return bool(self.reason)

    @property
    def pairs(self) -> tuple[str, ...]:
        """The comparisons that must find it."""
        return (*self.named, *self.named_one_of, *self.named_any_of)

    @property
    def named_as(self) -> str:
        """Which comparison must report it as what, as Markdown."""
        all_of = [f"`{pair}`: {', '.join(sorted(kinds)) or 'any'}" for pair, kinds in self.named.items()]
        one_of = [f"`{pair}`: {' or '.join(sorted(kinds))}" for pair, kinds in self.named_one_of.items()]
        any_of = [f"`{pair}`: {' and/or '.join(sorted(kinds))}" for pair, kinds in self.named_any_of.items()]
        return "; ".join([*all_of, *one_of, *any_of])


@dataclass(frozen=True, kw_only=True)
class Round:
    """Damages that are made at the same time, found by one comparison and repaired by one repair."""

    name: str
    cells: tuple[Cell, ...]
    families: tuple[str, ...]
    """The compared families of pairs. They include more than the cells' pairs, so that side effects of a damage are
    found and repaired too.
    """


def back(store: str, do: Damage, pair: str, *classes: DifferenceClass, pod: int = 0) -> Cell:
    """Return the cell for a position that was moved back; without `classes`, any class may be reported.

    A worker continues from this position and skips what it has applied before; until then, rows are newer than their
    position.
    """
    any_of = frozenset(classes)
    return Cell(
        damage="position moved back",
        store=store,
        do=do,
        named={} if any_of else {pair: any_of},
        named_any_of={pair: any_of} if any_of else {},
        may_mend_itself=True,
        pod=pod,
    )


def names(**classes: DifferenceClass | tuple[DifferenceClass, ...]) -> Names:
    """Return the classes by pair; in the keyword, two underscores stand for the dot in a pair's name."""
    return {
        pair.replace("__", "."): frozenset(found if isinstance(found, tuple) else (found,))
        for pair, found in classes.items()
    }
