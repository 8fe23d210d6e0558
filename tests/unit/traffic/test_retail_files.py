from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from contracts.errors import InputError
from traffic import input_files
from traffic.retail.dates import DateOrder
from traffic.retail.files import COLUMNS, inspect_files, read_records
from traffic.retail.rows import Rejection, Row, read_rows

HEADER = ",".join(COLUMNS)
GOOD = "536365,85123A,HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom"


def write(path: Path, *lines: str, header: str = HEADER, end: str = "\n") -> Path:
    path.write_bytes(end.join([header, *lines, ""]).encode())
    return path


def described(description: str) -> str:
    return GOOD.replace("HOLDER", description)


def read(path: Path) -> list[Row | Rejection]:
    (source,) = inspect_files([path])
    rows = list(read_rows(source, 0))
    assert len(rows) == source.rows
    return rows


def test_plain_gzip_latin1_and_marked_files_are_read(tmp_path: Path) -> None:
    line = "1,gift_0001_10,Voucher £10.00,1,2010-12-01 08:26:00,8.33,,EIRE"
    plain = write(tmp_path / "plain.csv", line, "", line)
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    members = tmp_path / "members.gz"
    members.write_bytes(gzip.compress(plain.read_bytes()[:50]) + gzip.compress(plain.read_bytes()[50:]))
    latin = tmp_path / "latin.csv"
    latin.write_bytes(plain.read_text().encode("latin-1"))
    marked = tmp_path / "marked.csv"
    marked.write_text("\ufeff" + plain.read_text())
    for path in (plain, packed, members, latin, marked):
        rows = [row for row in read(path) if isinstance(row, Row)]
        assert [row.description for row in rows] == ["Voucher £10.00"] * 2, path
        assert [row.line for row in rows] == [2, 4]


def test_windows_quotes_are_read_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    description = "LADY\u2019S MUG \u20ac5"
    path.write_bytes("\n".join([HEADER, described(description)]).encode("cp1252"))
    assert [getattr(row, "description", "") for row in read(path)] == [description]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_whatever_ends_them(tmp_path: Path, end: str) -> None:
    path = write(tmp_path / "a.csv", GOOD, "", GOOD, "", "", end=end)
    (source,) = inspect_files([path])
    assert (source.lines, source.rows) == (6, 2)
    path.write_bytes(path.read_bytes().rstrip() + b"")
    assert inspect_files([path])[0].lines == 4


def test_mixed_line_ends_and_one_across_two_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"{HEADER}\r\n{GOOD}\r{GOOD}\n{GOOD}\r\n".encode())
    for size in (1, 2, 7, len(HEADER) + 1):
        monkeypatch.setattr(input_files, "CHUNK_BYTES", size)
        assert inspect_files([path])[0].lines == 4


def test_line_breaks_in_closed_quotes_belong_to_the_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", described('"TEA\nSET, ""RED""\r\n\nBIG"'), GOOD)
    rows = [row for row in read(path) if isinstance(row, Row)]
    assert [(row.line, row.description) for row in rows] == [(2, 'TEA SET, "RED" BIG'), (6, "HOLDER")]
    assert inspect_files([path])[0].lines == 6


def test_a_quote_inside_a_field_that_has_none_is_text(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.csv", described('12" PLATE'), described('SAY "HELLO"'), GOOD))
    assert [getattr(row, "description", "") for row in rows] == ['12" PLATE', 'SAY "HELLO"', "HOLDER"]


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ([described('"HOLDER'), GOOD, GOOD], 2),
        ([GOOD, described('"HOLDER'), GOOD], 3),
        # Closed by another stray quote: for a parser that is one row with a long description.
        ([GOOD, described('"HOLDER'), GOOD, described('HOLDER"'), GOOD], 3),
        ([GOOD, described('"HOLDER'), described('HOLDER"')], 3),
        ([GOOD, GOOD.replace("United", '"United'), GOOD], 3),
        ([GOOD, '"' + GOOD, GOOD], 3),
        ([described('"never closed') + "\nno row\n" * 60, GOOD], 2),
        ([described('"never closed') + "\nno row\n"], 2),
        ([described('"TEA\nSET" RED'), GOOD], 2),
    ],
)
def test_a_stray_quote_that_swallows_lines_refuses_the_file(tmp_path: Path, lines: list[str], line: int) -> None:
    path = write(tmp_path / "a.csv", *lines)
    with pytest.raises(InputError, match=rf"a\.csv, line {line}: a quote opens there") as caught:
        inspect_files([path])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", ['"HOLDER" RED', '"HOLDER"RED", BIG"'])
def test_a_stray_quote_that_ends_in_its_line_costs_that_row(tmp_path: Path, bad: str) -> None:
    rows = read(write(tmp_path / "a.csv", GOOD, described(bad), GOOD))
    assert [type(row) for row in rows] == [Row, Rejection, Row]
    assert [getattr(row, "reason", "") for row in rows][1] == "quote_in_the_wrong_place"


