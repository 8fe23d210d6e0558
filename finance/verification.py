"""Verifying a report file: does it still contain what its certificate certifies?

The content is read back from the file, as a person would read it, and its checksum is computed again. This proves that
no figure was changed. It cannot prove that file and certificate were not both replaced; for a closed period
`finance/books.py` has the stored checksums (`closed_file`).

Belongs here: reading content back from JSON, CSV, HTML and spreadsheets. Does not belong here: the canonical form
(`finance/content_hash.py`), cells and the ways to write them (`separated.py`, `spreadsheet_reading.py`, `readings.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

from contracts.errors import InputError
from finance.certificate import Certificate, Standing
from finance.content_hash import Content, content_sha256, is_number, sha256
from finance.page import CERTIFICATE_ID, FIGURES_ID
from finance.presentation import heading, without_unit
from finance.readings import content_rows, ways
from finance.separated import decoded, plain_text, tables
from finance.spreadsheet_reading import as_day, read_spreadsheet

SIDECAR = ".certificate.json"
"""Suffix: a CSV file's name with it is the name of its certificate."""

DAMAGED = (
    ArithmeticError,
    AttributeError,
    IndexError,
    KeyError,
    RecursionError,
    TypeError,
    ValueError,
    msgspec.ValidationError,
)
"""Errors that reading a damaged file, or a file that is not a report, can raise."""

Cells = Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a file's certificate states, and what the file contains."""

    file: str
    file_sha256: str
    """Checksum of the file's bytes."""
    stated_sha256: str
    """Checksum of the content, as the certificate states it."""
    found_sha256: str
    """Checksum of the content that the file contains; empty if its figures cannot be read."""
    certificate: Certificate
    saved_again: str = ""
    """How the program that saved the file again writes values; empty: as Tieout does."""
    reason: str = ""
    """Why the figures cannot be read."""

    @property
    def is_intact(self) -> bool:
        """Whether the file contains what was certified."""
        return self.stated_sha256 == self.found_sha256

    @property
    def is_of_closed_period(self) -> bool:
        """Whether the certificate says that its period was closed."""
        return self.certificate.standing is Standing.CLOSED

    @property
    def sentence(self) -> str:
        """The result, in words."""
        if self.is_intact:
            again = f" It was saved again by another program, with {self.saved_again}." if self.saved_again else ""
            return f"{self.file} holds what was certified: content {self.found_sha256}.{again}"
        if self.reason:
            return f"{self.file} was changed: {self.reason}; certified was content {self.stated_sha256}."
        return f"{self.file} was changed: its content is {self.found_sha256}, certified was {self.stated_sha256}."

    def as_json(self) -> dict[str, Any]:
        """Return the result as values that JSON can hold."""
        return {
            "file": self.file,
            "is_intact": self.is_intact,
            "file_sha256": self.file_sha256,
            "stated_sha256": self.stated_sha256,
            "found_sha256": self.found_sha256,
            "saved_again": self.saved_again,
            "reason": self.reason,
            "certificate": self.certificate.as_json(),
        }


@dataclass(frozen=True, kw_only=True)
class Source:
    """A parsed file: its certificate, and its content in every way in which it can be read."""

    stated: Mapping[str, Any]
    """Name, period, cuts, certificate."""
    readings: Iterable[tuple[str, Content]]
    """(name of the way to read, empty for Tieout's own; content). Read lazily; each step may raise ValueError."""


def verify_file(path: Path) -> Verification:
    """Verify a .json, .csv (with its certificate beside it), .xlsx or .html file. InputError if it is not a report."""
    if path.name.endswith(SIDECAR):
        raise InputError(f"{path.name} is a certificate; give the file that it stands beside.")
    readers = {".json": _json_source, ".csv": _csv_source, ".html": _html_source, ".xlsx": _xlsx_source}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path.name} cannot be verified; give a report's .json, .csv, .xlsx or .html file.")
    data = read(path)
    if not data:
        raise InputError(f"{path.name} is empty.")
    try:
        source = reader(path, data)
        certificate = msgspec.convert(source.stated["certificate"], Certificate)
        found, way, reason = _found(source, certificate.content_sha256)
    except DAMAGED as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise InputError(f"{path.name} is no report of Tieout, or not whole: {said}.") from None
    return Verification(
        file=str(path),
        file_sha256=sha256(data),
        stated_sha256=certificate.content_sha256,
        found_sha256=found,
        certificate=certificate,
        saved_again=way,
        reason=reason,
    )


