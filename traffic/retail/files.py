"""Online Retail files as records: what is opened, what is refused as a whole, and which lines a record is made of.

    (source,) = inspect_files([Path("2010-12.csv.gz")])
    for record in read_records(source): ...

Belongs here: from bytes to records of text, and everything that makes a file unusable: each is one InputError with the
file, the line where there is one, and what to do. Does not belong here: what a record's fields say (`rows.py`).

**Lines are counted beside the parser.** One quote that is never closed makes a CSV parser take all lines up to the next
quote for the text of one field, without an error. So a record may only have several lines when none of the later ones
would be a record in itself; else the file is refused, with the line where the quote opens. And the lines of the records
are compared with the line ends in the bytes.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from contracts.errors import InputError
from traffic.retail.dates import DateEvidence, DateOrder

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
"""The header of the UCI data set 352, Online Retail."""
DATE_COLUMN = COLUMNS.index("InvoiceDate")

LINE_CHARACTERS_MAX = 100_000
RECORD_LINES_MAX = 100
CHUNK_BYTES = 1 << 20
LOOK_BYTES = 4_096

GZIP_MAGIC = b"\x1f\x8b"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_FOREIGN = {
    b"PK\x03\x04": "an Excel workbook or a zip archive; save the sheet as CSV (UTF-8), or unpack the archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV (UTF-8)",
    b"PAR1": "a Parquet file; write it as CSV (UTF-8)",
    b"%PDF": "a PDF document; export the table as CSV (UTF-8)",
    b"BZh": "compressed with bzip2; unpack it, or compress it with gzip",
    b"\xfd7zXZ": "compressed with xz; unpack it, or compress it with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it, or compress it with gzip",
}
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One file that was read to its end once and can be imported."""

    path: Path
    lines: int
    """Physical lines by the line ends in its bytes, the header included."""
    rows: int
    """Records that are not blank."""
    date_order: DateOrder
    state: tuple[int, int]
    """Size and time of its last change: it must be the same file in every pass."""


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The fields of one record."""

    line: int
    """Where it begins; the header is line 1."""
    lines: int
    """How many lines it has; blank lines before it count as its own."""
    fields: list[str]
    is_misquoted: bool = False
    """Whether text stands between a closing quote and the next comma: the columns are not known."""


def inspect_files(paths: Sequence[Path], date_order: DateOrder | None = None) -> tuple[Source, ...]:
    """Return the files, each read to its end; InputError for the first that cannot be imported as a whole.

    `date_order`: that of all files, declared by whoever has them; None: each file must prove its own.
    """
    if not paths:
        raise InputError("No file was given; pass the path of at least one Online Retail file.")
    return tuple(_inspected(path, date_order) for path in paths)


def read_records(source: Source) -> Iterator[Record]:
    """Yield the file's records; InputError when it has changed since it was inspected."""
    yield from _records(source.path)
    if _state(source.path) != source.state:
        raise InputError(f"File {source.path} changed while it was read; import it again when nobody writes to it.")


def _inspected(path: Path, declared: DateOrder | None) -> Source:
    state = _state(path)
    lines = _count_lines(path)
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
        raise InputError(f"File {path} has {lines} lines, but its rows account for {accounted} of them; report this.")
    return Source(path=path, lines=lines, rows=rows, date_order=evidence.order(declared), state=state)


