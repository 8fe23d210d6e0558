"""The copies from the view of a drill: their workers, their position, their content, and their data age.

Belongs here: reading each copy through the code that serves and observes it. Does not belong here: breaking a copy
(`drills/cells.py`), judging it (`drills/probes.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import psycopg
from psycopg import sql

from contracts.clock import Clock, utc_now
from contracts.errors import PropagationError
from contracts.ownership import CART, LAKE, LOG, WAREHOUSE, Copy, CopyKind, Lateness
from contracts.text import counted
from contracts.waiting import comes_true
from derived.lake_connection import open_lake
from derived.read_models.known import roots_of
from derived.search.asking import PAGE_MAX, Question, Search
from derived.search.folders import base_folder
from drills.system import System
from drills.trading import SKU, merchant_of
from oltp.carts.valkey_carts import ValkeyCarts
from oltp.carts.valkey_server import CartServer
from streams import codec
from streams.draining import observe_pod
from streams.lag import observe
from streams.log import EntryId, EventLog, first_kept_cut, manifests_after
from streams.logs import build_log


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The position of a copy in one pod."""

    copy: Copy
    cut: int
    lag_events: int
    lag_seconds: float
    is_whole: bool = True
    """False: the next cut is missing (a gap), or the relay does not publish."""

    @property
    def lateness(self) -> Lateness:
        """Return the contract's judgement of the lag."""
        return self.copy.lateness(self.lag_seconds) if self.is_whole else Lateness.OVERDUE

    def has_reached(self, cut: int) -> bool:
        """Return whether it has applied everything up to a cut."""
        return self.cut >= cut and self.is_whole

    def __str__(self) -> str:
        """Return the position in words."""
        gap = "" if self.is_whole else ", what comes next is missing"
        behind = f"{counted(self.lag_events, 'event')} and {self.lag_seconds:.1f} s behind"
        return f"cut {self.cut}, {behind} ({self.lateness}){gap}"


class Store(Protocol):
    """One copy."""

    copy: Copy
    system: System

    def workers(self) -> tuple[str, ...]:
        """Return the names of the workers that keep it up to date."""
        ...

    def log(self) -> AbstractContextManager[EventLog]:
        """Open the log."""
        ...

    def standing(self, pod: str, *, clock: Clock = utc_now) -> Standing:
        """Return its position, in the same way as status and freshness checks compute it."""
        ...

    def reported(self, status: Mapping[str, Any], pod: str) -> Standing | None:
        """Return its position from the output of `tieout status`; None when it is reported as unreachable."""
        ...

    def goal(self, pod: str) -> int:
        """Return a cut that contains everything that is committed now."""
        ...

    def prepare(self) -> None:
        """Make the copy healthy, if no worker does it."""
        ...

    def bring(self, goals: Mapping[str, int]) -> None:
        """Bring the copy to these cuts, if no worker does it."""
        ...

    def counts(self, pod: str, order_ids: Sequence[str], *, after_cut: int) -> Mapping[str, int]:
        """Return by order id how often the copy has each of these orders, which were placed after a cut."""
        ...

    def log_cut(self, pod: str) -> int:
        """Return the last complete cut of the log."""
        ...


@dataclass(kw_only=True)
class _Store:
    system: System

    @contextmanager
    def log(self) -> Iterator[EventLog]:
        """Open the log."""
        with closing(build_log(self.system.settings)) as log:
            yield log

    def log_cut(self, pod: str) -> int:
        """Return the last complete cut of the log."""
        with self.log() as log:
            return log.tail(pod, 1).manifest_cut

    def newest_cut(self, pod: str) -> int:
        """Register a cut of the pod as comparisons do, and return it; it contains everything committed before."""
        with self.system.context(lag_seconds_max=0).take_cut(pod) as opened:
            return opened.cut

    def goal(self, pod: str) -> int:
        """Return a cut that contains everything that is committed now."""
        return self.newest_cut(pod)

    def prepare(self) -> None:
        """Do nothing: workers do it."""

    def bring(self, goals: Mapping[str, int]) -> None:
        """Do nothing: workers do it."""