def _found(source: Source, stated_sha256: str) -> tuple[str, str, str]:
    """Return (checksum of the content, how the file is written, why the content cannot be read).

    A reading with the certified checksum decides; if there is none, the first reading that succeeds.
    """
    first, reason = "", ""
    try:
        for way, content in source.readings:
            try:
                found = content_sha256(content)
            except (InputError, ValueError) as error:
                reason = reason or str(error).rstrip(".")
                continue
            if found == stated_sha256:
                return found, way, ""
            first = first or found
    except DAMAGED as error:
        reason = reason or str(error).rstrip(".")
    return first, "", "" if first else reason


def read(path: Path) -> bytes:
    """Return a file's bytes; InputError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


def _json_source(_path: Path, data: bytes) -> Source:
    return Source(stated=(value := _json(data)), readings=_json_readings(value))


def _json_readings(value: Mapping[str, Any]) -> Iterator[tuple[str, Content]]:
    columns = value["columns"]
    if any(set(row) != set(columns) or len(row) != len(columns) for row in value["rows"]):
        raise ValueError("a row does not have the report's columns")
    yield "", _content(value, columns, [[row[name] for name in columns] for row in value["rows"]])


def _csv_source(path: Path, data: bytes) -> Source:
    sidecar = path.with_name(path.name + SIDECAR)
    if not sidecar.exists():
        raise InputError(f"The certificate of a CSV file stands beside it; {sidecar} is not there.")
    value = _json(read(sidecar))
    return Source(stated=value, readings=_csv_readings(value, data))


def _csv_readings(value: Mapping[str, Any], data: bytes) -> Iterator[tuple[str, Content]]:
    columns = value["certificate"]["columns"]
    is_escaped = bool(value.get("csv_escape"))
    reason: ValueError | None = None
    is_read = False
    for separator, cells in tables(decoded(data), [without_unit(name) for name in columns]):
        lines = [_plain(columns, line) for line in cells[1:]] if is_escaped else cells[1:]
        try:
            for reading in _readings(value, lines, has_decimal_comma=separator != ","):
                is_read = True
                yield reading
        except ValueError as error:
            reason = reason or error
    if reason is not None and not is_read:
        raise reason


def _plain(columns: Sequence[str], line: Sequence[str]) -> list[str]:
    return [
        plain_text(cell) if number >= len(columns) or not is_number(columns[number]) else cell
        for number, cell in enumerate(line)
    ]


def _html_source(_path: Path, data: bytes) -> Source:
    page = _Page()
    page.feed(decoded(data))
    page.close()
    value = _json(page.certificate.encode())
    return Source(stated=value, readings=_table_readings(value, page.cells))


def _xlsx_source(_path: Path, data: bytes) -> Source:
    lines, certificate = read_spreadsheet(data)
    value = _json(certificate.encode())
    columns = value["certificate"]["columns"]
    cells = [[_cell_text(name, cell) for name, cell in zip_longest(columns, line)] for line in lines]
    # Some programs add empty cells on the right and empty lines below.
    cells = [line[: len(columns)] if not any(line[len(columns) :]) else line for line in cells]
    while len(cells) > 1 and not any(cells[-1]):
        cells = cells[:-1]
    return Source(stated=value, readings=_table_readings(value, cells))


def _cell_text(name: str | None, cell: str | Decimal | None) -> str:
    if cell is None:
        return ""
    # A number in a column that has no numbers is a day.
    is_day = isinstance(cell, Decimal) and name is not None and not is_number(name)
    return as_day(cell) if is_day and isinstance(cell, Decimal) else f"{cell:f}" if isinstance(cell, Decimal) else cell


def _table_readings(value: Mapping[str, Any], cells: Cells) -> Iterator[tuple[str, Content]]:
    """Yield the content of a heading line and lines of text, as people see them, for each way to read it."""
    if not cells or list(cells[0]) != [heading(name) for name in value["certificate"]["columns"]]:
        raise ValueError("its headings are not those that were certified")
    yield from _readings(value, cells[1:], has_decimal_comma=True)


def _readings(value: Mapping[str, Any], lines: Cells, *, has_decimal_comma: bool) -> Iterator[tuple[str, Content]]:
    columns = value["certificate"]["columns"]
    reason: ValueError | None = None
    is_read = False
    for way in ways(has_decimal_comma=has_decimal_comma):
        try:
            rows = content_rows(columns, lines, way)
        except ValueError as error:
            reason = reason or error
            continue
        is_read = True
        yield way.name, _content(value, columns, rows)
    if not is_read and reason is not None:
        raise reason


def _content(value: Mapping[str, Any], columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Content:
    return Content(name=value["name"], period=value["period"], cuts=value["cuts"], columns=columns, rows=rows)


def _json(data: bytes) -> dict[str, Any]:
    value = json.loads(data, object_pairs_hook=_once)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that occurs twice in an object: programs differ on which of the two values counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


class _Page(HTMLParser):
    """Collects the cells of the figures, and the certificate, from an HTML page."""

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
