"""Rows of Online Retail files: opening a file, reading records, and what makes a record unreadable.

Belongs here: from bytes to typed rows, or to a rejection with its reason. Does not belong here: what a row means
(`rules.py`).
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from contracts.errors import InputError
from contracts.money import parse_micro

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
"""The header of the UCI data set 352, Online Retail."""

GZIP_MAGIC = b"\x1f\x8b"
DATE_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S")
"""ISO as a spreadsheet's export writes it, and the month-first form in which the data set also circulates."""
YEAR_MIN = 1970
QUANTITY_MAX = 1_000_000_000
AMOUNT_MICRO_MAX = 10**15
"""A thousand million pounds a row; more is a damaged number, and its sums would leave 64 bits."""


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One readable record; the amount is exact, in micro-units, and signed."""

    file: int
    """Index of the file in the run."""
    number: int
    """Index of the record in the file, from 1, the header not counted."""
    invoice: str
    stock_code: str
    description: str
    quantity: int
    unit_price_micro: int
    invoiced_at: datetime
    customer_id: str | None
    merchant_id: str
    country: str

    @property
    def amount_micro(self) -> int:
        """Return quantity x unit price."""
        return self.quantity * self.unit_price_micro


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """One record that cannot be imported, and why; `amount_micro` is 0 when it has no readable amount."""

    file: int
    number: int
    reason: str
    amount_micro: int
    fields: tuple[str, ...]


class UnreadableError(ValueError):
    """A field cannot be read; the message is the reason's code."""


def _latin1(error: UnicodeError) -> tuple[str, int]:
    """Read bytes that are not UTF-8 as Latin-1: the data set circulates in both (its pound signs tell)."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("tieout_latin1", _latin1)


def check_files(paths: Sequence[Path]) -> None:
    """Raise InputError unless every file can be opened and begins with the header, so that nothing is half done."""
    if not paths:
        raise InputError("No file was given; pass the path of at least one Online Retail file.")
    for path in paths:
        for _ in _records(path):
            break


def read_rows(path: Path, file: int) -> Iterator[Row | Rejection]:
    """Yield the file's records in order; InputError when it cannot be read to its end."""
    for number, record in enumerate(_records(path), start=1):
        yield parse_record(file, number, record)


def parse_record(file: int, number: int, record: Sequence[str]) -> Row | Rejection:
    """Return the record as a row, or its rejection with the reason's code."""
    try:
        return _row(file, number, record)
    except UnreadableError as error:
        return Rejection(
            file=file, number=number, reason=str(error), amount_micro=_readable_amount(record), fields=tuple(record)
        )


def fields_of(row: Row) -> tuple[str, ...]:
    """Return the row in the columns of its file, for a list of rejects."""
    price = f"{Decimal(row.unit_price_micro).scaleb(-6).normalize():f}"
    date = row.invoiced_at.strftime("%Y-%m-%d %H:%M:%S")
    quantity = str(row.quantity)
    return (row.invoice, row.stock_code, row.description, quantity, date, price, row.customer_id or "", row.country)


def merchant_of(country: str) -> str:
    """Return a country's merchant id: ``United Kingdom`` becomes ``united-kingdom``; empty if nothing is left."""
    plain = unicodedata.normalize("NFKD", country).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def _records(path: Path) -> Iterator[list[str]]:
    """Yield the records after the header, blank lines left out."""
    try:
        with _open_text(path) as text:
            reader = csv.reader(text)
            header = next(reader, [])
            if tuple(name.strip() for name in header) != COLUMNS:
                raise InputError(
                    f"File {path} is not an Online Retail file: its first line must be {','.join(COLUMNS)}."
                )
            yield from _each(reader)
    except FileNotFoundError:
        raise InputError(f"File {path} does not exist.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"File {path} is damaged: its compressed data end early or are wrong.") from None
    except (OSError, csv.Error) as error:
        raise InputError(f"File {path} cannot be read: {error}.") from None


def _each(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error:
            # A field beyond the reader's limit, say after a stray quote: one record without readable columns.
            record = ["(unreadable record)"]
        if record:
            yield record


@contextmanager
def _open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    """Open a plain or gzip file, told apart by its first bytes, not its name."""
    with path.open("rb") as file:
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        binary = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_gzip else file
        with io.TextIOWrapper(binary, encoding="utf-8-sig", errors="tieout_latin1", newline="") as text:
            yield text


def _row(file: int, number: int, record: Sequence[str]) -> Row:
    if len(record) != len(COLUMNS):
        raise UnreadableError("wrong_column_count")
    if any("\0" in field for field in record):
        raise UnreadableError("unprintable_character")
    invoice, stock_code, description, quantity, date, price, customer, country = record
    row = Row(
        file=file,
        number=number,
        invoice=_required(invoice, "missing_invoice_number"),
        stock_code=_required(stock_code, "missing_stock_code"),
        description=description.strip(),
        quantity=_quantity(quantity),
        unit_price_micro=_price_micro(price),
        invoiced_at=_date(date),
        customer_id=_customer(customer),
        merchant_id=_required(_merchant_of(country), "missing_country"),
        country=country.strip(),
    )
    if abs(row.amount_micro) > AMOUNT_MICRO_MAX:
        raise UnreadableError("amount_out_of_range")
    return row


def _required(text: str, reason: str) -> str:
    stripped = text.strip()
    if not stripped:
        raise UnreadableError(reason)
    return stripped


@lru_cache(maxsize=65_536)
def _quantity(text: str) -> int:
    stripped = text.strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", stripped):
        raise UnreadableError("quantity_not_a_whole_number")
    quantity = int(stripped)
    if abs(quantity) > QUANTITY_MAX:
        raise UnreadableError("quantity_out_of_range")
    return quantity


@lru_cache(maxsize=65_536)
def _price_micro(text: str) -> int:
    stripped = text.strip()
    if not re.fullmatch(r"[+-]?([0-9]{1,15}(\.[0-9]*)?|\.[0-9]+)", stripped):
        raise UnreadableError("price_not_a_number")
    try:
        return parse_micro(stripped)
    except InputError:
        raise UnreadableError("price_has_more_than_six_decimals") from None


@lru_cache(maxsize=65_536)
def _date(text: str) -> datetime:
    for form in DATE_FORMATS:
        try:
            moment = datetime.strptime(text.strip(), form)
        except ValueError:
            continue
        if moment.year >= YEAR_MIN:
            return moment.replace(tzinfo=UTC)
    raise UnreadableError("date_not_readable")


@lru_cache(maxsize=65_536)
def _customer(text: str) -> str | None:
    """Return ``17850`` for ``17850.0`` (a number that a spreadsheet wrote), None for a guest."""
    return text.strip().removesuffix(".0") or None


_merchant_of = lru_cache(maxsize=4_096)(merchant_of)


def _readable_amount(record: Sequence[str]) -> int:
    """Return the exact amount of a rejected record when quantity and price stand where they should, else 0."""
    if len(record) != len(COLUMNS):
        return 0
    try:
        amount_micro = _quantity(record[3]) * _price_micro(record[5])
    except UnreadableError:
        return 0
    return amount_micro if abs(amount_micro) <= AMOUNT_MICRO_MAX else 0