@dataclass(kw_only=True)
class LogStore(_Store):
    """The log: a copy of the outbox, built by the relays."""

    copy: Copy = LOG

    def workers(self) -> tuple[str, ...]:
        """Return the relays."""
        return tuple(f"relay-{pod.pod}" for pod in self.system.settings.pods)

    def standing(self, pod: str, *, clock: Clock = utc_now) -> Standing:
        """Return the position by the backlog of the outbox.

        The database's clock measures the age; the offset of `clock` is added.
        """
        seen = observe_pod(self.system.settings.pod(pod), self.system.settings)
        ahead = max(0.0, (clock() - utc_now()).total_seconds()) if seen.unpublished_events else 0.0
        return Standing(
            copy=self.copy,
            cut=self.log_cut(pod),
            lag_events=seen.unpublished_events,
            lag_seconds=seen.oldest_unpublished_seconds + ahead,
            is_whole=True,
        )

    def reported(self, status: Mapping[str, Any], pod: str) -> Standing | None:
        """Return the position from the pod's outbox in a status."""
        found = next(one for one in status["pods"] if one["pod"] == pod)
        if found["state"] != "reachable":
            return None
        return Standing(
            copy=self.copy,
            cut=found["cut"],
            lag_events=found["unpublished_events"],
            lag_seconds=found["oldest_unpublished_seconds"],
        )

    def counts(self, pod: str, order_ids: Sequence[str], *, after_cut: int) -> Mapping[str, int]:
        """Return how often log entries after a cut place each order; for trimmed entries use the lake's count.

        The log trims an entry only after the lake has applied it.
        """
        found: Counter[str] = Counter()
        with self.log() as log:
            kept = first_kept_cut(log, pod)
            for manifest in manifests_after(log, pod, after_cut):
                entries = [
                    EntryId(generation=manifest.generation, partition=number, cut=manifest.cut, chunk=chunk)
                    for number, chunks in enumerate(manifest.partitions)
                    for chunk in range(len(chunks))
                ]
                for data in log.fetch(pod, entries):
                    found.update(_placed(codec.decode(data).select(["aggregate_id", "event_type"]).to_pylist()))
        trimmed = [order_id for order_id in order_ids if not found[order_id]] if kept > after_cut + 1 else []
        if trimmed:
            found.update(_in_lake(self.system, trimmed))
        return {order_id: found[order_id] for order_id in order_ids}


