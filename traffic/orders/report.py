"""What an import of orders says it did, and the arithmetic behind it.

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
    """Money of orders in minor units: what they came to (with what was paid above), was captured, was given back."""

    sold: int = 0
    captured: int = 0
    refunded: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one order. `booked` is read off what the commands answered, not off the file."""

    file: int
    line: int
    booked: Figures = Figures()
    counts: Mapping[str, int] = {}
    """Of what this run booked of it: payments, refunds, cancellations, fulfillments."""
    unallocated_minor: int = 0
    """Of what the books hold of it."""
    is_already: bool = False
    """Whether the books held all of it before."""
    reason: str = ""
    """Why it was rejected; empty where it was not."""
    detail: str = ""
    is_unfinished: bool = False
    """Whether it is placed, and the books refused a later step."""


class AmountReport(msgspec.Struct, frozen=True, kw_only=True):
    """One amount of one currency, as decimals in major units. read = imported + rejected."""

    currency: str
    amount: str
    """``sold`` (what orders came to, with what was paid above them), ``captured``, ``refunded``."""
    read: str
    imported: str
    rejected: str


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was read and rejected of one file."""

    file: str
    rows_read: int
    orders_read: int
    orders_rejected: int
    rejects_file: str | None


class ReasonReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was rejected for one reason, and where it was first seen."""

    reason: str
    orders: int
    first_file: str
    first_line: int
    first_detail: str


class OrdersReport(msgspec.Struct, frozen=True, kw_only=True):
    """The sum over all files. orders_read = orders_imported + orders_rejected, and the same holds for every amount.

    Imported orders are those that the books hold after the run; `already_imported` of them were there before it. The
    counts are of what this run booked. A rejected order of which the amounts cannot be read counts as 0; of one that is
    unfinished, what is booked counts as imported and the rest as rejected.
    """

    format_version: int
    is_dry_run: bool
    """Whether nothing was booked: imported is then what would be."""
    orders_read: int
    orders_imported: int
    orders_rejected: int
    already_imported: int
    unfinished: int
    """Orders of which the books refused a step after they were placed; importing them again tries it again."""
    payments: int
    refunds: int
    cancellations: int
    fulfillments: int
    unallocated: dict[str, str]
    """What was paid above orders, by currency: part of `sold`, on lines of SKU UNALLOCATED-CASH; no revenue."""
    amounts: tuple[AmountReport, ...]
    rejected: dict[str, int]
    """Orders by reason."""
    merchants: dict[str, int]
    """Merchants of the files by pod."""
    files: tuple[FileReport, ...]
    reasons: tuple[ReasonReport, ...]

    @property
    def rejected_files(self) -> list[str]:
        """Return the files of which every order was rejected."""
        return [file.file for file in self.files if file.orders_read == file.orders_rejected]

    @property
    def rejects_files(self) -> list[str]:
        """Return the files of rejected orders."""
        return [file.rejects_file for file in self.files if file.rejects_file]


@dataclass(kw_only=True)
class Totals:
    """Adds outcomes up, beside what was read."""

    read: dict[str, Counter[str]] = field(default_factory=dict)
    """Amounts of the file by currency."""
    booked: dict[str, Counter[str]] = field(default_factory=dict)
    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    unallocated: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    """File, line and detail of the first rejection of each reason."""
    by_file: Counter[int] = field(default_factory=Counter)

    def settle(self, outcome: Outcome, currency: str, read: Figures) -> None:
        """Add one order: what the file says of its money, and what became of it."""
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
        """Return the report; UnbalancedImportError when it does not add up, which is a fault of the import."""
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
