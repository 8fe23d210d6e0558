"""Import of a shop's order files: sales, payments, cancellations, shipments and refunds, exact to the minor unit.

    report = import_orders([Path("orders.csv.gz")], settings, read_mapping(Path("shop.toml")))

Belongs here: the sequence of the import's steps. Does not belong here: what an order means (`rehearsal.py`), its
commands (`order_commands.py`, `booking.py`).

The files are read three times, so that memory holds single orders and not months of orders. The first pass checks that
the files are readable and finds orders that occur twice. The second rehearses every order and compares it with the
books. The third books the orders, in several processes. A dry run skips the third pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count, islice
from pathlib import Path
from typing import TypeVar

import msgspec

from contracts.clock import utc_now
from contracts.ids import uuid7
from contracts.settings import Settings
from oltp.directory import placements
from traffic import books as pod_books
from traffic.books import Connection
from traffic.command_chains import KeyedCommand, batched_by_pod, run_commands_by_pod, try_commands
from traffic.homes import place_merchants
from traffic.only_import import only_import
from traffic.orders import books as order_books
from traffic.orders import catalog
from traffic.orders.booking import Task, book_orders
from traffic.orders.catalog import Demand
from traffic.orders.documents import order_of
from traffic.orders.format import OrderRecord
from traffic.orders.known import Known, compare, stated_figures, unregistered
from traffic.orders.mapping import Mapping, RejectedError
from traffic.orders.order_commands import LOCATION
from traffic.orders.reading import RawOrder, Source, inspect_files, read_orders
from traffic.orders.rehearsal import Plan, counts_of, rehearse
from traffic.orders.rejects import RejectsFiles
from traffic.orders.report import Figures, OrdersReport, Outcome, Totals
from traffic.orders.twice import Twice
from traffic.progress import OnProgress, no_progress
from traffic.statistics import GrowingTables
from traffic.workers import Workers

BATCH = 20
"""Orders or commands per worker task."""
COMPARED_AT_ONCE = 500
PROGRESS_ORDERS = 2_000

Place = tuple[int, int]
"""(file, line) where an order begins."""
Item = TypeVar("Item")


def import_orders(
    paths: Sequence[Path],
    settings: Settings,
    mapping: Mapping,
    on_progress: OnProgress = no_progress,
    *,
    is_dry_run: bool = False,
    processes: int | None = None,
    now: Callable[[], datetime] = utc_now,
) -> OrdersReport:
    """Import the files into the pods and return the report. Idempotent: a second run finishes an interrupted one.

    `is_dry_run`: write nothing to the pods and no file of rejects; report what would be booked. `processes`: the number
    of worker processes (default: one more than processors; 0: run in the caller's process). The pods must be migrated,
    and the directory must exist.

    Raises InputError, before anything is booked, for a file that is missing, damaged or has unknown columns;
    ConflictError while another import runs; UnbalancedImportError when booked plus rejected amounts differ from the
    amounts read.
    """
    twice = Twice()
    read = count()

    def see(raw: RawOrder) -> None:
        twice.see(raw)
        done = next(read)
        if done % PROGRESS_ORDERS == 0:
            on_progress("reading orders", done, 0)

    sources = inspect_files(paths, mapping, see)
    with ExitStack() as stack:
        if not is_dry_run:
            stack.enter_context(only_import(settings))
        work = _Import(
            sources=sources,
            settings=settings,
            mapping=mapping,
            on_progress=on_progress,
            twice=twice,
            now=now(),
            rejects=None
            if is_dry_run
            else stack.enter_context(RejectsFiles(settings.var_dir, sources, mapping.separator)),
            connections={pod.pod: stack.enter_context(pod_books.connect(pod.reader_dsn)) for pod in settings.pods},
        )
        work.survey()
        if not is_dry_run:
            work.book(stack.enter_context(Workers(settings, processes)))
        return work.report()


@dataclass(frozen=True, kw_only=True)
class _Read:
    """An order without an outcome yet: its text in the file, and its amounts according to the file."""

    raw: RawOrder
    currency: str
    figures: Figures


@dataclass(kw_only=True)
class _Import:
    sources: Sequence[Source]
    settings: Settings
    mapping: Mapping
    on_progress: OnProgress
    twice: Twice
    now: datetime
    rejects: RejectsFiles | None
    """None in a dry run."""
    connections: dict[str, Connection]
    run_id: str = field(default_factory=lambda: str(uuid7()))
    totals: Totals = field(default_factory=Totals)
    demand: Demand = field(default_factory=Demand)
    homes: dict[str, str] = field(default_factory=dict)
    """Pod by merchant id."""
    settled: set[Place] = field(default_factory=set)
    """Orders that have an outcome: they are booked, or rejected."""
    begun: dict[Place, tuple[str, ...]] = field(default_factory=dict)
    """Partly booked orders: the names of the steps that are already booked."""
    ended: dict[tuple[str, str], tuple[_Read, Outcome]] = field(default_factory=dict)
    """The outcomes of orders that occur more than once with the same content."""

    def survey(self) -> None:
        """Rehearse every order and compare it with the books; settle orders that are already booked or are rejected."""
        self._find_homes()
        done = 0
        for batch in _batches(self._rehearsed(), COMPARED_AT_ONCE):
            known = self._known([plan for _, plan in batch])
            for read, plan in batch:
                outcome, before = compare(plan, known, read.raw)
                if outcome is not None:
                    self._settle(read, outcome)
                    continue
                self.demand.add(plan, is_placed=bool(before))
                if self.rejects is None:
                    self._settle(read, _would_be(read, plan, before))
                elif before:
                    self.begun[read.raw.file, read.raw.line] = before
            done += len(batch)
            self.on_progress("checking orders", done, sum(source.orders for source in self.sources))

    def book(self, workers: Workers) -> None:
        """Create what the orders need, and book them."""
        self._prepare(workers)
        total = sum(source.orders for source in self.sources) - len(self.settled) - self.twice.copies
        waiting: dict[Place, _Read] = {}
        done = 0
        with GrowingTables(self.settings.pods) as statistics:
            for outcomes in workers.run(book_orders, self._tasks(waiting)):
                for outcome in outcomes:
                    self._settle(waiting.pop((outcome.file, outcome.line)), outcome)
                done += len(outcomes)
                statistics.grown_to(done)
                self.on_progress("placing orders", done, total)

    def report(self) -> OrdersReport:
        """Give every copy the outcome of its first occurrence, and return the report."""
        for raw in self._read() if self.twice.copies else ():
            if self.twice.is_copy(raw):
                first, outcome = self.ended[raw.key]
                self._settle(replace(first, raw=raw), _as_first(raw, outcome))
        homes = list(self.homes.values())
        return self.totals.report(
            self.sources,
            {pod: homes.count(pod) for pod in sorted(set(homes))},
            self.rejects.written if self.rejects else {},
            is_dry_run=self.rejects is None,
        )

    def _read(self) -> Iterator[RawOrder]:
        return read_orders(self.sources, self.mapping)

    def _as_read(self, raw: RawOrder, record: OrderRecord | None = None, plan: Plan | None = None) -> _Read:
        """Return the order with its amounts according to the file; with amounts of 0 when they cannot be read."""
        try:
            record = record or order_of(raw.document)
            figures = stated_figures(record, plan)
        except RejectedError:
            return _Read(raw=raw, currency="", figures=Figures())
        return _Read(raw=raw, currency=record.currency, figures=figures)

    def _rehearsed(self) -> Iterator[tuple[_Read, Plan]]:
        """Yield the orders that can be booked, with their plans; reject the others."""
        for raw in self._read():
            if self.twice.is_copy(raw):
                continue
            record: OrderRecord | None = None
            try:
                self.twice.check(raw)
                record = order_of(raw.document)
                plan = self._plan(record)
            except RejectedError as error:
                outcome = Outcome(file=raw.file, line=raw.line, reason=error.reason, detail=error.detail)
                self._settle(self._as_read(raw, record), outcome)
            else:
                yield self._as_read(raw, record, plan), plan

    def _plan(self, record: OrderRecord) -> Plan:
        merchant = self.demand.merchants.get(record.merchant_id) or unregistered(record)
        plan = rehearse(record, merchant, self.mapping.rounding_allowance, self.now)
        self.demand.merchants.setdefault(record.merchant_id, merchant)
        self.demand.check(plan)
        return plan

    def _find_homes(self) -> None:
        placed = {placement.merchant_id: placement.pod for placement in placements(self.settings.control_dsn)}
        self.homes = place_merchants(self.twice.merchants, placed, [pod.pod for pod in self.settings.pods])
        for pod, connection in self.connections.items():
            self.demand.registered |= order_books.merchants(connection, self._merchants_of(pod))
            products = order_books.products(connection, self._merchants_of(pod))
            self.demand.kinds |= {place: kind for place, (kind, _) in products.items()}
        self.demand.merchants |= self.demand.registered

    def _merchants_of(self, pod: str) -> list[str]:
        return sorted(merchant_id for merchant_id, home in self.homes.items() if home == pod)

    def _known(self, plans: Sequence[Plan]) -> Known:
        """Return what the pods store for the orders of merchants that were registered before."""
        known = Known()
        for pod, connection in self.connections.items():
            mine = [
                plan
                for plan in plans
                if plan.record.merchant_id in self.demand.registered and self.homes[plan.record.merchant_id] == pod
            ]
            known.add(connection, mine)
        return known

    def _settle(self, read: _Read, outcome: Outcome) -> None:
        raw = read.raw
        self.settled.add((raw.file, raw.line))
        self.totals.settle(outcome, read.currency, read.figures)
        if outcome.reason and self.rejects is not None:
            self.rejects.add(raw, outcome.reason, outcome.detail)
        if self.twice.has_copies(raw.key):
            self.ended.setdefault(raw.key, (read, outcome))

    def _prepare(self, workers: Workers) -> None:
        """Register merchants, then create products, then receive the stock."""
        self._run(workers, "registering merchants", list(catalog.declare_merchants(self.demand)))
        self._run(workers, "creating products", list(catalog.upsert_products(self.demand, self._products())))
        available: dict[tuple[str, str], int] = {}
        for pod, connection in self.connections.items():
            available.update(pod_books.available_units(connection, self._merchants_of(pod), LOCATION))
        receipts = list(catalog.receive_stock(self.demand, available, self._products(), self.run_id))
        self._run(workers, "receiving stock", receipts, at_once=1)

    def _products(self) -> dict[tuple[str, str], str]:
        """Return the variant id of every (merchant, SKU) that exists in the pods."""
        return {
            place: variant_id
            for pod, connection in self.connections.items()
            for place, (_, variant_id) in order_books.products(connection, self._merchants_of(pod)).items()
        }

    def _run(self, workers: Workers, step: str, commands: Sequence[KeyedCommand], at_once: int = BATCH) -> None:
        """Run commands that orders need; ignore refusals, because the dependent orders are then refused too."""
        run_commands_by_pod(workers, self.homes, commands, step, self.on_progress, at_once=at_once, work=try_commands)

    def _tasks(self, waiting: dict[Place, _Read]) -> Iterator[tuple[str, Task]]:
        pending = (
            raw for raw in self._read() if (raw.file, raw.line) not in self.settled and not self.twice.is_copy(raw)
        )
        for pod, batch in batched_by_pod(pending, lambda raw: self.homes[raw.key[0]], BATCH):
            records = [order_of(raw.document) for raw in batch]
            for raw, record in zip(batch, records, strict=True):
                waiting[raw.file, raw.line] = self._as_read(raw, record, self._plan(record))
            yield (
                pod,
                Task(
                    orders=tuple((raw.file, raw.line, record) for raw, record in zip(batch, records, strict=True)),
                    begun={
                        (raw.file, raw.line): self.begun[raw.file, raw.line]
                        for raw in batch
                        if (raw.file, raw.line) in self.begun
                    },
                    merchants={record.merchant_id: self.demand.merchants[record.merchant_id] for record in records},
                    allowance=self.mapping.rounding_allowance,
                    now=self.now,
                ),
            )


def _would_be(read: _Read, plan: Plan, before: Collection[str]) -> Outcome:
    """Return the outcome that a dry run reports for an order; the steps in `before` are already booked."""
    booked = Figures(sold=plan.sold_minor, captured=plan.captured_minor, refunded=plan.refunded_minor)
    return Outcome(
        file=read.raw.file,
        line=read.raw.line,
        booked=booked,
        counts=counts_of(step.name for step in plan.steps if step.name not in before),
        unallocated_minor=plan.unallocated_minor,
    )


def _as_first(copy: RawOrder, first: Outcome) -> Outcome:
    """Return the outcome of a copy from the outcome of its first occurrence."""
    return msgspec.structs.replace(first, file=copy.file, line=copy.line, is_already=not first.reason, counts={})


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
