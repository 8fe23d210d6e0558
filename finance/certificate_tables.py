"""The certificate as tables of text, which both spreadsheets and pages show.

Belongs here: which parts of a certificate people see, and in which words. Does not belong here: its content
(`finance/certificate.py`), how a table is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from contracts.money import format_minor
from finance.certificate import Certificate, FigureEvidence
from finance.content_hash import is_number
from finance.periods import Posting
from finance.presentation import MICRO, MICRO_EXPONENT, MINOR, heading, moment
from finance.statement import Statement

COMPARISONS = "Comparisons"
TOTAL = "total"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of text with a title; `note` is shown below the rows, or instead of them."""

    title: str
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    note: str = ""
    numbers_from: int = 99
    """The columns from this one on are numbers."""


def certificate_tables(statement: Statement, *, has_totals: bool = True) -> list[Table]:
    """Return the certificate's tables, the most important first; without the totals if they are shown elsewhere."""
    certificate = statement.certificate
    return [
        _summary(statement),
        _cuts(certificate),
        *([totals_table(statement)] if has_totals else []),
        _figures(certificate),
        _comparisons(certificate),
        _breaks(certificate),
        *([left_out_table(certificate)] if certificate.left_out else []),
    ]


def amount(name: str, value: int | None, currency: str) -> str:
    """Return a figure for people, in the unit at the end of its name, with separated thousands."""
    if value is None:
        return "nothing"
    if name.endswith(MINOR):
        text = format_minor(value, currency)
    elif name.endswith(MICRO):
        text = f"{Decimal(value).scaleb(-MICRO_EXPONENT):.{MICRO_EXPONENT}f}"
    else:
        text = str(value)
    return with_thousands(text)


def with_thousands(text: str) -> str:
    """Return a plain decimal with commas between thousands."""
    whole, point, decimals = text.removeprefix("-").partition(".")
    return f"{'-' if text.startswith('-') else ''}{int(whole):,}{point}{decimals}"


def _summary(statement: Statement) -> Table:
    certificate = statement.certificate
    rows = [
        ("Report", statement.title),
        ("Conclusion", certificate.conclusion),
        *([("Covers", certificate.covers)] if certificate.covers else []),
        ("Made at", moment(certificate.made_at)),
        ("Warehouse build", certificate.build_id),
        ("SHA-256 of the content", certificate.content_sha256),
    ]
    return Table(title="Tie-out certificate", rows=tuple(rows))


def _cuts(certificate: Certificate) -> Table:
    rows = tuple(
        (
            pod.pod,
            str(pod.cut),
            pod.epoch or "-",
            moment(pod.registered_at),
            pod.coverage.value,
            "-" if pod.compared_at_cut is None else str(pod.compared_at_cut),
        )
        for pod in certificate.pods
    )
    headings = ("Pod", "Cut", "Epoch", "Registered at", "Operations against finance", "Compared at cut")
    return Table(title="Where it stands", headings=headings, rows=rows)


def postings_table(statement: Statement) -> Table:
    """Return the sums of a period's report by posting: brought forward, in period, late arrivals, and the total."""
    report = statement.report
    columns = report.columns
    numbers = [(index, name) for index, name in enumerate(columns) if is_number(name)]
    position, currency = columns.index("posting"), columns.index("currency")
    late_for = columns.index("late_for")
    found: dict[tuple[str, str], list[int]] = {}
    for row in report.rows:
        posting = f"{row[position]} for {row[late_for]}" if row[late_for] else str(row[position])
        for label in (posting, TOTAL):
            sums = found.setdefault((str(row[currency]), label), [0] * len(numbers))
            for place, (index, _) in enumerate(numbers):
                sums[place] += int(str(row[index] or 0))
    rows = tuple(
        (code, label, *(amount(name, value, code) for (_, name), value in zip(numbers, sums, strict=True)))
        for (code, label), sums in sorted(found.items(), key=lambda item: (item[0][0], _place(item[0][1])))
    )
    headings = ("Currency", "Posting", *(heading(name) for _, name in numbers))
    return Table(title="In sum", headings=headings, rows=rows, numbers_from=2)


def grouped_table(statement: Statement) -> Table | None:
    """Return the sums of a report by account or jurisdiction; None for a report that has neither."""
    report = statement.report
    by = next((name for name in ("account", "jurisdiction") if name in report.columns), None)
    if by is None:
        return None
    label, currency = report.columns.index(by), report.columns.index("currency")
    numbers = [(index, name) for index, name in enumerate(report.columns) if is_number(name)]
    found: dict[tuple[str, str], list[int]] = {}
    for row in report.rows:
        sums = found.setdefault((str(row[currency]), str(row[label])), [0] * len(numbers))
        for place, (index, _) in enumerate(numbers):
            sums[place] += int(str(row[index] or 0))
    rows = tuple(
        (code, text, *(amount(name, value, code) for (_, name), value in zip(numbers, sums, strict=True)))
        for (code, text), sums in sorted(found.items())
    )
    headings = ("Currency", heading(by), *(heading(name) for _, name in numbers))
    return Table(title=f"By {by}, over all merchants", headings=headings, rows=rows, numbers_from=2)


