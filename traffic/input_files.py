"""Opening files for an import, plain or compressed; an unusable file is refused with one sentence.

Belongs here: checks for files of every format: a file must be a regular text file and must not change while we read it.
Does not belong here: columns and records (`retail/files.py`, `orders/reading.py`).
"""

from __future__ import annotations

import codecs
import gzip
import io
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from contracts.errors import InputError

FOREIGN_TEXT = "tieout_foreign_text"
"""The name of the error handler for bytes that are not UTF-8, for `errors` of a text stream."""
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


def file_state(path: Path) -> tuple[int, int]:
    """Return (size in bytes, modification time in ns) of a regular file; InputError for anything else."""
    with sentences(path):
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"File {path} is a directory; pass the files in it.")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"File {path} is no regular file, and it is read more than once; save it to disk first.")
        return status.st_size, status.st_mtime_ns


@contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Convert errors of the operating system or the decompressor into an InputError with one sentence."""
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
def open_input(path: Path) -> Iterator[BinaryIO]:
    """Open a plain or gzip file; the first bytes decide which, not the name."""
    with path.open("rb") as file:
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_gzip else file


def count_lines(path: Path) -> int:
    """Return the number of physical lines, by line ends only (LF, CRLF or CR); InputError when the file is not text."""
    lines, last = 0, b""
    with sentences(path), open_input(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            if not last:
                _refuse_foreign(path, chunk[:LOOK_BYTES])
            lines += chunk.count(b"\n") + chunk.count(b"\r") - chunk.count(b"\r\n")
            # A CRLF that is split between two chunks counts once.
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
    """Decode bytes that are not UTF-8 as Windows-1252 or Latin-1, because the data set exists in both (pound signs)."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    found = error.object[error.start : error.end]
    try:
        return found.decode("cp1252"), error.end
    except UnicodeDecodeError:
        return found.decode("latin-1"), error.end


codecs.register_error(FOREIGN_TEXT, _foreign_text)


def text_of(file: BinaryIO) -> io.TextIOWrapper:
    """Return an opened file as text, with its line ends, and without a mark at its beginning."""
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors=FOREIGN_TEXT, newline="")