def _state(path: Path) -> tuple[int, int]:
    with _sentences(path):
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"File {path} is a directory; pass the files in it.")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"File {path} is no regular file, and it is read more than once; save it to disk first.")
        return status.st_size, status.st_mtime_ns


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turn whatever the operating system or a decompressor says about the file into one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"File {path} does not exist.") from None
    except PermissionError:
        raise InputError(f"File {path} may not be read by this account; give it the right to, or copy it.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"File {path} is damaged: its compressed data end early or are wrong; get it again.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"File {path} cannot be read: {error}.") from None


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Open a plain or gzip file, told apart by its first bytes, not its name."""
    with path.open("rb") as file:
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_gzip else file


def _count_lines(path: Path) -> int:
    """Return the physical lines, by the line ends alone (LF, CRLF or CR); InputError for what is no text."""
    lines, last = 0, b""
    with _sentences(path), _open(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            if not last:
                _refuse_foreign(path, chunk[:LOOK_BYTES])
            lines += chunk.count(b"\n") + chunk.count(b"\r") - chunk.count(b"\r\n")
            # One line end in two chunks.
            lines -= last == b"\r" and chunk.startswith(b"\n")
            last = chunk[-1:]
    return lines + (last not in (b"", b"\n", b"\r"))


def _refuse_foreign(path: Path, start: bytes) -> None:
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise InputError(f"File {path} is {what}.")
    if start.startswith(GZIP_MAGIC):
        raise InputError(f"File {path} is compressed twice; unpack it once.")
    if start.startswith(_UTF16_MARKS) or max(start[0::2].count(0), start[1::2].count(0)) > len(start) // 4:
        raise InputError(f"File {path} is UTF-16 text; save it as CSV in UTF-8.")
    if b"\0" in start.partition(b"\n")[0]:
        raise InputError(f"File {path} is no text: it has zero bytes; pass a CSV file.")


def _foreign_text(error: UnicodeError) -> tuple[str, int]:
    """Read bytes that are not UTF-8 as Windows-1252 or Latin-1: the data set circulates in both (its pounds tell)."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    found = error.object[error.start : error.end]
    try:
        return found.decode("cp1252"), error.end
    except UnicodeDecodeError:
        return found.decode("latin-1"), error.end


codecs.register_error("tieout_foreign_text", _foreign_text)


@dataclass(kw_only=True)
class _Lines:
    """The physical lines of a text, counted, with those of the record that is being read."""

    path: Path
    text: io.TextIOWrapper
    read: int = 0
    current: list[str] = field(default_factory=list)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.text.readline(LINE_CHARACTERS_MAX + 1)
        if not line:
            raise StopIteration
        self.read += 1
        if len(line) > LINE_CHARACTERS_MAX:
            raise InputError(
                f"File {self.path}, line {self.read}, has more than {LINE_CHARACTERS_MAX:,} characters; no row has."
            )
        self.current.append(line)
        if len(self.current) > 1:
            self._continue(line)
        return line

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        taken, self.current = self.current, []
        return taken

    def _continue(self, line: str) -> None:
        """Refuse a record that goes on over a line which would be a record in itself: a quote was never closed."""
        is_record = len(_split(line)) >= len(COLUMNS)
        if is_record or len(self.current) > RECORD_LINES_MAX:
            begin = self.read - len(self.current) + 1
            why = "reads as a row of its own" if is_record else "is still not its end"
            raise InputError(
                f"File {self.path}, line {begin}: a quote opens there and does not close before line {self.read}, "
                f"which {why}; remove the quote or double it, and import the file again."
            )


def _records(path: Path) -> Iterator[Record]:
    """Yield the records after the header; blank lines count to the record after them."""
    with _sentences(path), _open(path) as file, _text(file) as text:
        lines = _Lines(path=path, text=text)
        reader = csv.reader(lines, strict=True)
        _check_header(path, lines, reader)
        yield from _each(lines, reader)


def _text(file: BinaryIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="tieout_foreign_text", newline="")


def _check_header(path: Path, lines: _Lines, reader: Iterator[list[str]]) -> None:
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
        return f"{wanted}."
    if missing:
        return f"{wanted}, and it lacks {', '.join(missing)}."
    if set(names) == set(COLUMNS):
        return f"{wanted}, and it has these columns in another order."
    return f"{wanted}, and it has other columns, too."


def _each(lines: _Lines, reader: Iterator[list[str]]) -> Iterator[Record]:
    """Yield every record; trailing blank lines make a last one without fields."""
    blank = 0
    while True:
        is_misquoted = False
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error:
            fields, is_misquoted = _misquoted(lines), True
        taken = len(lines.take())
        if not fields:
            blank += taken
            continue
        yield Record(line=lines.read - taken + 1, lines=taken + blank, fields=fields, is_misquoted=is_misquoted)
        blank = 0
    if blank:
        yield Record(line=lines.read, lines=blank, fields=[])


def _misquoted(lines: _Lines) -> list[str]:
    """Return the fields, as far as they can be told, of a line with quotes in wrong places; InputError over lines."""
    begin = lines.read - len(lines.current) + 1
    if len(lines.current) > 1 or not lines.current:
        raise InputError(
            f"File {lines.path}, line {begin}: a quote opens there and closes in the wrong place, or never; remove the "
            "quote or double it, and import the file again."
        )
    return _split(lines.current[0])


def _split(line: str) -> list[str]:
    """Return the fields of one line by itself, quotes or not."""
    return next(csv.reader([line], quoting=csv.QUOTE_NONE), [])
