"""Reading order files one order at a time: CSV or JSON Lines, plain or compressed with gzip.

    (source,) = inspect_files([Path("orders.csv.gz")], mapping)
    for raw in read_orders(source, 0, mapping): ...

Belongs here: which rows form an order, and all reasons that make a whole file unusable. Does not belong here: the
fields of an order (`documents.py`, `format.py`).

The rows of an order must be adjacent, so that memory holds only one order. A row with a wrong number of columns may
belong to the order before or after it. So the row and both orders are rejected, because an order without one of its
rows would be booked wrong.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec

from contracts.errors import InputError
from contracts.limits import NEW_EVENT_BYTES_MAX
from contracts.text import visible
from traffic.csv_lines import CsvLines, misquoted
from traffic.input_files import count_lines, file_state, open_input, sentences, text_of
from traffic.orders.documents import Document, json_key, of_json, of_rows
from traffic.orders.mapping import Mapping, RejectedError

KEY = ("merchant_id", "order_number")
"""The columns that identify an order. All rows of an order have the same values, or empty ones."""
ROWS_MAX = 20_000
"""The limit of rows per order; a longer group means that the order numbers are missing."""

_JSON = msgspec.json.Decoder(float_hook=Decimal)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One file that was read completely once and can be imported."""

    path: Path
    is_json: bool
    header: list[str]
    """The columns of a CSV file."""
    lines: int
    rows: int
    """Rows after the header, or JSON objects."""
    orders: int
    state: tuple[int, int]


class RawOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One order of a file, unparsed."""

    file: int
    line: int
    """The line where it begins."""
    rows: list[list[str]]
    """The rows unchanged, for the file of rejects; for JSON one text."""
    key: tuple[str, str] = ("", "")
    """(merchant, order number), which identify an order in every file; empty when they cannot be read."""
    document: Document = {}
    """The fields by the format's names; empty when the order is rejected."""
    reason: str = ""
    detail: str = ""

    @property
    def digest(self) -> bytes:
        """Return a hash of the content."""
        return hashlib.blake2b(msgspec.json.encode(self.document, order="deterministic"), digest_size=16).digest()


def inspect_files(
    paths: Sequence[Path], mapping: Mapping, on_order: Callable[[RawOrder], None] = lambda _: None
) -> tuple[Source, ...]:
    """Read every file completely and return the sources; InputError for the first unusable file.

    `on_order` is called with every order.
    """
    if not paths:
        raise InputError("No file was given; pass the path of at least one file of orders.")
    return tuple(_inspected(path, number, mapping, on_order) for number, path in enumerate(paths))


def read_orders(sources: Sequence[Source], mapping: Mapping) -> Iterator[RawOrder]:
    """Yield the files' orders; InputError when a file has changed since it was inspected."""
    for number, source in enumerate(sources):
        yield from _orders(source.path, source.is_json, number, mapping)
        if file_state(source.path) != source.state:
            raise InputError(f"File {source.path} changed while it was read; import it again when nobody writes to it.")


def _inspected(path: Path, number: int, mapping: Mapping, on_order: Callable[[RawOrder], None]) -> Source:
    state, lines = file_state(path), count_lines(path)
    is_json = _is_json(path)
    rows = orders = 0
    for raw in _orders(path, is_json, number, mapping):
        rows += len(raw.rows)
        orders += 1
        on_order(raw)
    if not orders:
        raise InputError(f"File {path} holds no orders; leave it out.")
    header = [] if is_json else _header(path, mapping)
    return Source(path=path, is_json=is_json, header=header, lines=lines, rows=rows, orders=orders, state=state)


def _is_json(path: Path) -> bool:
    """Return whether the file is JSON Lines: its first non-space character is a brace."""
    with sentences(path), open_input(path) as file:
        start = file.read(4_096).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"["):
        raise InputError(f"File {path} is one JSON list; write each order on a line of its own (`jq -c '.[]'`).")
    return start.startswith(b"{")


def _orders(path: Path, is_json: bool, file: int, mapping: Mapping) -> Iterator[RawOrder]:
    return _json_orders(path, file, mapping) if is_json else _csv_orders(path, file, mapping)


def _json_orders(path: Path, file: int, mapping: Mapping) -> Iterator[RawOrder]:
    with sentences(path), open_input(path) as opened, io.TextIOWrapper(opened, encoding="utf-8-sig") as text:
        number = 0
        while line := text.readline(NEW_EVENT_BYTES_MAX):
            number += 1
            if len(line) == NEW_EVENT_BYTES_MAX:
                raise InputError(f"File {path}, line {number}, has more than {NEW_EVENT_BYTES_MAX:,} characters.")
            if line.strip():
                yield _json_order(line.strip(), file, number, mapping)


def _json_order(text: str, file: int, line: int, mapping: Mapping) -> RawOrder:
    raw = RawOrder(file=file, line=line, rows=[[text]])
    try:
        given = _JSON.decode(text)
    except (msgspec.DecodeError, RecursionError, ArithmeticError) as error:
        detail = str(error) if isinstance(error, msgspec.DecodeError) else "a number is too large, or it is too deep"
        return msgspec.structs.replace(raw, reason="not_json", detail=visible(detail))
    raw = msgspec.structs.replace(raw, key=json_key(given, mapping))
    try:
        return msgspec.structs.replace(raw, document=of_json(given, mapping))
    except RejectedError as error:
        return msgspec.structs.replace(raw, reason=error.reason, detail=error.detail)


