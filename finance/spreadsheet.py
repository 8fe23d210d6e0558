"""A report as a spreadsheet: numbers that can be added up, and the certificate on a second sheet.

Amounts are written as decimals in major units with the currency's number of decimals. A spreadsheet keeps fifteen
digits; a longer amount is written as text rather than lose its last cent.

Belongs here: XLSX. Does not belong here: the figures, the certificate's values.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import xlsxwriter

from finance.presentation import currency_of, exponent, heading, is_number
from finance.statement import Statement, certificate_file
from finance.tables import Table, certificate_tables

DIGITS_MAX = 15
REPORT_SHEET, CERTIFICATE_SHEET = "Report", "certificate.json"
"""The second is hidden, and holds the certificate for programs; what people read stands on a sheet of its own."""
CELL_MAX = 30_000
"""Characters; a spreadsheet's cell takes 32,767."""
WIDTH_MIN, WIDTH_MAX = 8, 44


def xlsx_file(statement: Statement) -> bytes:
    """Return the report as an XLSX file; the same statement gives the same bytes."""
    data = io.BytesIO()
    with xlsxwriter.Workbook(data, {"in_memory": True, "default_date_format": "yyyy-mm-dd"}) as book:
        book.set_properties(
            {
                "title": statement.title,
                "author": "Tieout",
                "comments": statement.certificate.conclusion,
                # Otherwise the moment of writing, and no two files would be alike.
                "created": datetime.fromisoformat(statement.certificate.made_at).replace(tzinfo=None),
            }
        )
        _write_report(book, statement)
        _write_certificate(book, statement)
        _write_certificate_data(book, statement)
    return data.getvalue()


def _write_report(book: Any, statement: Statement) -> None:
    report = statement.report
    sheet = book.add_worksheet(REPORT_SHEET)
    bold = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
    formats: dict[int, Any] = {}
    for index, name in enumerate(report.columns):
        sheet.write_string(0, index, heading(name), bold)
    for number, row in enumerate(report.rows, 1):
        currency = currency_of(report.columns, row)
        for index, (name, value) in enumerate(zip(report.columns, row, strict=True)):
            decimals = exponent(name, currency) if is_number(name) else 0
            if decimals not in formats:
                formats[decimals] = book.add_format({"num_format": number_format(decimals)})
            _write_cell(sheet, number, index, number_or_value(name, value, currency), formats[decimals])
    for index, name in enumerate(report.columns):
        longest = max((len(str(row[index])) for row in report.rows), default=0)
        sheet.set_column(index, index, min(max(WIDTH_MIN, len(heading(name)), longest + 2), WIDTH_MAX))
    sheet.freeze_panes(1, 0)
    if report.rows:
        sheet.autofilter(0, 0, len(report.rows), len(report.columns) - 1)
    sheet.set_landscape()
    sheet.set_paper(9)  # A4
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(0)
    sheet.set_footer(f"&L{statement.title.replace('&', '&&')}&RPage &P of &N")


def number_format(decimals: int) -> str:
    """Return a spreadsheet's number format: thousands separated, so many decimals."""
    return "#,##0" + ("." + "0" * decimals if decimals else "")


def number_or_value(name: str, value: object, currency: str | None) -> object:
    """Return an amount or count as the exact decimal to write, anything else as it is."""
    if value is None or not is_number(name):
        return value
    return Decimal(int(str(value))).scaleb(-exponent(name, currency))


def _write_cell(sheet: Any, row: int, column: int, value: object, cell_format: Any) -> None:
    if value is None:
        sheet.write_blank(row, column, None)
    elif isinstance(value, Decimal):
        is_exact = len(value.normalize().as_tuple().digits) <= DIGITS_MAX
        write = sheet.write_number if is_exact else sheet.write_string
        write(row, column, value if is_exact else f"{value:f}", cell_format)
    elif isinstance(value, date) and not isinstance(value, datetime):
        sheet.write_datetime(row, column, value)
    else:
        # Never a formula, whatever a merchant is called.
        sheet.write_string(row, column, str(value))


def _write_certificate(book: Any, statement: Statement) -> None:
    sheet = book.add_worksheet("Certificate")
    bold = book.add_format({"bold": True})
    sheet.set_column(0, 8, 24)
    row = 0
    for table in certificate_tables(statement):
        sheet.write_string(row, 0, table.title, bold)
        row = _write_table(sheet, table, row + 1, bold) + 1


def _write_certificate_data(book: Any, statement: Statement) -> None:
    sheet = book.add_worksheet(CERTIFICATE_SHEET)
    text = certificate_file(statement).decode()
    for row, start in enumerate(range(0, len(text), CELL_MAX)):
        sheet.write_string(row, 0, text[start : start + CELL_MAX])
    sheet.hide()


def _write_table(sheet: Any, table: Table, row: int, bold: Any) -> int:
    lines: Sequence[Sequence[str]] = [table.headings, *table.rows] if table.headings else table.rows
    for line in lines:
        for column, text in enumerate(line):
            sheet.write_string(row, column, text, *([bold] if line is table.headings else []))
        row += 1
    if table.note:
        sheet.write_string(row, 0, table.note)
        row += 1
    return row
