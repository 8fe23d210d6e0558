"""Commands on the books: list the closed months, and verify a report file against its certificate.

Belongs here: `tieout periods`, `tieout verify`, and what they print. Does not belong here: the rules (`finance/`),
closing a month (`closing.py`), the report of a period (`reports.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import FAILED, AsJson
from contracts.errors import StackError
from contracts.settings import Settings
from contracts.text import counted
from stack.composition import session

if TYPE_CHECKING:
    from finance.books import ClosedPeriod
    from finance.period_audit import Audit
    from finance.verification import Verification


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command(name="periods")(periods)
    app.command(name="verify")(verify)


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
    again from the marts as of the cuts of its closing; exit code 1 if anything is not what it was. A closing that these
    books have forgotten, because the control database was set back, is named, and the exit code is 1, too.
    """
    from finance.books import closed_periods
    from finance.period_audit import audit_periods
    from finance.periods import parse_period
    from stack.looking.outlook import next_to_close

    only = None if month is None else parse_period(month)
    with session.ended_by_signals(), session.open_session(ConsoleProgress()) as values:
        closed = closed_periods(values.control_dsn)
        found = [one for one in closed if only is None or one.period == only]
        lost = _forgotten(values, closed)
        outlook = next_to_close(values) if only is None else None
        audits = {one.period: one for one in audit_periods(values, only)} if verify and found else {}
    if as_json:
        answer = {"periods": [_with_audit(one, audits.get(one.period)) for one in found], "forgotten": lost}
        print_json({**answer, "next": outlook.as_json()} if outlook else answer)
    else:
        _show_periods(found, is_whole=only is not None)
        for sentence in lost:
            answers().print(f"Forgotten: {sentence}.", markup=False)
        for audit in audits.values():
            _show_audit(audit)
        if outlook is not None:
            answers().print(outlook.sentence, markup=False)
    if lost or any(not audit.is_intact for audit in audits.values()):
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
        with session.ended_by_signals(), session.open_session(ConsoleProgress()) as values:
            books = _in_the_books(values, found)
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


def _forgotten(values: Settings, closed: Sequence[ClosedPeriod]) -> list[str]:
    """Return a sentence for each closing that the books have lost, or one that says why this is unknown."""
    from finance.closings import forgotten

    try:
        return list(forgotten(values.lake_backup_path, closed))
    except StackError as error:
        return [str(error).removesuffix(".")]


def _in_the_books(values: Settings, found: Verification) -> tuple[bool, str]:
    """Return whether the file agrees with the books, and a sentence on the comparison."""
    from finance.books import closed_file, closed_periods

    known = closed_file(values.control_dsn, found.file_sha256)
    if known is not None:
        return True, f"The books have it, byte for byte: the {known[2]} file of {known[1]} of {known[0]}."
    month = found.certificate.period
    periods_closed = closed_periods(values.control_dsn)
    closed = next((one for one in periods_closed if str(one.period) == month), None)
    if not found.is_of_closed_period:
        return True, "It is of no closed month, so the books have nothing to hold it against."
    if closed is None:
        why = "".join(f" {sentence}." for sentence in _forgotten(values, periods_closed))
        return False, f"It says that it is of the closed month {month}, which is not closed in these books.{why}"
    stated = closed.stated["reports"].get(found.certificate.report, {}).get("content_sha256")
    if stated == found.found_sha256:
        return True, f"The figures are those of {found.certificate.report} of {month} in the books; the bytes are not."
    return False, f"The books have other figures for {found.certificate.report} of {month}."


def _with_audit(closed: ClosedPeriod, audit: Audit | None) -> dict[str, Any]:
    return {**closed.as_json(), **({"audit": audit.as_json()} if audit else {})}


def _show_periods(found: list[ClosedPeriod], *, is_whole: bool) -> None:
    console = answers()
    if not found:
        console.print("No month is closed." if not is_whole else "This month is not closed.")
        return
    rows = [
        (one.period, f"{one.closed_at:%F %T}", one.closed_by, cuts_text(one.cuts), one.stated["conclusion"])
        for one in found
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
    what = f"{counted(audit.files, 'file')}, {counted(audit.reports, 'report')} computed again"
    console.print(f"{audit.period}: {what}: {'all as it was closed' if audit.is_intact else 'not as it was closed'}.")
    for fault in audit.faults:
        console.print(f"- {fault}", markup=False)


def cuts_text(cuts: Mapping[str, int]) -> str:
    """Return cuts in words."""
    return ", ".join(f"{pod} cut {cut}" for pod, cut in sorted(cuts.items()))
