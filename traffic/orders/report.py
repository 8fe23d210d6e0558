"""The report of an order import, and its arithmetic.

Belongs here: outcomes of single orders, their sum, and the report. Does not belong here: showing it (`cli/`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from contracts.errors import UnbalancedImportError
from contracts.money import format_minor
from contracts.text import counted
from traffic.orders.format import FORMAT_VERSION
from traffic.orders.reading import Source

AMOUNTS = ("sold", "captured", "refunded")


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts of orders in minor units: sold (with unallocated cash), captured, refunded."""

    sold: int = 0
    captured: int = 0
    refunded: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one order. `booked` comes from the answers of the commands, not from the file."""

    file: int
    line: int
    booked: Figures = Figures()
    counts: Mapping[str, int] = {}
    """The payments, refunds, cancellations and fulfillments that this run booked."""
    unallocated_minor: int = 0
    """The part of the booked amount that is unallocated cash."""
    is_already: bool = False
    """Whether the order was booked completely before this run."""
    reason: str = ""
    """Why it was rejected; empty if it was not rejected."""
    detail: str = ""
    is_unfinished: bool = False
    """Whether the order is placed, and a later step was refused."""


class AmountReport(msgspec.Struct, frozen=True, kw_only=True):
    """One amount of one currency, as decimals in major units. read = imported + rejected."""

    currency: str
    amount: str
    """``sold`` (totals of orders with unallocated cash), ``captured`` or ``refunded``."""
    read: str
    imported: str
    rejected: str


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of read and rejected orders of one file."""

    file: str
    rows_read: int
    orders_read: int
    orders_rejected: int
    rejects_file: str | None


class ReasonReport(msgspec.Struct, frozen=True, kw_only=True):
    """The rejections for one reason, and the place of the first one."""

    reason: str
    orders: int
    first_file: str
    first_line: int
    first_detail: str


class OrdersReport(msgspec.Struct, frozen=True, kw_only=True):
    """The sum over all files. orders_read = orders_imported + orders_rejected; the same is true for every amount.

    Imported orders are the orders in the books after the run; `already_imported` of them were booked before it. The
    counts cover only what this run booked. A rejected order with unreadable amounts counts as 0. In an unfinished
    order, booked amounts count as imported and the others as rejected.
    """

    format_version: int
    is_dry_run: bool
    """Whether it was a dry run: then "imported" means what would be booked."""
    orders_read: int
    orders_imported: int
    orders_rejected: int
    already_imported: int
    unfinished: int
    """Orders of which a step was refused after they were placed; another import retries the step."""
    payments: int
    refunds: int
    cancellations: int
    fulfillments: int
    unallocated: dict[str, str]
    """Unallocated cash by currency: part of `sold`, on lines with SKU UNALLOCATED-CASH; it is not revenue."""
    amounts: tuple[AmountReport, ...]
    rejected: dict[str, int]
    """Orders by reason."""
    merchants: dict[str, int]
    """The number of the files' merchants by pod."""
    files: tuple[FileReport, ...]
    reasons: tuple[ReasonReport, ...]

    @property
    def rejected_files(self) -> list[str]:
        """Return the files in which every order was rejected."""
        return [file.file for file in self.files if file.orders_read == file.orders_rejected]

    @property
    def rejects_files(self) -> list[str]:
        """Return the files of rejected orders."""
        return [file.rejects_file for file in self.files if file.rejects_file]


