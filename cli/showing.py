"""How answers look on a terminal: the figures of both sides, the verdicts, imports, reports.

Belongs here: tables for people. Does not belong here: the values in them, or their JSON form.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from rich.markup import escape

from cli.console import answers, table
from contracts.money import format_minor
from contracts.text import are, counted
from contracts.verdicts import PairResult, Verdict
from finance.certificate_tables import COMPARISONS, certificate_tables
from finance.content_hash import is_number
from finance.presentation import headings, shown_rows, standing
from finance.statement import Statement
from reconcile.figures import FIGURES, Figure, total_figures
from traffic.retail.report import ImportReport

VERDICT_STYLES = {"consistent": "green", "late": "yellow", "inconsistent": "bold red", "unknown": "magenta"}


def verdict_text(verdict: str) -> str:
    """Return the verdict in its color."""
    return f"[{VERDICT_STYLES.get(verdict, 'white')}]{verdict}[/]"


def shown(value: object) -> str:
    """Return a value for a table; a dash for None."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def show_figures(found: Sequence[Figure]) -> None:
    """Print the operational and the finance figures per currency over all pods, and each pod's figures that differ.

    Omits figures that are zero on both sides. Prints nothing if the comparison had no figures.
    """
    if not found:
        return
    different = [figure for figure in found if figure.difference != 0]
    shown = [figure for figure in total_figures(found) if figure.operational or figure.finance]
    rows = [
        (
            _figure_name(figure),
            figure.currency,
            figure.pod,
            _amount(figure, figure.operational),
            _amount(figure, figure.finance),
            _amount(figure, figure.difference),
        )
        for figure in sorted([*shown, *different], key=_figure_order)
    ]
    cuts = ", ".join(f"{pod} at cut {cut}" for pod, cut in sorted({(figure.pod, figure.cut) for figure in found}))
    headings = ("Figure", "Currency", "Pods", "Operational", "Finance", "Difference")
    answers().print(table(f"Operational against finance: {cuts}", headings, rows, numbers_from=3))


def _figure_order(figure: Figure) -> tuple[str, int, bool, str]:
    return figure.currency, FIGURES.index(figure.name), figure.pod == "all", figure.pod


def _figure_name(figure: Figure) -> str:
    return figure.name.removesuffix("_minor").removesuffix("_micro").replace("_", " ").capitalize()


def _amount(figure: Figure, value: int | None) -> str:
    """Return a figure as text with thousands separators; money in major units."""
    if value is None:
        return "nothing"
    if figure.name.endswith("_minor"):
        text = format_minor(value, figure.currency)
    elif figure.name.endswith("_micro"):
        text = f"{Decimal(value).scaleb(-6):.6f}"
    else:
        return f"{value:,}"
    whole, point, decimals = text.removeprefix("-").partition(".")
    return f"{'-' if value < 0 else ''}{int(whole):,}{point}{decimals}"


def show_results(results: Sequence[PairResult], *, is_short: bool = False) -> None:
    """Print the verdict of every pair, with the reason if it is not consistent; short: only those, and a summary."""
    rows = [
        (
            result.pair,
            result.pod,
            verdict_text(result.verdict.value),
            shown(result.cut),
            f"{result.compared:,}",
            f"{result.missing:,}",
            f"{result.extra:,}",
            f"{result.different + result.duplicates:,}",
        )
        for result in results
        if not is_short or result.verdict is not Verdict.CONSISTENT
    ]
    headings = ("Pair", "Pod", "Verdict", "Cut", "Compared", "Missing", "Extra", "Different")
    if rows:
        answers().print(table("Comparisons", headings, rows, numbers_from=3))
    good = sum(result.verdict is Verdict.CONSISTENT for result in results)
    keys = sum(result.compared for result in results)
    answers().print(_consistent(good, len(results), keys))
    for result in results:
        if result.verdict is not Verdict.CONSISTENT:
            answers().print(f"{result.pair} in {result.pod}: {result.reason or _sampled(result)}")


def _consistent(good: int, number: int, keys: int) -> str:
    return (
        f"{good} of {counted(number, 'comparison')} {are(good)} consistent; "
        f"{counted(keys, 'key was', 'keys were')} compared."
    )


def _sampled(result: PairResult) -> str:
    keys = [f"{found.entity} {' / '.join(map(str, found.key))} ({found.kind})" for found in result.sample[:3]]
    return f"{counted(result.differences, 'key differs', 'keys differ')}, for example {'; '.join(keys)}."


def show_import(report: ImportReport) -> None:
    """Print what an import read, booked and rejected."""
    rows = [
        ("Read", f"{report.rows_read:,}", report.amount_read),
        ("Imported", f"{report.rows_imported:,}", report.amount_imported),
        ("  of these before this run", f"{report.already_imported:,}", ""),
        ("Rejected", f"{report.rows_rejected:,}", report.amount_rejected),
    ]
    console = answers()
    console.print(table("Online Retail", ("Rows", "Number", "Amount"), rows))
    console.print(
        f"Booked now: {counted(report.orders, 'order')}, {counted(report.refunds, 'refund')}, "
        f"{counted(report.adjustments, 'adjustment')}, "
        f"{counted(report.write_offs, 'write-off')}."
    )
    if report.unfinished:
        console.print(
            f"Unfinished: {counted(report.unfinished, 'order or credit note', 'orders and credit notes')} of which the "
            "books refused a step; import the files again to try it again."
        )
    show_rejects(report)


def show_rejects(report: ImportReport) -> None:
    """Print the reasons of rejected rows, the first row of each, and the file with all of them; nothing if none."""
    if not report.rows_rejected:
        return
    console = answers()
    rows = [
        (
            item.reason.replace("_", " "),
            f"{escape(item.first_file)}, line {item.first_line}",
            f"{item.rows:,}",
            item.amount,
        )
        for item in report.reasons
    ]
    console.print(table("Rejected rows", ("Reason", "First in", "Rows", "Amount"), rows, numbers_from=2))
    by_file = [
        (escape(file.file), f"{file.rows_read:,}", f"{file.rows_rejected:,}")
        for file in report.files
        if file.rows_rejected
    ]
    if len(report.files) > 1:
        console.print(table("Files with rejected rows", ("File", "Rows", "Rejected"), by_file))
    console.print(f"Every rejected row with its line and reason: {report.rejects_file}", markup=False)


def show_statement(statement: Statement) -> None:
    """Print a finance report with its cuts and its certificate; comparisons only if one is not consistent."""
    console, report, certificate = answers(), statement.report, statement.certificate
    made = table(statement.title, headings(report), shown_rows(report), numbers_from=99)
    for name, column in zip(report.columns, made.columns, strict=True):
        column.justify = "right" if is_number(name) else "left"
    console.print(made)
    console.print(standing(report))
    pairs = [pair for pod in certificate.pods for pair in pod.pairs]
    summary, *tables = certificate_tables(statement)
    for shown in tables:
        if shown.title == COMPARISONS and pairs:
            good, keys = sum(pair.verdict is Verdict.CONSISTENT for pair in pairs), sum(pair.compared for pair in pairs)
            console.print(_consistent(good, len(pairs), keys))
            if good == len(pairs):
                continue
        if shown.rows:
            console.print(table(shown.title, shown.headings, _plain(shown.rows), numbers_from=shown.numbers_from))
        if shown.note:
            console.print(f"{shown.title}: {shown.note}", markup=False)
    for label, text in summary.rows[1:]:
        console.print(f"{label}: {text}", markup=False)


def _plain(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[escape(cell) for cell in row] for row in rows]
