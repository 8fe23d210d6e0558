"""A report as a spreadsheet: numbers that can be added up, and the certificate on a second sheet.

Amounts are written as decimals in major units with the currency's number of decimals. A spreadsheet stores fifteen
digits; a longer amount is written as text, so that no digit is lost.

Belongs here: XLSX. Does not belong here: the figures, the certificate's values.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import xlsxwriter

from finance.certificate_tables import Table, certificate_tables
from finance.content_hash import is_number
from finance.presentation import currency_of, exponent, heading, scaled
from finance.statement import Statement, certificate_file

DIGITS_MAX = 15
REPORT_SHEET, CERTIFICATE_SHEET, CONTINUED_SHEET = "Report", "certificate.json", "continued"
"""The second sheet is hidden and holds the certificate as JSON; people read a separate sheet.

The third sheet exists only if a text is longer than CELL_MAX. Each of its rows is (row, column, next part of the text),
with row and column counted from 0.
"""
CELL_MAX = 16_000
"""Characters; a spreadsheet's cell holds 32,767, and some characters count twice."""
ESCAPED = re.compile("_(?=x[0-9a-fA-F]{4}_)")
"""Text that a spreadsheet would read as an escaped character; written in two pieces, it is read as it is."""
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
                # Otherwise the time of writing is stored, and the same statement would not give the same bytes.
                "created": datetime.fromisoformat(statement.certificate.made_at).replace(tzinfo=None),
            }
        )
        continued = _write_report(book, statement)
        _write_certificate(book, statement)
        _write_certificate_data(book, statement)
        _write_continued(book, continued)
    return data.getvalue()


def _write_report(book: Any, statement: Statement) -> list[tuple[int, int, str]]:
    """Write the figures; return the parts of texts that are too long for one cell, as (row, column, part)."""
    report = statement.report
    sheet = book.add_worksheet(REPORT_SHEET)
    bold = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
    formats: dict[int, Any] = {}
    continued: list[tuple[int, int, str]] = []
    for index, name in enumerate(report.columns):
        sheet.write_string(0, index, heading(name), bold)
    for number, row in enumerate(report.rows, 1):
        currency = currency_of(report.columns, row)
        for index, (name, value) in enumerate(zip(report.columns, row, strict=True)):
            decimals = exponent(name, currency) if is_number(name) else 0
            if decimals not in formats:
                formats[decimals] = book.add_format({"num_format": number_format(decimals)})
            shown = number_or_value(name, value, currency)
            _write_cell(sheet, number, index, shown, formats[decimals])
            if isinstance(shown, str) and len(shown) > CELL_MAX:
                continued += [(number, index, part) for part in _parts(shown)[1:]]
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
    return continued


def number_format(decimals: int) -> str:
    """Return a spreadsheet's number format with separated thousands and this many decimals."""
    return "#,##0" + ("." + "0" * decimals if decimals else "")


def number_or_value(name: str, value: object, currency: str | None) -> object:
    """Return an amount or count as the exact decimal to write, any other value unchanged."""
    if value is None or not is_number(name):
        return value
    return scaled(int(str(value)), -exponent(name, currency))


def _write_cell(sheet: Any, row: int, column: int, value: object, cell_format: Any) -> None:
    if value is None:
        sheet.write_blank(row, column, None)
    elif isinstance(value, Decimal):
        is_exact = len("".join(map(str, value.as_tuple().digits)).rstrip("0")) <= DIGITS_MAX
        write = sheet.write_number if is_exact else sheet.write_string
        write(row, column, value if is_exact else f"{value:f}", cell_format)
    elif isinstance(value, date) and not isinstance(value, datetime):
        sheet.write_datetime(row, column, value)
    else:
        write_text(sheet, row, column, _parts(str(value))[0])


def write_text(sheet: Any, row: int, column: int, text: str, *cell_format: Any) -> None:
    """Write a text literally: it is never read as a formula or as markup, also if a merchant's name looks like one."""
    pieces = _pieces(text)
    if len(pieces) > 1:
        # XlsxWriter writes a text between <r> and </r> as markup; it escapes a text that it joins from pieces.
        sheet.write_rich_string(row, column, *pieces)
    else:
        sheet.write_string(row, column, text, *cell_format)


def _pieces(text: str) -> list[str]:
    """Return a text in one piece, or in at least three pieces if it must be split to be written literally."""
    # Split after the underscore, and again after the x.
    cut = {place for found in ESCAPED.finditer(text) for place in (found.end(), found.end() + 1)}
    if text.startswith("<r>"):
        cut |= {1, 2}
    return [text[start:end] for start, end in pairwise([0, *sorted(cut), len(text)])]


def _parts(text: str) -> list[str]:
    return [text[start : start + CELL_MAX] for start in range(0, len(text), CELL_MAX)] or [""]


def _write_continued(book: Any, continued: Sequence[tuple[int, int, str]]) -> None:
    if not continued:
        return
    sheet = book.add_worksheet(CONTINUED_SHEET)
    for line, (row, column, part) in enumerate(continued):
        sheet.write_number(line, 0, row)
        sheet.write_number(line, 1, column)
        write_text(sheet, line, 2, part)
    sheet.hide()


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
        write_text(sheet, row, 0, text[start : start + CELL_MAX])
    sheet.hide()


def _write_table(sheet: Any, table: Table, row: int, bold: Any) -> int:
    lines: Sequence[Sequence[str]] = [table.headings, *table.rows] if table.headings else table.rows
    for line in lines:
        for column, text in enumerate(line):
            write_text(sheet, row, column, text[:CELL_MAX], *([bold] if line is table.headings else []))
        row += 1
    if table.note:
        sheet.write_string(row, 0, table.note)
        row += 1
    return row
