"""The command `tieout close`: shows what the closing would freeze, asks, and closes the month.

Belongs here: its options, and what is printed. Does not belong here: the rules (`finance/closing.py`), what is shown
(`finance/preview.py`).
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from cli.commands.books import cuts_text
from cli.confirming import DryRun, Intent, Yes, is_agreed
from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import FAILED, AsJson
from cli.saying import is_name
from contracts.errors import PeriodNotReadyError
from contracts.settings import Settings
from contracts.text import counted
from stack.composition import session
from stack.composition.migrations import migrate_everything

if TYPE_CHECKING:
    from finance.books import ClosedPeriod
    from finance.periods import Period
    from finance.preview import Preview

MERCHANTS_SHOWN = 40
TOTALS = (
    "order_count",
    "placed_minor",
    "captured_minor",
    "refunded_minor",
    "net_minor",
    "adjusted_minor",
    "tax_minor",
)
"""Columns of the daily report that are shown by merchant."""

By = Annotated[
    str | None, typer.Option("--by", callback=is_name, help="Who closes it; by default whoever is logged in.")
]


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command(name="close")(close)


def close(
    month: Annotated[str, typer.Argument(metavar="YYYY-MM", help="The month to close, UTC.")],
    by: By = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    empty: Annotated[bool, typer.Option("--empty", help="Close it although nothing happened on any of its days.")] = (
        False
    ),
    as_json: AsJson = False,
) -> None:
    """Close a month for ever: its four reports are stored as files, with a certificate, and never change again.

    First it shows what would be frozen, and asks. Refuses, with everything that stands in the way, while breaks are
    open, before the month has ended or an earlier one is closed, unless operations and finance were compared after its
    end and agree, while anything of its days is recorded after that comparison's cuts, while an import runs or was
    torn, and when the month is empty. What arrives later for its days is posted in the first open period, as late.
    """
    from finance.periods import parse_period

    period = parse_period(month)
    with session.ended_by_signals(), session.open_session(ConsoleProgress()) as values:
        migrate_everything(values)
        try:
            closed = _shown_and_closed(
                values, period, by or getpass.getuser(), is_empty=empty, is_yes=yes, is_dry_run=dry_run, as_json=as_json
            )
        except PeriodNotReadyError as error:
            _refuse(str(period), error.reasons, as_json=as_json)
    if as_json:
        print_json({**closed.as_json(), "closed": True})
    else:
        _show_closed(closed)


def _shown_and_closed(
    values: Settings, period: Period, by: str, *, is_empty: bool, is_yes: bool, is_dry_run: bool, as_json: bool
) -> ClosedPeriod:
    """Show what the closing would freeze, ask, and freeze exactly what was shown; a dry run ends the command."""
    from finance.closing import close_period
    from finance.preview import preview_close
    from stack.composition.certificate_evidence import gather_proof, hold_proof

    def gather(lake: Any) -> Any:
        return gather_proof(values, lake, period)

    preview = preview_close(values, period, gather, is_empty_allowed=is_empty)
    if preview.obstacles and not is_dry_run:
        raise PeriodNotReadyError(str(period), preview.obstacles)
    if not is_agreed(_intent(preview), is_yes=is_yes, is_dry_run=is_dry_run, as_json=as_json):
        raise typer.Exit(FAILED if preview.obstacles else 0)
    return close_period(
        values, period, gather, hold_proof, by=by, expected=preview.checksums, is_empty_allowed=is_empty
    )


def _refuse(period: str, reasons: Sequence[str], *, as_json: bool) -> NoReturn:
    """Print every reason against the closing, and exit."""
    if as_json:
        print_json({"period": period, "closed": False, "obstacles": list(reasons)})
    lines = [f"{period} cannot be closed:", *(f"- {reason}" for reason in reasons)]
    sys.stderr.write("\n".join(lines) + "\n")
    raise typer.Exit(FAILED)


def _intent(preview: Preview) -> Intent:
    period = preview.period
    cuts = cuts_text(preview.cuts)
    can = "cannot be closed yet" if preview.obstacles else "would be closed for ever"
    return Intent(
        what=f"{period.words} {can}{f' at {cuts}' if cuts else ''}.",
        question=f"Close {period.words} for ever?",
        details=list(_details(preview)),
        tables=list(_tables(preview)),
        document={**preview.as_json(), "closed": False, "dry_run": True},
    )


def _details(preview: Preview) -> Iterator[str]:
    yield from (f"In the way: {reason}." for reason in preview.obstacles)
    if preview.conclusion:
        yield f"The certificate would say: {preview.conclusion}"
    if preview.rows:
        yield f"Rows: {', '.join(f'{name} {rows:,}' for name, rows in preview.rows.items())}."
    if preview.breaks_accepted:
        yield f"Accepted differences that touch it: {preview.breaks_accepted:,}."
    for one in preview.remaining:
        later = sum(kind.later for kind in one.counts)
        if not one.unknown:
            yield (
                f"Recorded after cut {one.cut} of {one.pod}: {counted(one.belonging, 'event')} of days up to "
                f"{preview.period.last_day}, {later:,} of later days."
            )
    if not preview.obstacles:
        yield "What comes later for its days is posted in the first open month, as a late arrival. Nothing reopens it."


def _tables(preview: Preview) -> Iterator[Table]:
    from finance.certificate_tables import amount
    from finance.presentation import heading

    if preview.left_out is not None:
        cells = [[escape(cell) for cell in row] for row in preview.left_out.rows]
        yield table(preview.left_out.title, preview.left_out.headings, cells, numbers_from=9)
    if not preview.totals:
        return
    by_currency: dict[tuple[str, str], list[int]] = {}
    rows: list[tuple[str, ...]] = []
    for one in preview.totals:
        posting = f"{one.posting} for {one.late_for}" if one.late_for else one.posting
        sums = [one.sums[name] for name in TOTALS]
        into = by_currency.setdefault((posting, one.currency), [0] * len(TOTALS))
        by_currency[posting, one.currency] = [a + b for a, b in zip(into, sums, strict=True)]
        rows.append((posting, one.currency, one.merchant_id, *_amounts(sums, one.currency, amount)))
    totals = [(*key, "all merchants", *_amounts(sums, key[1], amount)) for key, sums in sorted(by_currency.items())]
    headings = ("Posting", "Currency", "Merchant", *(heading(name) for name in TOTALS))
    shown = [[escape(cell) for cell in row] for row in rows[:MERCHANTS_SHOWN]]
    yield table("In sum", headings, totals, numbers_from=3)
    more = (
        f" (the first {MERCHANTS_SHOWN} of {len(rows):,}; all with --dry-run --json)" if len(rows) > len(shown) else ""
    )
    yield table(f"By merchant{more}", headings, shown, numbers_from=3)


def _amounts(sums: Sequence[int], currency: str, amount: Any) -> list[str]:
    return [amount(name, value, currency) for name, value in zip(TOTALS, sums, strict=True)]


def _show_closed(closed: ClosedPeriod) -> None:
    console, stated = answers(), closed.stated
    console.print(f"{closed.period} is closed at {cuts_text(closed.cuts)}, by {closed.closed_by}.", markup=False)
    console.print(stated["conclusion"], markup=False)
    rows = [(name, f"{one['rows']:,}", one["content_sha256"]) for name, one in stated["reports"].items()]
    console.print(table("Reports", ("Report", "Rows", "SHA-256 of the content"), rows, numbers_from=9))
    console.print(f"See `tieout report daily --period {closed.period}`, `tieout periods {closed.period}`.")
