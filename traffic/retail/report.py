"""The report of an Online Retail import, and its arithmetic.

Belongs here: outcomes of single invoices, their sum, and the report. Does not belong here: showing it (`cli/`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import msgspec

from contracts.errors import UnbalancedImportError
from contracts.text import counted
from traffic.retail.files import Source
from traffic.retail.invoices import InvoiceRow, rejected
from traffic.retail.rows import Rejection

DECIMALS_MIN = 3
"""Amounts are shown with at least three decimals, because prices of Online Retail have up to three."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one invoice. Amounts come from the answers of the commands, not from the file."""

    rows_imported: int = 0
    rows_already: int = 0
    """The number of imported rows that an earlier run had booked."""
    amount_micro: int = 0
    orders: int = 0
    refunds: int = 0
    adjustments: int = 0
    write_offs: int = 0
    returns_matched: int = 0
    """Returned rows of which every unit was matched to an order."""
    returns_unmatched: int = 0
    unfinished: int = 0
    """1 when a step was refused: payment or shipment of an order, or a refund of a credit note."""
    rejections: tuple[Rejection, ...] = ()


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of read and rejected rows of one file."""

    file: str
    lines: int
    """Physical lines including the header; more than rows + 1 if there are blank lines or line breaks in descriptions.
    """
    rows_read: int
    rows_rejected: int
    date_order: str


class ReasonReport(msgspec.Struct, frozen=True, kw_only=True):
    """The rejections for one reason, and the place of the first one."""

    reason: str
    rows: int
    amount: str
    first_file: str
    first_line: int


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """The sum over all files. rows_read = rows_imported + rows_rejected; the same is true for the exact amounts.

    Imported rows are the rows in the books after the run; `already_imported` of them were booked before it. `orders`,
    `refunds`, `adjustments`, `write_offs` count what this run booked. Amounts are decimals in pounds. A rejected row
    without a readable quantity and price counts as 0; a partly booked row counts with the unbooked amount.
    """

    rows_read: int
    rows_imported: int
    rows_rejected: int
    amount_read: str
    amount_imported: str
    amount_rejected: str
    rejected: dict[str, int]
    """Rows by reason."""
    orders: int
    refunds: int
    adjustments: int
    write_offs: int
    unfinished: int
    """Orders and credit notes of which a step was refused; the next import of the files retries the step."""
    already_imported: int
    returns_matched: int
    returns_unmatched: int
    merchants: dict[str, int]
    """The number of the files' merchants by pod."""
    rejects_file: str | None
    """The path of the file of rejected rows."""
    files: tuple[FileReport, ...] = ()
    reasons: tuple[ReasonReport, ...] = ()

    @property
    def rejected_files(self) -> list[str]:
        """Return the files in which every row was rejected."""
        return [file.file for file in self.files if file.rows_read == file.rows_rejected]

    @property
    def is_balanced(self) -> bool:
        """Return whether every row and every fraction of a penny read was either imported or rejected."""
        amounts = Decimal(self.amount_imported) + Decimal(self.amount_rejected)
        return self.rows_read == self.rows_imported + self.rows_rejected and Decimal(self.amount_read) == amounts

    def balanced(self) -> ImportReport:
        """Return the report itself; UnbalancedImportError when it does not add up, which is a bug of the import."""
        if self.is_balanced:
            return self
        raise UnbalancedImportError(
            f"The import read {counted(self.rows_read, 'row')} of {self.amount_read} in all, but booked "
            f"{self.rows_imported} of {self.amount_imported} and rejected {self.rows_rejected} of "
            f"{self.amount_rejected}; its report is wrong."
        )


