"""Reading Online Retail files as records: opening files, refusing unusable files, and grouping lines into records.

    (source,) = inspect_files([Path("2010-12.csv.gz")])
    for record in read_records(source): ...

Belongs here: converting bytes to records of text, and all reasons that make a file unusable. Each raises an InputError
with the file, the line if there is one, and what to do. Does not belong here: the fields of a record (`rows.py`).

**Lines are counted independently of the parser.** If a quote is never closed, a CSV parser reads all lines up to the
next quote as one field, without an error. So a record may have several lines only if none of the later lines is a
complete record; else the file is refused, with the line where the quote opens. We also compare the number of lines in
all records with the number of line ends in the bytes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from contracts.errors import InputError
from contracts.text import counted
from traffic.csv_lines import CsvLines, misquoted
from traffic.input_files import count_lines, file_state, open_input, sentences, text_of
from traffic.retail.dates import DateEvidence, DateOrder

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
"""The header of the UCI data set 352, Online Retail."""
DATE_COLUMN = COLUMNS.index("InvoiceDate")

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One file that was read completely once and can be imported."""

    path: Path
    lines: int
    """Physical lines, counted by the line ends in the bytes, including the header."""
    rows: int
    """Records that are not blank."""
    date_order: DateOrder
    state: tuple[int, int]
    """(size, modification time): the file must not change between passes."""


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The fields of one record."""

    line: int
    """The line where it begins; the header is line 1."""
    lines: int
    """The number of its lines, including blank lines before it."""
    fields: list[str]
    is_misquoted: bool = False
    """Whether there is text between a closing quote and the next comma; then the columns are unknown."""


def inspect_files(paths: Sequence[Path], date_order: DateOrder | None = None) -> tuple[Source, ...]:
    """Read every file completely and return the sources; InputError for the first unusable file.

    `date_order`: the order of all files, declared by the user; None: each file must prove its own.
    """
    if not paths:
        raise InputError("No file was given; pass the path of at least one Online Retail file.")
    return tuple(_inspected(path, date_order) for path in paths)


def read_records(source: Source) -> Iterator[Record]:
    """Yield the file's records; InputError when the file has changed since it was inspected."""
    yield from _records(source.path)
    if file_state(source.path) != source.state:
        raise InputError(f"File {source.path} changed while it was read; import it again when nobody writes to it.")


def _inspected(path: Path, declared: DateOrder | None) -> Source:
    state = file_state(path)
    lines = count_lines(path)
    evidence = DateEvidence(path=str(path))
    rows, accounted = 0, 1
    for record in _records(path):
        rows += bool(record.fields)
        accounted += record.lines
        if len(record.fields) == len(COLUMNS):
            evidence.see(record.fields[DATE_COLUMN], record.line)
    if not rows:
        raise InputError(f"File {path} holds no invoices: nothing follows its header; leave it out.")
    if accounted != lines:
        raise InputError(
            f"File {path} has {counted(lines, 'line')}, but its rows account for {accounted} of them; report this."
        )
    return Source(path=path, lines=lines, rows=rows, date_order=evidence.order(declared), state=state)


def _records(path: Path) -> Iterator[Record]:
    """Yield the records after the header; blank lines are counted with the record after them."""
    with sentences(path), open_input(path) as file, text_of(file) as text:
        lines = CsvLines(path=path, text=text, columns=len(COLUMNS))
        reader = csv.reader(lines, strict=True)
        _check_header(path, lines, reader)
        yield from _each(lines, reader)


def _check_header(path: Path, lines: CsvLines, reader: Iterator[list[str]]) -> None:
    try:
        header = next(reader, None)
    except csv.Error:
        header = [""]
    taken = lines.take()
    if header is None:
        raise InputError(f"File {path} is empty; leave it out.")
    if len(taken) != 1 or tuple(name.strip() for name in header) != COLUMNS:
        raise InputError(f"File {path} is not an Online Retail file: {_wrong_header(header)}")


def _wrong_header(header: Sequence[str]) -> str:
    wanted = f"its first line must be {','.join(COLUMNS)}"
    names = [name.strip() for name in header]
    for separator, what in _SEPARATORS.items():
        if len(names) == 1 and tuple(name.strip() for name in names[0].split(separator)) == COLUMNS:
            return f"its columns are separated by {what}; save it with commas."
    twice = sorted({name for name in names if names.count(name) > 1} & set(COLUMNS))
    missing = [name for name in COLUMNS if name not in names]
    if twice:
        return f"{wanted}, and it names {', '.join(twice)} more than once."
    if len(missing) == len(COLUMNS):
        return f"{wanted}. Orders of your own shop are imported with `--format orders`."
    if missing:
        return f"{wanted}, and it lacks {', '.join(missing)}."
    if set(names) == set(COLUMNS):
        return f"{wanted}, and it has these columns in another order."
    return f"{wanted}, and it has other columns, too."


def _each(lines: CsvLines, reader: Iterator[list[str]]) -> Iterator[Record]:
    """Yield every record; trailing blank lines give a last record without fields."""
    blank = 0
    while True:
        is_misquoted = False
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error:
            fields, is_misquoted = misquoted(lines), True
        taken = len(lines.take())
        if not fields:
            blank += taken
            continue
        yield Record(line=lines.read - taken + 1, lines=taken + blank, fields=fields, is_misquoted=is_misquoted)
        blank = 0
    if blank:
        yield Record(line=lines.read, lines=blank, fields=[])
