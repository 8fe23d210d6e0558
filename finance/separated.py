"""Reports as separated text (CSV): writing it, and reading it back, also after another program has saved it.

If a spreadsheet could read a name as a formula, an apostrophe is written before the name. The same is done for a name
that begins with an apostrophe, so removing one apostrophe always gives the name back. The certificate says that the
file is escaped this way.

Belongs here: cells as text, quoting, separators, encodings. Does not belong here: what a cell means for a report
(`finance/verification.py`), headings and amounts (`finance/presentation.py`).
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence

ESCAPE = "'"
"""Written before a name that begins with one of `ESCAPED`."""
ESCAPED = frozenset("=+-@\t\r\n'\uff1d\uff0b\uff0d\uff20")
"""Spreadsheets read a text that begins with one of these, also full-width ones, as a formula. The apostrophe is here so
that unescaping is unambiguous."""
QUOTED = re.compile(r'[",;|\t\r\n\x0b\x0c\x85\u2028\u2029]|^\s|\s$')
SEPARATORS = (",", ";", "\t", "|")
FIELD_MAX = 1 << 27
"""Characters of one cell; Python's csv reader refuses more than 131,072 unless it is set."""

Cells = list[list[str]]


def text_cell(text: str) -> str:
    """Return a text as a cell that spreadsheets do not read as a formula."""
    return ESCAPE + text if text[:1] in ESCAPED else text


def plain_text(cell: str) -> str:
    """Return the text of a cell that `text_cell` wrote."""
    return cell.removeprefix(ESCAPE)


def line(cells: Sequence[str]) -> str:
    """Return one CSV line, with its line end."""
    return ",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' if QUOTED.search(cell) else cell for cell in cells) + "\n"


def decoded(data: bytes) -> str:
    """Return a file's text: UTF-8 with or without a byte order mark, UTF-16 with one, or else Windows-1252."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def tables(text: str, headings: Sequence[str]) -> Iterator[tuple[str, Cells]]:
    """Yield (separator, lines of cells) for every way to read a text in which the first line is these headings.

    Files of an earlier version may have a carriage return in a cell without quotes. Raises ValueError if no way fits.
    """
    found = False
    for separator in SEPARATORS:
        for cells in (_read(text, separator), _read_with_returns(text, separator)):
            if cells and cells[0] == list(headings):
                found = True
                yield separator, _without_blank_ends(cells)
    if not found:
        raise ValueError("its headings are not those that were certified")


def _read(text: str, separator: str) -> Cells | None:
    csv.field_size_limit(FIELD_MAX)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error:
        return None


def _read_with_returns(text: str, separator: str) -> Cells | None:
    """Read lines that end with a line feed only; carriage returns are part of the cells."""
    stand_in = next((mark for mark in "\ue000\ue001\ue002\ue003" if mark not in text), None)
    if "\r" not in text or stand_in is None:
        return None
    cells = _read(text.replace("\r", stand_in), separator)
    return cells and [[cell.replace(stand_in, "\r") for cell in row] for row in cells]


def _without_blank_ends(cells: Cells) -> Cells:
    """Remove the empty lines that some programs add at the end of a file."""
    while cells and not any(cells[-1]):
        cells = cells[:-1]
    return cells