@dataclass(kw_only=True)
class Totals:
    """Sums of the outcomes and rejections."""

    amount_read_micro: int = 0
    amount_rejected_micro: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    amounts_micro: Counter[str] = field(default_factory=Counter)
    """Rejected amounts by reason."""
    first: dict[str, tuple[int, int]] = field(default_factory=dict)
    """File and line of the first rejection of each reason."""
    by_file: Counter[int] = field(default_factory=Counter)
    """Rejected rows by file."""
    sums: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of an invoice; its rejections are counted by `reject`."""
        for name in Outcome.__struct_fields__:
            if name != "rejections":
                self.sums[name] += getattr(outcome, name)

    def reject(self, rejection: Rejection) -> None:
        """Count one rejected row."""
        self.amount_rejected_micro += rejection.amount_micro
        self.reasons[rejection.reason] += 1
        self.amounts_micro[rejection.reason] += rejection.amount_micro
        place = (rejection.file, rejection.line)
        self.first[rejection.reason] = min(place, self.first.get(rejection.reason, place))
        self.by_file[rejection.file] += 1

    def report(
        self, sources: Sequence[Source], merchants: Mapping[str, int], rejects_file: Path | None
    ) -> ImportReport:
        """Return the report; the number of rows read comes from the inspection, independent of the outcomes."""
        return ImportReport(
            rows_read=sum(source.rows for source in sources),
            rows_imported=self.sums["rows_imported"],
            rows_rejected=self.reasons.total(),
            amount_read=format_micro(self.amount_read_micro),
            amount_imported=format_micro(self.sums["amount_micro"]),
            amount_rejected=format_micro(self.amount_rejected_micro),
            rejected=dict(sorted(self.reasons.items())),
            orders=self.sums["orders"],
            refunds=self.sums["refunds"],
            adjustments=self.sums["adjustments"],
            write_offs=self.sums["write_offs"],
            unfinished=self.sums["unfinished"],
            already_imported=self.sums["rows_already"],
            returns_matched=self.sums["returns_matched"],
            returns_unmatched=self.sums["returns_unmatched"],
            merchants=dict(merchants),
            rejects_file=str(rejects_file) if rejects_file else None,
            files=tuple(self._file(number, source) for number, source in enumerate(sources)),
            reasons=tuple(self._reason(reason, sources) for reason, _ in self.reasons.most_common()),
        )

    def _file(self, number: int, source: Source) -> FileReport:
        return FileReport(
            file=str(source.path),
            lines=source.lines,
            rows_read=source.rows,
            rows_rejected=self.by_file[number],
            date_order=source.date_order,
        )

    def _reason(self, reason: str, sources: Sequence[Source]) -> ReasonReport:
        file, line = self.first[reason]
        return ReasonReport(
            reason=reason,
            rows=self.reasons[reason],
            amount=format_micro(self.amounts_micro[reason]),
            first_file=str(sources[file].path),
            first_line=line,
        )


def already(items: Sequence[InvoiceRow]) -> Outcome:
    """Return the outcome of rows that were already booked."""
    amount_micro = sum(item.row.amount_micro for item in items)
    return Outcome(rows_imported=len(items), rows_already=len(items), amount_micro=amount_micro)


def refused(items: Sequence[InvoiceRow], reason: str, detail: str = "") -> Outcome:
    """Return the outcome of refused rows; `detail`: the message of the refusal."""
    return Outcome(rejections=tuple(rejected(item.row, reason, detail) for item in items))


def combined(outcomes: list[Outcome]) -> Outcome:
    """Return the sum of the outcomes of one invoice's parts."""
    numbers = [name for name in Outcome.__struct_fields__ if name != "rejections"]
    sums = {name: sum(getattr(outcome, name) for outcome in outcomes) for name in numbers}
    return Outcome(**sums, rejections=tuple(rejection for outcome in outcomes for rejection in outcome.rejections))


def format_micro(amount_micro: int) -> str:
    """Return an exact decimal in major units, with three to six decimals as needed."""
    text = f"{Decimal(amount_micro).scaleb(-6):.6f}"
    whole, decimals = text.split(".")
    return f"{whole}.{decimals[:DECIMALS_MIN]}{decimals[DECIMALS_MIN:].rstrip('0')}"