def test_a_stray_quote_in_the_last_line_costs_that_row(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.csv", GOOD, described('"HOLDER')))
    assert [getattr(row, "reason", "") for row in rows] == ["", "quote_in_the_wrong_place"]
    assert [getattr(row, "amount_micro", 0) for row in rows] == [15_300_000] * 2


def test_a_row_cut_in_two_is_two_rejected_rows(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.csv", GOOD[:30] + "\r" + GOOD[30:], GOOD, GOOD + ",more"))
    assert [getattr(row, "reason", "") for row in rows] == ["wrong_column_count"] * 2 + ["", "wrong_column_count"]


def contents(name: str) -> bytes:
    good = f"{HEADER}\n{GOOD}\n"
    renamed = good.replace("UnitPrice", "Price")
    swapped = good.replace("InvoiceNo,StockCode", "StockCode,InvoiceNo")
    return {
        "no header": f"{GOOD}\n{GOOD}\n".encode(),
        "renamed column": renamed.encode(),
        "swapped columns": swapped.encode(),
        "column twice": good.replace("StockCode", "InvoiceNo").encode(),
        "more columns": good.replace(HEADER, HEADER + ",Note").encode(),
        "quote in header": good.replace("StockCode", '"StockCode').encode(),
        "semicolons": good.replace(",", ";").encode(),
        "tabs": good.replace(",", "\t").encode(),
        "empty": b"",
        "header only": f"{HEADER}\n\n\n".encode(),
        "utf16": good.encode("utf-16"),
        "utf16 big endian": good.encode("utf-16-be"),
        "workbook": b"PK\x03\x04" + bytes(range(256)),
        "bytes": bytes(range(256)) * 8,
        "truncated": gzip.compress(good.encode())[:-12],
        "damaged": gzip.compress(good.encode())[:20] + b"xxxx" + gzip.compress(good.encode())[24:],
        "not all gzip": gzip.compress(good.encode()) + b"garbage",
        "compressed twice": gzip.compress(gzip.compress(good.encode())),
        "long line": (good + "x" * 200_000).encode(),
    }[name]


SENTENCES = {
    "no header": "its first line must be InvoiceNo,",
    "renamed column": "it lacks UnitPrice",
    "swapped columns": "these columns in another order",
    "column twice": "it names InvoiceNo more than once",
    "more columns": "it has other columns, too",
    "quote in header": "line 1: a quote opens there|its first line must be",
    "semicolons": "separated by semicolons; save it with commas",
    "tabs": "separated by tabs",
    "empty": "is empty",
    "header only": "holds no invoices",
    "utf16": "is UTF-16 text; save it as CSV in UTF-8",
    "utf16 big endian": "is UTF-16 text",
    "workbook": "is an Excel workbook or a zip archive; save the sheet as CSV",
    "bytes": "is no text",
    "truncated": "is damaged",
    "damaged": "is damaged",
    "not all gzip": "is damaged",
    "compressed twice": "is compressed twice; unpack it once",
    "long line": "line 3, has more than 100,000 characters",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_what_cannot_be_imported_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    good, path = write(tmp_path / "good.csv", GOOD), tmp_path / "bad.csv"
    path.write_bytes(contents(name))
    with pytest.raises(InputError, match=SENTENCES[name]) as caught:
        inspect_files([good, path])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "forbidden", "name"])
def test_what_is_no_readable_file_is_refused_in_one_sentence(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / kind
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "forbidden":
        # Root may read everything, so the operating system's answer is given here.
        write(path, GOOD)
        monkeypatch.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(PermissionError("no")))
    elif kind == "name":
        path = tmp_path / "a\0b"
    said = {"missing": "does not exist", "directory": "is a directory", "pipe": "is no regular file"}
    said |= {"forbidden": "may not be read by this account", "name": "cannot be read"}
    with pytest.raises(InputError, match=said[kind]):
        inspect_files([path])


def test_a_file_that_changes_between_two_passes_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", GOOD, GOOD)
    (source,) = inspect_files([path])
    write(path, GOOD)
    with pytest.raises(InputError, match="changed while it was read"):
        list(read_records(source))


def test_each_file_has_its_own_date_order(tmp_path: Path) -> None:
    day, month = (
        write(tmp_path / f"{at[:2]}.csv", GOOD.replace("2010-12-01", at)) for at in ("13/12/2010", "12/14/2010")
    )
    assert [source.date_order for source in inspect_files([day, month])] == ["day-first", "month-first"]
    doubtful = write(tmp_path / "doubtful.csv", GOOD.replace("2010-12-01", "02/12/2010"))
    with pytest.raises(InputError, match=r"doubtful\.csv does not show"):
        inspect_files([day, doubtful])
    assert inspect_files([day, doubtful], DateOrder.DAY_FIRST)[1].date_order == "day-first"


def test_no_file_at_all_is_an_error() -> None:
    with pytest.raises(InputError, match="No file was given"):
        inspect_files([])
