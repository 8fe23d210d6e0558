"""Files that somebody gives to be imported: opened, plain or compressed, or refused with one sentence.

Belongs here: what holds of every such file, whatever its format: that it is a regular file of text that does not change
while it is read. Does not belong here: columns and records (`retail/files.py`, `orders/reading.py`).
"""

from __future__ import annotations

import codecs
import gzip
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from contracts.errors import InputError

FOREIGN_TEXT = "tieout_foreign_text"
"""What is done with bytes that are no UTF-8, as the `errors` of a text stream."""
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
    """Return size and time of the last change of a regular file; InputError for what is none."""
    with sentences(path):
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"File {path} is a directory; pass the files in it.")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"File {path} is no regular file, and it is read more than once; save it to disk first.")
        return status.st_size, status.st_mtime_ns


@contextmanager
def sentences(path: Path) -> Iterator[None]:
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
def open_input(path: Path) -> Iterator[BinaryIO]:
    """Open a plain or gzip file, told apart by its first bytes, not its name."""
    with path.open("rb") as file:
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_gzip else file


def count_lines(path: Path) -> int:
    """Return the physical lines, by the line ends alone (LF, CRLF or CR); InputError for what is no text."""
    lines, last = 0, b""
    with sentences(path), open_input(path) as file:
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


codecs.register_error(FOREIGN_TEXT, _foreign_text)