@dataclass(kw_only=True)
class Totals:
    """Sums of the outcomes and of the amounts read."""

    read: dict[str, Counter[str]] = field(default_factory=dict)
    """Amounts read from the files, by currency."""
    booked: dict[str, Counter[str]] = field(default_factory=dict)
    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    unallocated: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    """(file, line, detail) of the first rejection of each reason."""
    by_file: Counter[int] = field(default_factory=Counter)

    def settle(self, outcome: Outcome, currency: str, read: Figures) -> None:
        """Add the outcome of one order, and its amounts according to the file."""
        booked = outcome.booked
        for name in AMOUNTS if currency else ():
            stated, held = getattr(read, name), getattr(booked, name)
            self.read.setdefault(currency, Counter())[name] += stated
            self.booked.setdefault(currency, Counter())[name] += held
            if outcome.reason:
                self.rejected.setdefault(currency, Counter())[name] += stated - held
        if outcome.reason:
            self.reasons[outcome.reason] += 1
            place = (outcome.file, outcome.line, outcome.detail)
            self.first[outcome.reason] = min(place, self.first.get(outcome.reason, place))
            self.by_file[outcome.file] += 1
            self.counts["unfinished"] += outcome.is_unfinished
        else:
            self.counts["imported"] += 1
            self.counts["already"] += outcome.is_already
        self.unallocated[currency] += outcome.unallocated_minor
        if not outcome.is_already:
            self.counts.update(outcome.counts)

    def report(
        self,
        sources: Sequence[Source],
        merchants: Mapping[str, int],
        rejects_files: Mapping[int, str],
        *,
        is_dry_run: bool,
    ) -> OrdersReport:
        """Return the report; UnbalancedImportError when the sums do not add up, which is a bug of the import."""
        self._check(sum(source.orders for source in sources))
        return OrdersReport(
            format_version=FORMAT_VERSION,
            is_dry_run=is_dry_run,
            orders_read=sum(source.orders for source in sources),
            orders_imported=self.counts["imported"],
            orders_rejected=self.reasons.total(),
            already_imported=self.counts["already"],
            unfinished=self.counts["unfinished"],
            payments=self.counts["payments"],
            refunds=self.counts["refunds"],
            cancellations=self.counts["cancellations"],
            fulfillments=self.counts["fulfillments"],
            unallocated={
                currency: format_minor(minor, currency) for currency, minor in self.unallocated.items() if minor
            },
            amounts=tuple(self._amount(currency, name) for currency in sorted(self.read) for name in AMOUNTS),
            rejected=dict(sorted(self.reasons.items())),
            merchants=dict(merchants),
            files=tuple(self._file(number, source, rejects_files) for number, source in enumerate(sources)),
            reasons=tuple(self._reason(reason, sources) for reason, _ in self.reasons.most_common()),
        )

    def _check(self, orders: int) -> None:
        if orders != self.counts["imported"] + self.reasons.total():
            raise UnbalancedImportError(
                f"The import read {counted(orders, 'order')}, booked {self.counts['imported']} and rejected "
                f"{self.reasons.total()}; its report is wrong."
            )
        for currency, amounts in self.read.items():
            for name, read in amounts.items():
                booked, rejected = (sums.get(currency, Counter())[name] for sums in (self.booked, self.rejected))
                if read != booked + rejected:
                    raise UnbalancedImportError(
                        f"The import read {name} {format_minor(read, currency)} {currency}, but booked "
                        f"{format_minor(booked, currency)} and rejected {format_minor(rejected, currency)}; its report "
                        "is wrong."
                    )

    def _amount(self, currency: str, name: str) -> AmountReport:
        read, booked, rejected = (
            format_minor(sums.get(currency, Counter())[name], currency)
            for sums in (self.read, self.booked, self.rejected)
        )
        return AmountReport(currency=currency, amount=name, read=read, imported=booked, rejected=rejected)

    def _file(self, number: int, source: Source, rejects_files: Mapping[int, str]) -> FileReport:
        return FileReport(
            file=str(source.path),
            rows_read=source.rows,
            orders_read=source.orders,
            orders_rejected=self.by_file[number],
            rejects_file=rejects_files.get(number),
        )

    def _reason(self, reason: str, sources: Sequence[Source]) -> ReasonReport:
        file, line, detail = self.first[reason]
        return ReasonReport(
            reason=reason,
            orders=self.reasons[reason],
            first_file=str(sources[file].path),
            first_line=line,
            first_detail=detail,
        )