def _placed(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    return (row["aggregate_id"] for row in rows if row["event_type"] == "order_placed")


@dataclass(kw_only=True)
class ProjectionStore(_Store):
    """A copy that consumers build from the log: the lake or a view."""

    copy: Copy

    def workers(self) -> tuple[str, ...]:
        """Return its consumers."""
        return tuple(f"{self.copy.name.replace('_', '-')}-{pod.pod}" for pod in self.system.settings.pods)

    def standing(self, pod: str, *, clock: Clock = utc_now) -> Standing:
        """Return its position relative to the log."""
        with self.log() as log:
            seen = observe(self.system.projection(self.copy.name), pod, log, clock=clock)
        return Standing(
            copy=self.copy,
            cut=seen.applied_cut,
            lag_events=seen.lag_events,
            lag_seconds=seen.lag_seconds,
            is_whole=seen.state not in ("gap", "ahead"),
        )

    def reported(self, status: Mapping[str, Any], pod: str) -> Standing | None:
        """Return its position from a status."""
        return reported_copy(self.copy, status["projections"], pod)

    def counts(self, pod: str, order_ids: Sequence[str], *, after_cut: int) -> Mapping[str, int]:
        """Return by order id how often it has each order."""
        if self.copy.kind is CopyKind.READ_MODEL:
            return _in_view(self.copy, self.system, pod, order_ids)
        if self.copy.kind is CopyKind.SEARCH:
            return _in_index(self.system, pod, order_ids)
        if self.copy.kind is CopyKind.CACHE:
            return _on_page(self.system, pod, order_ids)
        if self.copy.kind is CopyKind.WEBHOOKS:
            return {}  # its drills count what the merchant's system was told (`drills/copies/webhooks.py`)
        return _in_lake(self.system, order_ids)


def reported_copy(copy: Copy, rows: Sequence[Mapping[str, Any]], pod: str) -> Standing | None:
    """Return the position of a copy from the rows of `tieout status`."""
    found = next(one for one in rows if one["name"] == copy.name and one["pod"] == pod)
    if found["state"] == "unreachable":
        return None
    return Standing(
        copy=copy,
        cut=found["applied_cut"],
        lag_events=found["lag_events"],
        lag_seconds=found["lag_seconds"],
        is_whole=found["state"] not in ("gap", "ahead"),
    )


@dataclass(kw_only=True)
class CartStore(_Store):
    """Carts: a cart has no cuts, so it is at cut 1 when nothing waits to be written through, else at 0."""

    copy: Copy = CART

    def workers(self) -> tuple[str, ...]:
        """Return the writer of all pods."""
        return ("cart-writer",)

    def standing(self, pod: str, *, clock: Clock = utc_now) -> Standing:
        """Return how many carts wait to be written, and for how long the first has; the offset of `clock` is added."""
        with closing(CartServer(self.system.settings.carts_url)) as server:
            number, seconds = ValkeyCarts(server, queued_max=self.system.settings.carts_queued_max).waiting(pod)
        later = max(0.0, (clock() - utc_now()).total_seconds()) if number else 0.0
        return Standing(copy=self.copy, cut=0 if number else 1, lag_events=number, lag_seconds=seconds + later)

    def reported(self, status: Mapping[str, Any], pod: str) -> Standing | None:
        """Return the same from a status."""
        found = next(one for one in status["projections"] if one["name"] == self.copy.name and one["pod"] == pod)
        if found["state"] == "unreachable":
            return None
        cut = 0 if found["lag_events"] else 1
        return Standing(copy=self.copy, cut=cut, lag_events=found["lag_events"], lag_seconds=found["lag_seconds"])

    def goal(self, pod: str) -> int:
        """Return the cut at which nothing waits."""
        return 1

    def counts(self, pod: str, order_ids: Sequence[str], *, after_cut: int) -> Mapping[str, int]:
        """Return nothing: a cart has no orders. Its drills count what was put into carts (`drills/copies/cart.py`)."""
        return {}


@dataclass(kw_only=True)
class WarehouseStore(_Store):
    """The finance marts, which dbt builds from the lake."""

    copy: Copy = WAREHOUSE

    def workers(self) -> tuple[str, ...]:
        """Return no workers: it is built on a schedule."""
        return ()

    def standing(self, pod: str, *, clock: Clock = utc_now) -> Standing:
        """Return its position: the difference between the lake and the newest complete build."""
        from derived.warehouse_lag import observe_warehouse

        (seen,) = [one for one in observe_warehouse(self.system.settings, clock=clock) if one.pod == pod]
        return Standing(copy=self.copy, cut=seen.built_cut, lag_events=seen.lag_events, lag_seconds=seen.lag_seconds)

    def reported(self, status: Mapping[str, Any], pod: str) -> Standing | None:
        """Return its position from a status."""
        return reported_copy(self.copy, status["warehouse"], pod)

    def prepare(self) -> None:
        """Build once if there is no build yet, because no schedule runs during a drill."""
        if any(self.standing(pod.pod).cut == 0 for pod in self.system.settings.pods):
            self.system.build()

    def bring(self, goals: Mapping[str, int]) -> None:
        """Build once after the lake has reached these cuts."""
        lake = ProjectionStore(copy=LAKE, system=self.system)

        def has_arrived() -> bool:
            return all(lake.standing(pod).cut >= cut for pod, cut in goals.items())

        if not comes_true(has_arrived, seconds=LAKE.late_seconds_max):
            raise PropagationError(f"The lake did not reach cuts {goals} within {LAKE.late_seconds_max} s.")
        self.system.build()

    def counts(self, pod: str, order_ids: Sequence[str], *, after_cut: int) -> Mapping[str, int]:
        """Return by order id the number of rows in the mart of orders."""
        return _lake_counts(
            self.system, "select order_id, count(*) from lake.marts.orders {where}", "order_id", order_ids
        )


def _lake_counts(system: System, query: str, column: str, order_ids: Sequence[str]) -> Mapping[str, int]:
    where = f"where list_contains($ids, {column})"
    settings = system.settings
    with open_lake(settings, read_only=True) as lake:
        rows = lake.execute(query.format(where=where) + " group by 1", {"ids": list(order_ids)}).fetchall()
    return {str(order_id): int(number) for order_id, number in rows}


def _in_lake(system: System, order_ids: Sequence[str]) -> Mapping[str, int]:
    query = "select aggregate_id, count(*) from lake.raw.events {where} and event_type = 'order_placed'"
    return _lake_counts(system, query, "aggregate_id", order_ids)


def _in_view(copy: Copy, system: System, pod: str, order_ids: Sequence[str]) -> Mapping[str, int]:
    (table,) = [root.table for root in roots_of(copy) if root.aggregate_type == "order"]
    query = sql.SQL(
        """select order_id, count(*) from {}
           where merchant_id = %s and pod = %s and order_id = any(%s) group by order_id"""
    ).format(sql.Identifier("read_models", table))
    with psycopg.connect(system.settings.read_models_dsn) as connection:
        rows = connection.execute(query, [merchant_of(pod), pod, list(order_ids)]).fetchall()
    return {str(order_id): int(number) for order_id, number in rows}


def _in_index(system: System, pod: str, order_ids: Sequence[str]) -> Mapping[str, int]:
    """Return by order id how often the index lists the drill's goods: the index has no orders, but what they are of."""
    question = Question(merchant_id=merchant_of(pod), text=SKU, limit=PAGE_MAX)
    found = Search(base_folder(system.settings)).ask(pod, question)
    goods = sum(any(variant.sku == SKU for variant in hit.product.variants) for hit in found.hits)
    return dict.fromkeys(order_ids, goods)


def _on_page(system: System, pod: str, order_ids: Sequence[str]) -> Mapping[str, int]:
    """Return by order id whether the page of the drill's goods has taken its units off exactly once.

    The page has no orders; what is left of the goods is right only if it knows every order, and none twice.
    """
    from drills.copies.answer_cache import is_page_right

    return dict.fromkeys(order_ids, int(is_page_right(system, pod)))


def store_of(copy: Copy, system: System) -> LogStore | ProjectionStore | WarehouseStore | CartStore:
    """Return the store of a copy."""
    if copy.name == CART.name:
        return CartStore(system=system)
    if copy.name == LOG.name:
        return LogStore(system=system)
    if copy.name == WAREHOUSE.name:
        return WarehouseStore(system=system)
    return ProjectionStore(copy=copy, system=system)


def ahead(copy: Copy) -> Clock:
    """Return a clock that is further in the future than the largest allowed lag of a copy."""
    return lambda: utc_now() + timedelta(seconds=copy.late_seconds_max)