def totals_table(statement: Statement) -> Table:
    """Return the sums of a report by currency; for a period's report also by posting."""
    return postings_table(statement) if statement.period else _totals(statement.certificate)


def _place(label: str) -> tuple[int, str]:
    order = [posting.value for posting in Posting]
    return next((number for number, value in enumerate(order) if label.startswith(value)), len(order)), label


def _totals(certificate: Certificate) -> Table:
    names = tuple(certificate.totals[0].sums) if certificate.totals else ()
    rows = tuple(
        (found.currency, f"{found.rows:,}", *(amount(name, found.sums[name], found.currency) for name in names))
        for found in certificate.totals
    )
    headings = ("Currency", "Rows", *(heading(name) for name in names))
    return Table(title="What the report adds up to", headings=headings, rows=rows, numbers_from=1)


def _figures(certificate: Certificate) -> Table:
    title = "Operations against finance, over all days up to the compared cuts"
    if certificate.figures is None:
        return Table(title=title, note="Not compared: no totals were kept for these cuts.")
    shown = [figure for figure in certificate.figures if figure.operational != 0 or figure.finance != 0]
    headings = ("Pod", "Cut", "Currency", "Figure", "Operations", "Finance", "Difference")
    return Table(title=title, headings=headings, rows=tuple(_figure(item) for item in shown), numbers_from=4)


def _figure(figure: FigureEvidence) -> tuple[str, ...]:
    both = (figure.operational, figure.finance)
    difference = None if both[0] is None or both[1] is None else both[1] - both[0]
    shown = [amount(figure.name, value, figure.currency) for value in (*both, difference)]
    return (figure.pod, str(figure.cut), figure.currency, heading(figure.name), *shown)


def _comparisons(certificate: Certificate) -> Table:
    rows = tuple(
        (
            pair.pair,
            pod.pod,
            pair.verdict.value,
            f"{pair.compared:,}",
            f"{pair.differences:,}",
            f"{pair.parked:,}",
            moment(pair.checked_at),
        )
        for pod in certificate.pods
        for pair in pod.pairs
    )
    headings = ("Pair", "Pod", "Verdict", "Keys compared", "Different", "Parked", "Checked at")
    note = "" if rows else "Not compared: there is no comparison of all finance pairs at or after these cuts."
    return Table(title=COMPARISONS, headings=headings if rows else (), rows=rows, note=note)


def _breaks(certificate: Certificate) -> Table:
    title = "Breaks that touch the report"
    if certificate.breaks_unsettled is None or certificate.breaks_accepted is None:
        return Table(title=title, note="Not known: no ledger of breaks is kept.")
    number = certificate.breaks_unsettled + certificate.breaks_accepted
    note = f"{certificate.breaks_unsettled:,} not settled, {certificate.breaks_accepted:,} accepted."
    if len(certificate.breaks) < number:
        note += f" The first {len(certificate.breaks):,} are listed."
    rows = tuple(
        (
            str(found.break_id),
            found.state.value,
            found.pair,
            f"{found.entity} {' / '.join(str(part) for part in found.key)}",
            found.kind,
            found.day or "-",
            _amounts(found.amounts, found.currency),
            found.owner,
            found.reason or "-",
        )
        for found in certificate.breaks
    )
    headings = ("Break", "State", "Pair", "Key", "Class", "Day", "Difference", "Owner", "Reason")
    return Table(title=title, headings=headings if rows else (), rows=rows, note=note)


def left_out_table(certificate: Certificate) -> Table:
    """Return the aggregates that are left out of the figures, with their amounts from their events."""
    rows = tuple(
        (found.pod, found.aggregate_key, found.merchant_id, _amounts(found.amounts, found.currency), found.reason)
        for found in certificate.left_out
    )
    headings = ("Pod", "Aggregate", "Merchant", "Money", "Why")
    return Table(title="Left out of the figures, because defective in themselves", headings=headings, rows=rows)


def _amounts(amounts: Mapping[str, int], currency: str | None) -> str:
    shown = [
        f"{heading(name)} {amount(name, value, currency)}" if currency else f"{name} {value:,}"
        for name, value in sorted(amounts.items())
    ]
    return "; ".join(shown) or "-"
