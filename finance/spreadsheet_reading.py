"""Reading a report's spreadsheet back: the cells of its first sheet, and the certificate that it carries.

Spreadsheets that somebody opened and saved again can be read too: other programs store fifteen digits, as our writer.

We do not use openpyxl: its reader changes texts that look like an escaped character (`_x000D_`), and a certified
file with such a name would look changed.

Belongs here: XLSX as a zip of XML. Does not belong here: what a cell means for a report (`finance/verification.py`).
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from xml.etree import ElementTree

from finance.spreadsheet import CERTIFICATE_SHEET, CONTINUED_SHEET, DIGITS_MAX, REPORT_SHEET

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
DAY_ZERO = date(1899, 12, 30)

ESCAPE = re.compile("_x([0-9a-fA-F]{4})_")
"""How XLSX escapes a character that XML cannot hold: by its number."""
UNPACKED_MAX = 1 << 30
"""Bytes; a report's file unpacks to less."""

Cell = str | Decimal | None


def read_spreadsheet(data: bytes) -> tuple[list[list[Cell]], str]:
    """Return (the lines of the report's sheet, heading first; the certificate's JSON).

    Numbers are decimals. Raises ValueError or KeyError if the file is not a report's spreadsheet.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            if sum(item.file_size for item in book.infolist()) > UNPACKED_MAX:
                raise ValueError(f"it unpacks to more than {UNPACKED_MAX:,} bytes")
            strings = _strings(book)
            sheets = _sheets(book)
            report = list(_lines(book.read(sheets[REPORT_SHEET]), strings))
            certificate = list(_lines(book.read(sheets[CERTIFICATE_SHEET]), strings))
            if CONTINUED_SHEET in sheets:
                _continue(report, list(_lines(book.read(sheets[CONTINUED_SHEET]), strings)))
    except (zipfile.BadZipFile, zlib.error, ElementTree.ParseError, RuntimeError) as error:
        # The file is damaged, encrypted or compressed in another way.
        raise ValueError(str(error)) from None
    return report, "".join(str(line[0] or "") for line in certificate if line)


def _continue(report: list[list[Cell]], parts: Sequence[Sequence[Cell]]) -> None:
    """Append to cells the parts of texts that were too long for one cell."""
    for row, column, part in parts:
        report[int(row or 0)][int(column or 0)] = f"{report[int(row or 0)][int(column or 0)] or ''}{part or ''}"


def as_day(value: Decimal) -> str:
    """Return the day that a spreadsheet stores as a number, in ISO 8601; the number as text if it is not a day."""
    try:
        return (DAY_ZERO + timedelta(days=int(value))).isoformat() if value == int(value) else f"{value:f}"
    except OverflowError:
        return f"{value:f}"


def _strings(book: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in book.namelist():
        return []
    root = ElementTree.fromstring(book.read("xl/sharedStrings.xml"))
    return [_text(item) for item in root.iter(f"{MAIN}si")]


def _text(item: ElementTree.Element) -> str:
    """Return a cell's text, which may have several runs; phonetic text (`rPh`) is left out."""
    runs = [item.find(f"{MAIN}t"), *(run.find(f"{MAIN}t") for run in item.findall(f"{MAIN}r"))]
    return "".join(ESCAPE.sub(_character, run.text or "") for run in runs if run is not None)


def _character(found: re.Match[str]) -> str:
    return chr(int(found.group(1), 16))


def _sheets(book: zipfile.ZipFile) -> dict[str, str]:
    """Return sheet name -> path inside the file."""
    relations = ElementTree.fromstring(book.read("xl/_rels/workbook.xml.rels"))
    targets = {item.get("Id"): str(item.get("Target")).removeprefix("/xl/") for item in relations}
    root = ElementTree.fromstring(book.read("xl/workbook.xml"))
    return {str(item.get("name")): f"xl/{targets[item.get(f'{RELATION}id')]}" for item in root.iter(f"{MAIN}sheet")}


def _lines(data: bytes, strings: Sequence[str]) -> Iterator[list[Cell]]:
    for row in ElementTree.fromstring(data).iter(f"{MAIN}row"):
        line: list[Cell] = []
        for cell in row.iter(f"{MAIN}c"):
            # Files may omit empty cells, so the reference gives this cell's column.
            column = _column(str(cell.get("r")))
            line += [None] * (column - len(line))
            line.append(_value(cell, strings))
        yield line


def _column(reference: str) -> int:
    """Return the column number, from 0, of a cell reference such as AB12."""
    found = re.match(r"[A-Z]+", reference)
    if found is None:
        raise ValueError(f"{reference!r} is no cell")
    number = 0
    for letter in found.group():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _value(cell: ElementTree.Element, strings: Sequence[str]) -> Cell:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        inline = cell.find(f"{MAIN}is")
        return "" if inline is None else _text(inline)
    text = cell.findtext(f"{MAIN}v")
    if text is None:
        return None
    if kind == "s":
        return strings[int(text)]
    if kind == "d":
        return text.removesuffix("T00:00:00")
    if kind != "n":
        return ESCAPE.sub(_character, text)
    value = Decimal(text)
    if not value.is_finite():
        return text
    # Some programs save 0.1 as 0.10000000000000001.
    return value if len(value.as_tuple().digits) <= DIGITS_MAX else Decimal(repr(float(text)))