@dataclass(kw_only=True)
class _Group:
    """The rows of one order, collected while reading."""

    line: int
    rows: list[list[str]]
    named: tuple[str, ...] = ()
    """The (merchant, order number) of its rows; () when it has only damaged rows."""
    is_doubtful: str = ""
    """The error of a damaged row that may belong to it."""


def _csv_orders(path: Path, file: int, mapping: Mapping) -> Iterator[RawOrder]:
    with sentences(path), open_input(path) as opened, text_of(opened) as text:
        columns = _columns(path, _first_record(path, text, mapping.separator), mapping)
        lines = CsvLines(path=path, text=text, columns=len(columns), separator=mapping.separator, read=1)
        for group in _groups(lines, columns):
            yield _csv_order(group, file, columns, mapping)


def _groups(lines: CsvLines, columns: Sequence[Sequence[str]]) -> Iterator[_Group]:
    places = [next((place for place, paths in enumerate(columns) if name in paths), None) for name in KEY]
    group: _Group | None = None
    doubt = ""
    for line, fields in _records(lines):
        if len(fields) != len(columns):
            doubt = f"line {line} has another number of columns than the header and may belong to this order"
            group = group or _Group(line=line, rows=[])
            group.rows.append(fields)
            group.is_doubtful = doubt
            continue
        named = tuple("" if place is None else fields[place].strip() for place in places)
        is_next = group is not None and bool(group.named) and (named == group.named or not any(named))
        if group is not None and is_next and len(group.rows) < ROWS_MAX:
            group.rows.append(fields)
            continue
        if group is not None:
            yield group
        group = _Group(line=line, rows=[fields], named=named, is_doubtful=doubt)
        doubt = ""
    if group is not None:
        yield group


def _records(lines: CsvLines) -> Iterator[tuple[int, list[str]]]:
    """Yield every row with the line where it begins; skip blank lines."""
    reader = csv.reader(lines, strict=True, delimiter=lines.separator)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            # The cells of the row are unknown, so give it a wrong number of cells on purpose.
            fields = [*misquoted(lines), *[""] * (lines.columns + 1)]
        taken = len(lines.take())
        if any(field.strip() for field in fields):
            yield lines.read - taken + 1, fields


def _csv_order(group: _Group, file: int, columns: Sequence[Sequence[str]], mapping: Mapping) -> RawOrder:
    raw = RawOrder(file=file, line=group.line, rows=group.rows, key=_csv_key(group, mapping))
    if group.is_doubtful:
        return msgspec.structs.replace(raw, reason="wrong_column_count", detail=group.is_doubtful)
    try:
        return msgspec.structs.replace(
            raw,
            document=of_rows(
                (
                    {path: text for paths, text in zip(columns, fields, strict=True) for path in paths}
                    for fields in group.rows
                ),
                mapping,
            ),
        )
    except RejectedError as error:
        return msgspec.structs.replace(raw, reason=error.reason, detail=error.detail)


def _csv_key(group: _Group, mapping: Mapping) -> tuple[str, str]:
    merchant_id, number = (
        str(mapping.value(name, named) or mapping.constants.get(name, ""))
        for name, named in zip(KEY, group.named or ("", ""), strict=True)
    )
    return (merchant_id, number) if number else ("", "")


def _header(path: Path, mapping: Mapping) -> list[str]:
    with sentences(path), open_input(path) as opened, text_of(opened) as text:
        return _first_record(path, text, mapping.separator)


def _first_record(path: Path, text: io.TextIOWrapper, separator: str) -> list[str]:
    """Return the header, which must be one line."""
    line = text.readline()
    header = next(csv.reader([line], delimiter=separator), [])
    if not header:
        raise InputError(f"File {path} is empty, or its first line is; it must name the columns.")
    return [name.strip() for name in header]


def _columns(path: Path, header: Sequence[str], mapping: Mapping) -> list[list[str]]:
    """Return the format's names for each column; InputError when a column is unknown or occurs twice."""
    columns, unknown = [], []
    for name in header:
        try:
            columns.append(mapping.targets(name))
        except KeyError:
            unknown.append(name)
    if unknown:
        raise InputError(
            f"File {path} has columns that the format does not know: {', '.join(map(visible, unknown))}; name each in "
            "a mapping, or put it under `ignored` there (docs/how-to/import.md)."
        )
    paths = [path for column in columns for path in column]
    twice = sorted({name for name in paths if paths.count(name) > 1})
    if twice:
        raise InputError(f"File {path} has more than one column for {', '.join(twice)}.")
    missing = [theirs for theirs in mapping.columns.values() if theirs not in header]
    if missing:
        raise InputError(f"File {path} lacks columns that the mapping names: {', '.join(map(visible, missing))}.")
    return columns
