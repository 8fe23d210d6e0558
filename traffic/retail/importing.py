"""Import of UCI Online Retail files: invoices become orders, refunds, adjustments and stock, exact to the last decimal.

    report = import_files([Path("2010-12.csv.gz")], settings)

Belongs here: the sequence of the import's steps. Does not belong here: the meaning of a row (`rules.py`), invoices
(`invoices.py`), commands (`invoice_commands.py`), returns (`matching.py`, `credits.py`), merchants and products
(`catalog.py`).

The files are read four times, so that memory holds single invoices and not months of invoices. The first pass checks
that the files are readable; the second counts rows and rejects bad ones; the third finds what is already booked and
which stock is needed; the fourth books, in several processes. Credit notes are booked last, oldest first, regardless of
the order of the files, because the orders that they may belong to must exist.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from contracts.ids import uuid7
from contracts.settings import Settings
from oltp.commands.body import has_body
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.directory import placements
from traffic import books as pod_books
from traffic.books import Connection
from traffic.command_chains import KeyedCommand, batched_by_pod, run_commands_by_pod, try_commands
from traffic.homes import place_merchants
from traffic.only_import import only_import
from traffic.progress import OnProgress, no_progress
from traffic.retail import books as retail_books
from traffic.retail import catalog as retail_catalog
from traffic.retail.books import Given
from traffic.retail.credits import CreditPlan, book_credit, plan_credit, sold_key
from traffic.retail.dates import DateOrder
from traffic.retail.files import Source, inspect_files
from traffic.retail.invoice_commands import LOCATION, row_steps, steps_of
from traffic.retail.invoices import (
    Invoice,
    InvoiceKey,
    Survey,
    needed_units,
    read_invoices,
    survey_files,
)
from traffic.retail.matching import ReturnMatcher
from traffic.retail.rejects import RejectsFile
from traffic.retail.report import ImportReport, Outcome, Totals, already, combined, refused
from traffic.retail.rows import Rejection
from traffic.retail.rules import InvoiceType, Treatment, invoice_type
from traffic.retail.sales import book_sales, is_stored, is_taken
from traffic.statistics import GrowingTables
from traffic.workers import Workers

BATCH = 20
"""Invoices or commands per worker task."""
INSPECTED_AT_ONCE = 500
DIFFERS = "invoice_differs_between_files"

Place = tuple[int, InvoiceKey]
Item = TypeVar("Item")


def import_files(
    paths: Sequence[Path],
    settings: Settings,
    on_progress: OnProgress = no_progress,
    *,
    date_order: DateOrder | None = None,
    processes: int | None = None,
) -> ImportReport:
    """Import the files into the pods and return the report. Idempotent: a second run finishes an interrupted one.

    `date_order`: the date order of all files, if they do not prove it themselves. `processes`: the number of worker
    processes (default: one more than processors; 0: run in the caller's process). The pods must be migrated, and the
    directory must exist.

    Raises InputError, before anything is booked, when a file is missing, damaged or not an Online Retail file, or when
    its dates or quotes are ambiguous; ConflictError while another import runs; UnbalancedImportError when booked plus
    rejected amounts differ from the amounts read.
    """
    sources = inspect_files(paths, date_order)
    with ExitStack() as stack:
        stack.enter_context(only_import(settings))
        work = _Import(
            sources=sources,
            settings=settings,
            on_progress=on_progress,
            workers=stack.enter_context(Workers(settings, processes)),
            rejects=stack.enter_context(RejectsFile(settings.var_dir, paths)),
            connections={pod.pod: stack.enter_context(pod_books.connect(pod.reader_dsn)) for pod in settings.pods},
        )
        return work.run().balanced()


@dataclass(kw_only=True)
class _Import:
    sources: Sequence[Source]
    settings: Settings
    on_progress: OnProgress
    workers: Workers
    rejects: RejectsFile
    connections: dict[str, Connection]
    run_id: str = field(default_factory=lambda: str(uuid7()))
    totals: Totals = field(default_factory=Totals)
    homes: dict[str, str] = field(default_factory=dict)
    """Pod by merchant id."""
    rates: dict[str, dict[str, int]] = field(default_factory=dict)
    """Tax rates in parts per million by merchant id and category, as stored in the pods."""
    settled: set[Place] = field(default_factory=set)
    """Invoices that have an outcome, or are copies: they need no booking."""
    copies: set[Place] = field(default_factory=set)
    """Invoices that an earlier file also contains, with the same rows."""
    reasons: dict[tuple[int, int], str] = field(default_factory=dict)
    """The reason of each refused row, by (file, line)."""
    notes: list[Invoice] = field(default_factory=list)
    needed: dict[tuple[str, str], int] = field(default_factory=dict)
    """Units that sales and write-offs need, by (merchant, stock code)."""

    def run(self) -> ImportReport:
        survey = survey_files(self.sources, self._reject, self.on_progress)
        self.totals.amount_read_micro = survey.amount_read_micro
        self._find_homes(survey)
        self._inspect(survey)
        self._prepare_catalog(survey)
        self._book_sales(survey)
        self._book_credits()
        self._settle_copies(survey)
        merchants = {pod: list(self.homes.values()).count(pod) for pod in sorted(set(self.homes.values()))}
        return self.totals.report(self.sources, merchants, self.rejects.path if self.rejects.is_written else None)

    def _reject(self, rejection: Rejection) -> None:
        self.totals.reject(rejection)
        self.rejects.add(rejection)

    def _settle(self, outcome: Outcome) -> None:
        self.totals.add(outcome)
        for rejection in outcome.rejections:
            self.reasons[rejection.file, rejection.line] = rejection.reason
            self._reject(rejection)

    def _find_homes(self, survey: Survey) -> None:
        placed = {placement.merchant_id: placement.pod for placement in placements(self.settings.control_dsn)}
        rows = {merchant_id: merchant.rows for merchant_id, merchant in survey.merchants.items()}
        self.homes = place_merchants(rows, placed, [pod.pod for pod in self.settings.pods])
        for pod, connection in self.connections.items():
            self.rates.update(retail_books.tax_rates(connection, self._merchants_of(pod)))

    def _merchants_of(self, pod: str) -> list[str]:
        return sorted(merchant_id for merchant_id, home in self.homes.items() if home == pod)

    def _inspect(self, survey: Survey) -> None:
        """Settle already booked invoices, keep the credit notes, and add up the units that the other invoices need."""
        digests: dict[InvoiceKey, str] = {}
        done = 0
        for batch in _batches(read_invoices(self.sources, survey.sizes, self._reject), INSPECTED_AT_ONCE):
            fresh = [invoice for invoice in batch if self._is_first(invoice, digests)]
            sales = [invoice for invoice in fresh if not _is_note(invoice)]
            self.notes += [invoice for invoice in fresh if _is_note(invoice)]
            self._add_needed(self._not_taken(sales))
            done += len(batch)
            self.on_progress("looking for invoices that are booked", done, len(survey.sizes))

    def _is_first(self, invoice: Invoice, digests: dict[InvoiceKey, str]) -> bool:
        """Return whether no earlier file has the invoice. Keep a copy for later; reject it if its content differs."""
        digest = digests.setdefault(invoice.key, f"{invoice.file}/{invoice.digest}")
        file, _, content = digest.partition("/")
        if int(file) == invoice.file:
            return True
        self.settled.add((invoice.file, invoice.key))
        if content == invoice.digest:
            self.copies.add((invoice.file, invoice.key))
        else:
            self._settle(refused(invoice.rows, DIFFERS))
        return False

    def _settle_copies(self, survey: Survey) -> None:
        """Give every copy the outcome of its first occurrence, row by row."""
        if not self.copies:
            return
        copied = {key for _, key in self.copies}
        reasons: dict[InvoiceKey, list[str | None]] = {}
        for invoice in read_invoices(self.sources, survey.sizes, lambda _: None):
            if (invoice.file, invoice.key) in self.copies:
                self._settle(_as_first(invoice, reasons[invoice.key]))
            elif invoice.key in copied:
                places = [(item.row.file, item.row.line) for item in invoice.rows]
                reasons.setdefault(invoice.key, [self.reasons.get(place) for place in places])

    def _not_taken(self, invoices: Sequence[Invoice]) -> list[Invoice]:
        """Settle completely booked invoices; return the others, without rows whose units are already taken."""
        known = [invoice for invoice in invoices if invoice.key.merchant_id in self.rates]
        stored = self._stored_keys(known, lambda invoice: [step.key for step in steps_of(invoice)])
        for invoice in known:
            if is_stored(invoice, stored):
                self.settled.add((invoice.file, invoice.key))
                self._settle(already(invoice.rows))
        return [
            msgspec.structs.replace(
                invoice, rows=tuple(item for item in invoice.rows if not is_taken(invoice, item, stored))
            )
            for invoice in invoices
            if (invoice.file, invoice.key) not in self.settled
        ]

    def _stored_keys(
        self, invoices: Iterable[Invoice], keys_of: Callable[[Invoice], list[str]]
    ) -> dict[tuple[str, str], str]:
        wanted: dict[str, list[tuple[str, str]]] = {pod: [] for pod in self.connections}
        for invoice in invoices:
            merchant_id = invoice.key.merchant_id
            wanted[self.homes[merchant_id]].extend((merchant_id, key) for key in keys_of(invoice))
        stored: dict[tuple[str, str], str] = {}
        for pod, connection in self.connections.items():
            stored.update(pod_books.stored_keys(connection, wanted[pod]))
        return stored

    def _add_needed(self, invoices: Iterable[Invoice]) -> None:
        for place, units in needed_units(invoices).items():
            self.needed[place] = self.needed.get(place, 0) + units

    def _prepare_catalog(self, survey: Survey) -> None:
        """Register merchants, then create products, then receive the stock."""
        registrations = [
            retail_catalog.register_merchant(merchant_id, merchant)
            for merchant_id, merchant in sorted(survey.merchants.items())
            if merchant_id not in self.rates
        ]
        self._run_commands("registering merchants", registrations)
        for merchant_id in survey.merchants.keys() - self.rates.keys():
            rates = retail_catalog.tax_rates(merchant_id, survey.merchants[merchant_id].first_at)
            self.rates[merchant_id] = {rate.tax_category: rate.rate_ppm for rate in rates}
        products: list[KeyedCommand] = []
        receipts: list[KeyedCommand] = []
        for pod, connection in self.connections.items():
            merchants = self._merchants_of(pod)
            existing = pod_books.variants(connection, merchants)
            available = pod_books.available_units(connection, merchants, LOCATION)
            for merchant_id in merchants:
                merchant = survey.merchants[merchant_id]
                products += retail_catalog.upsert_products(merchant_id, merchant, existing)
                short = self._short_units(merchant_id, available)
                receipts += retail_catalog.receive_stock(merchant_id, short, merchant.first_at, self.run_id)
        self._run_commands("creating products", products)
        self._run_commands("receiving stock", receipts, at_once=1)

    def _short_units(self, merchant_id: str, available: dict[tuple[str, str], int]) -> dict[str, int]:
        short = {
            stock_code: units - available.get((merchant, stock_code), 0)
            for (merchant, stock_code), units in self.needed.items()
            if merchant == merchant_id
        }
        return {stock_code: units for stock_code, units in short.items() if units > 0}

    def _run_commands(self, step: str, commands: Sequence[KeyedCommand], at_once: int = BATCH) -> None:
        """Run commands that invoices need; ignore refusals, because the dependent invoices are then refused too."""
        run_commands_by_pod(
            self.workers, self.homes, commands, step, self.on_progress, at_once=at_once, work=try_commands
        )

    def _book_sales(self, survey: Survey) -> None:
        """Book all invoices except credit notes. Invoices before a change of the tax rate finish first."""
        sales = (
            invoice
            for invoice in read_invoices(self.sources, survey.sizes, lambda _: None)
            if not _is_note(invoice) and (invoice.file, invoice.key) not in self.settled
        )
        total = sum(1 for _, key in survey.sizes.keys() - self.settled if not _is_note_number(key.number))
        done = 0
        with GrowingTables(self.settings.pods) as statistics:
            for rate_ppm, group in itertools.groupby(sales, lambda sale: retail_catalog.vat_ppm(sale.invoiced_at)):
                batches = batched_by_pod(self._taxed(group, rate_ppm), self._home, BATCH)
                for outcomes in self.workers.run(book_sales, batches):
                    for outcome in outcomes:
                        self._settle(outcome)
                    done += len(outcomes)
                    statistics.grown_to(done)
                    self.on_progress("placing orders", done, total)

    def _taxed(self, sales: Iterable[Invoice], rate_ppm: int) -> Iterator[Invoice]:
        """Yield the sales, after declaring the tax rate of their days."""
        for number, sale in enumerate(sales):
            if number == 0:
                self._declare_rate(rate_ppm, sale.invoiced_at)
            yield sale

    def _home(self, invoice: Invoice) -> str:
        return self.homes[invoice.key.merchant_id]

    def _declare_rate(self, rate_ppm: int, at: datetime) -> None:
        """Declare the standard rate at `at` for every merchant that has a different rate."""
        changes = []
        for merchant_id in sorted(retail_catalog.HOME_MERCHANTS & self.homes.keys()):
            if self.rates[merchant_id].get(retail_catalog.STANDARD) != rate_ppm:
                rates = retail_catalog.tax_rates(merchant_id, at)
                command = ConfigureMerchant(merchant_id=merchant_id, tax_rates=rates)
                changes.append(KeyedCommand(key=f"online-retail/rates/{uuid7()}", command=command, occurred_at=at))
                self.rates[merchant_id] = {rate.tax_category: rate.rate_ppm for rate in rates}
        self._run_commands("changing tax rates", changes)

    def _book_credits(self) -> None:
        plans = [(pod, plan) for pod in self.connections for plan in self._plan_credits(pod)]
        open_plans = [(pod, plan) for pod, plan in plans if not plan.is_done]
        for _, plan in plans:
            if plan.is_done:
                self._settle(already(plan.invoice.rows))
        with GrowingTables(self.settings.pods) as statistics:
            for done, outcome in enumerate(self.workers.run(book_credit, open_plans), start=1):
                self._settle(outcome)
                statistics.grown_to(done)
                self.on_progress("booking credit notes", done, len(open_plans))

    def _plan_credits(self, pod: str) -> list[CreditPlan]:
        notes = sorted((note for note in self.notes if self._home(note) == pod), key=_age)
        keys = {sold_key(note, item) for note in notes for item in note.treated(Treatment.RETURN)} - {None}
        connection = self.connections[pod]
        matcher = ReturnMatcher(retail_books.sold_lines(connection, [key for key in keys if key]))
        given = retail_books.given_back(connection, [note.key for note in notes])
        stored = self._stored_keys(notes, lambda note: [step.key for step in row_steps(note)])
        return [_plan_credit(note, matcher, given.get(note.key) or Given(), stored) for note in notes]


def _is_note(invoice: Invoice) -> bool:
    return _is_note_number(invoice.key.number)


def _is_note_number(number: str) -> bool:
    return invoice_type(number) is InvoiceType.CREDIT_NOTE


def _age(invoice: Invoice) -> tuple[datetime, str, str]:
    return invoice.invoiced_at, *invoice.key


def _plan_credit(
    note: Invoice, matcher: ReturnMatcher, given: Given, stored: Mapping[tuple[str, str], str]
) -> CreditPlan:
    hashes = [(step, stored.get((note.key.merchant_id, step.key))) for step in row_steps(note)]
    booked = {step.ordinal for step, body in hashes if body is not None and step.ordinal is not None}
    plan = plan_credit(note, matcher, given, booked)
    is_changed = any(body is not None and not has_body(step.command, body) for step, body in hashes)
    return msgspec.structs.replace(plan, is_changed=plan.is_changed or is_changed)


def _as_first(copy: Invoice, reasons: Sequence[str | None]) -> Outcome:
    """Return the outcome of a copy; `reasons`: those of its first occurrence, None for each row that was booked."""
    rows = list(zip(copy.rows, reasons, strict=True))
    booked = already([item for item, reason in rows if reason is None])
    return combined([booked, *(refused([item], reason) for item, reason in rows if reason is not None)])


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
