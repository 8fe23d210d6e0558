"""Commands on periods: closing a month, the months that are closed, and whether a file is what was certified.

Belongs here: `tieout close`, `tieout periods`, `tieout verify`, and what they print. Does not belong here: the rules
(`finance/`), the report of a period (`stack/commands/reports.py`).
"""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contracts.errors import PeriodNotReadyError
from stack import session
from stack.console import Progress, answers, print_json, table
from stack.migrations import migrate_everything

if TYPE_CHECKING:
    from finance.audit import Audit
    from finance.books import ClosedPeriod
    from finance.verification import Verification

FAILED = 1

AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON document, for programs.")]
By = Annotated[str | None, typer.Option("--by", help="Who closes it; by default whoever is logged in.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command(name="close")(close)
    app.command(name="periods")(periods)
    app.command(name="verify")(verify)


def close(
    month: Annotated[str, typer.Argument(metavar="YYYY-MM", help="The month to close, UTC.")],
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Close a month for ever: its four reports are stored as files, with a certificate, and never change again.

    Refuses, with everything that stands in the way, while breaks are open, before the month has ended or an earlier one
    is closed, and unless operations and finance were compared after its end and agree. The month stands at the cuts of
    that comparison; what arrives later for its days is posted in the first open period, named as late.
    """
    from finance.closing import close_period
    from finance.periods import parse_period
    from stack.evidence import gather_proof

    period = parse_period(month)
    with session.ended_by_signals(), session.open_session(Progress()) as values:
        migrate_everything(values)
        try:
            closed = close_period(values, period, lambda lake: gather_proof(values, lake), by=by or getpass.getuser())
        except PeriodNotReadyError as error:
            if as_json:
                print_json({"period": str(period), "closed": False, "obstacles": list(error.reasons)})
            lines = [f"{period} cannot be closed:", *(f"- {reason}" for reason in error.reasons)]
            sys.stderr.write("\n".join(lines) + "\n")
            raise typer.Exit(FAILED) from None
    if as_json:
        print_json({**closed.as_json(), "closed": True})
        return
    _show_closed(closed)


def periods(
    month: Annotated[
        str | None, typer.Argument(metavar="[YYYY-MM]", help="Only this month, with its checksums.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compute everything again and compare: files, checksums, marts.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the closed months: when, by whom, at which cuts, with which conclusion.

    With --verify every stored file is held against its checksum and the certificate, and every report is computed
    again from the marts as of the cuts of its closing; exit code 1 if anything is not what it was.
    """
    from finance.audit import audit_periods
    from finance.books import closed_periods
    from finance.periods import parse_period
    from stack.outlook import next_to_close

    only = None if month is None else parse_period(month)
    with session.ended_by_signals(), session.open_session(Progress()) as values:
        found = [one for one in closed_periods(values.control_dsn) if only is None or one.period == only]
        outlook = next_to_close(values) if only is None else None
        audits = {one.period: one for one in audit_periods(values, only)} if verify and found else {}
    if as_json:
        answer = {"periods": [_with_audit(one, audits.get(one.period)) for one in found]}
        print_json({**answer, "next": outlook.as_json()} if outlook else answer)
    else:
        _show_periods(found, is_whole=only is not None)
        for audit in audits.values():
            _show_audit(audit)
        if outlook is not None:
            answers().print(outlook.sentence, markup=False)
    if any(not audit.is_intact for audit in audits.values()):
        raise typer.Exit(FAILED)


def verify(
    file: Annotated[Path, typer.Argument(help="A report's .json, .csv, .xlsx or .html file.")],
    offline: Annotated[bool, typer.Option("--offline", help="Look at the file only, not at the books.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether a report file still holds what its certificate was given for; exit code 1 if it does not.

    The content is read back from the file and its checksum computed anew. A file of a closed month is held against the
    books, too: whoever can change a file can also write a certificate, but not what was stored at the closing.
    """
    from finance.verification import verify_file

    found = verify_file(file)
    books: tuple[bool, str] | None = None
    if not offline:
        with session.ended_by_signals(), session.open_session(Progress()) as values:
            books = _in_the_books(values.control_dsn, found)
    is_right = found.is_intact and (books is None or books[0])
    if as_json:
        print_json({**found.as_json(), "books": None if books is None else books[1], "is_right": is_right})
    else:
        console = answers()
        console.print(found.sentence, markup=False)
        if books is not None:
            console.print(books[1], markup=False)
        console.print(f"Certified: {found.certificate.conclusion}", markup=False)
    if not is_right:
        raise typer.Exit(FAILED)


def _in_the_books(control_dsn: str, found: Verification) -> tuple[bool, str]:
    """Return whether the books have nothing against a file, and what they say of it."""
    from finance.books import closed_file, closed_periods

    known = closed_file(control_dsn, found.file_sha256)
    if known is not None:
        return True, f"The books have it, byte for byte: the {known[2]} file of {known[1]} of {known[0]}."
    month = found.certificate.period
    closed = next((one for one in closed_periods(control_dsn) if str(one.period) == month), None)
    if not found.is_of_closed_period:
        return True, "It is of no closed month, so the books have nothing to hold it against."
    if closed is None:
        return False, f"It says that it is of the closed month {month}, which is not closed in these books."
    stated = closed.stated["reports"].get(found.certificate.report, {}).get("content_sha256")
    if stated == found.found_sha256:
        return True, f"The figures are those of {found.certificate.report} of {month} in the books; the bytes are not."
    return False, f"The books have other figures for {found.certificate.report} of {month}."


def _with_audit(closed: ClosedPeriod, audit: Audit | None) -> dict[str, Any]:
    return {**closed.as_json(), **({"audit": audit.as_json()} if audit else {})}


def _show_closed(closed: ClosedPeriod) -> None:
    console, stated = answers(), closed.stated
    console.print(f"{closed.period} is closed at {_cuts(closed)}, by {closed.closed_by}.", markup=False)
    console.print(stated["conclusion"], markup=False)
    rows = [(name, f"{one['rows']:,}", one["content_sha256"]) for name, one in stated["reports"].items()]
    console.print(table("Reports", ("Report", "Rows", "SHA-256 of the content"), rows, numbers_from=9))
    console.print(f"See `tieout report daily --period {closed.period}`, `tieout periods {closed.period}`.")


def _show_periods(found: list[ClosedPeriod], *, is_whole: bool) -> None:
    console = answers()
    if not found:
        console.print("No month is closed." if not is_whole else "This month is not closed.")
        return
    rows = [
        (one.period, f"{one.closed_at:%F %T}", one.closed_by, _cuts(one), one.stated["conclusion"]) for one in found
    ]
    headings = ("Period", "Closed at (UTC)", "By", "Cuts", "Conclusion")
    console.print(table("Closed months", headings, rows, numbers_from=9))
    if is_whole:
        files = [
            (report, file_format, checksum)
            for one in found
            for report, values in one.stated["reports"].items()
            for file_format, checksum in values["files"].items()
        ]
        console.print(table("Files", ("Report", "Format", "SHA-256"), files, numbers_from=9))


def _show_audit(audit: Audit) -> None:
    console = answers()
    what = f"{audit.files} files, {audit.reports} reports computed again"
    console.print(f"{audit.period}: {what}: {'all as it was closed' if audit.is_intact else 'not as it was closed'}.")
    for fault in audit.faults:
        console.print(f"- {fault}", markup=False)


def _cuts(closed: ClosedPeriod) -> str:
    return ", ".join(f"{pod} cut {cut}" for pod, cut in sorted(closed.cuts.items()))
