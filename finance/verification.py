"""Verifying a report file: does it still say what its certificate was given for?

The content is read back from the file, as a person would read it, and its checksum computed anew. What that proves: no
figure was changed since. What it cannot: that file and certificate were not both replaced; for a closed period the
books know better (`recorded_sha256`).

Belongs here: reading content back from JSON, CSV, HTML and spreadsheets. Does not belong here: the canonical form
(`finance/canonical.py`), the cells of a spreadsheet (`finance/spreadsheet_reading.py`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

from contracts.errors import InputError
from contracts.money import CURRENCY_EXPONENTS
from finance.canonical import Content, content_sha256, sha256
from finance.certificate import Certificate, Standing
from finance.page import CERTIFICATE_ID, FIGURES_ID
from finance.presentation import exponent, heading, is_number, without_unit
from finance.spreadsheet_reading import as_day, read_spreadsheet

SIDECAR = ".certificate.json"
"""Added to the name of a CSV file, gives that of its certificate."""

Cells = Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a file says of itself, and what it really holds."""

    file: str
    file_sha256: str
    """Of the bytes."""
    stated_sha256: str
    """Of the content, as the certificate states it."""
    found_sha256: str
    """Of the content that the file holds."""
    certificate: Certificate

    @property
    def is_intact(self) -> bool:
        """Whether the file holds what was certified."""
        return self.stated_sha256 == self.found_sha256

    @property
    def is_of_closed_period(self) -> bool:
        """Whether its certificate says that its period was closed."""
        return self.certificate.standing is Standing.CLOSED

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        if self.is_intact:
            return f"{self.file} holds what was certified: content {self.found_sha256}."
        return f"{self.file} was changed: its content is {self.found_sha256}, certified was {self.stated_sha256}."

    def as_json(self) -> dict[str, Any]:
        """Return what was found as values that JSON can hold."""
        return {
            "file": self.file,
            "is_intact": self.is_intact,
            "file_sha256": self.file_sha256,
            "stated_sha256": self.stated_sha256,
            "found_sha256": self.found_sha256,
            "certificate": self.certificate.as_json(),
        }


def verify_file(path: Path) -> Verification:
    """Verify a .json, .csv (its certificate beside it), .xlsx or .html file. InputError when it is no report."""
    readers = {".json": _json_content, ".csv": _csv_content, ".html": _html_content, ".xlsx": _xlsx_content}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path.name} cannot be verified; give a report's .json, .csv, .xlsx or .html file.")
    data = read(path)
    try:
        content, certificate = reader(path, data)
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise InputError(f"{path.name} is no report of Tieout, or not whole: {error}.") from None
    return Verification(
        file=str(path),
        file_sha256=sha256(data),
        stated_sha256=certificate.content_sha256,
        found_sha256=content_sha256(content),
        certificate=certificate,
    )


def read(path: Path) -> bytes:
    """Return a file's bytes; InputError says why it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


def _json_content(path: Path, data: bytes) -> tuple[Content, Certificate]:
    value = json.loads(data)
    certificate = msgspec.convert(value["certificate"], Certificate)
    columns = value["columns"]
    if any(list(row) != columns for row in value["rows"]):
        raise ValueError("a row does not have the report's columns")
    rows = [[row[name] for name in columns] for row in value["rows"]]
    return _content(value, columns, rows), certificate


def _csv_content(path: Path, data: bytes) -> tuple[Content, Certificate]:
    sidecar = path.with_name(path.name + SIDECAR)
    value = json.loads(read(sidecar))
    return _from_cells(value, list(csv.reader(io.StringIO(data.decode()))), without_unit)


def _html_content(path: Path, data: bytes) -> tuple[Content, Certificate]:
    page = _Page()
    page.feed(data.decode())
    return _from_cells(json.loads(page.certificate), page.cells, heading)


def _xlsx_content(path: Path, data: bytes) -> tuple[Content, Certificate]:
    lines, certificate = read_spreadsheet(data)
    value = json.loads(certificate)
    columns = value["certificate"]["columns"]
    cells = [[_cell_text(name, cell) for name, cell in zip_longest(columns, line)] for line in lines]
    return _from_cells(value, cells, heading)


def _cell_text(name: str | None, cell: str | Decimal | None) -> str:
    if cell is None:
        return ""
    # A number where none belongs is a day.
    is_day = isinstance(cell, Decimal) and name is not None and not is_number(name)
    return as_day(cell) if is_day and isinstance(cell, Decimal) else f"{cell:f}" if isinstance(cell, Decimal) else cell


def _from_cells(value: Mapping[str, Any], cells: Cells, shown: Any) -> tuple[Content, Certificate]:
    """Return the content of a heading line and lines of text, as people see them."""
    certificate = msgspec.convert(value["certificate"], Certificate)
    columns = certificate.columns
    if not cells or list(cells[0]) != [shown(name) for name in columns]:
        raise ValueError("its headings are not those that were certified")
    currency = columns.index("currency")
    rows = []
    for line in cells[1:]:
        if len(line) != len(columns):
            raise ValueError("a line does not have as many cells as the heading")
        rows.append([_value(name, text, line[currency]) for name, text in zip(columns, line, strict=True)])
    return _content(value, columns, rows), certificate


def _value(name: str, text: str, currency: str) -> object:
    """Return what a shown cell stands for: an amount in the unit that ends the column's name."""
    if text == "" or not is_number(name):
        return text or None
    if currency not in CURRENCY_EXPONENTS:
        raise ValueError(f"currency {currency!r} is not known")
    try:
        value = Decimal(text.replace(",", "")).scaleb(exponent(name, currency))
    except InvalidOperation:
        raise ValueError(f"{text!r} in column {name} is no number") from None
    return int(value) if value == value.to_integral_value() else text


def _content(value: Mapping[str, Any], columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Content:
    return Content(name=value["name"], period=value["period"], cuts=value["cuts"], columns=columns, rows=rows)


class _Page(HTMLParser):
    """Reads the cells of the figures, and the certificate, out of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[list[str]] = []
        self.certificate = ""
        self._is_in_figures = self._is_in_cell = self._is_in_certificate = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name = dict(attrs).get("id")
        self._is_in_figures = self._is_in_figures or (tag == "table" and name == FIGURES_ID)
        self._is_in_certificate = tag == "script" and name == CERTIFICATE_ID
        if self._is_in_figures and tag == "tr":
            self.cells.append([])
        if self._is_in_figures and tag in ("td", "th"):
            self.cells[-1].append("")
            self._is_in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._is_in_figures = False
        if tag in ("td", "th"):
            self._is_in_cell = False
        if tag == "script":
            self._is_in_certificate = False

    def handle_data(self, data: str) -> None:
        if self._is_in_certificate:
            self.certificate += data
        elif self._is_in_cell:
            self.cells[-1][-1] += data
