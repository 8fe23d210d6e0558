"""Report files, whatever merchants are called: what was written is unchanged, any cell that was changed is found."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from contracts.errors import InputError
from derived.reports import NotedCut, Report
from finance.certificate import Evidence
from finance.files import FILES
from finance.periods import Period
from finance.statement import Statement, certificate_file, state
from finance.verification import SIDECAR, verify_file

AT = datetime(2011, 1, 2, 3, 4, 5, tzinfo=UTC)
COLUMNS = ("merchant_id", "sales_date", "currency", "order_count", "net_minor", "sales_micro", "posting", "late_for")
NAMES = ("json", "csv", "html", "xlsx")
MARKS = "=+-@\t\r\n'\"\\,;|ab0\x00\x0b\x85\u2028\ufeff\ufffe\uffff\uff1d\u00e9\u0301 _x0D<>r/"
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    st.text(st.sampled_from(MARKS), min_size=1, max_size=12),
)
WIDE = "\U0001d4b3"
HOSTILE = (
    "a\rb", "a\r\nb", "\n", "\r", "a\tb", '"', '""', "'", "''=1", "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1",
    " =1", "\uff1d1+1", "a;=1+1", "007", "1,234.50", "1E5", "TRUE", "2010-12-01", "01/12/2010", "\x00", "\x01\x1f",
    "\x7f\x80\x9f", "\ufffe", "\uffff", "\ufeff", "e\u0301", "\u00e9", "_x000D_", "_x005F_", "_X000d_", "_x000d_",
    "_x000D_x000D_", "<r>", "<r>x</r>", "<r><t>x</t></r>", "<r>&</r>", " a ", "\u00a0", "\u2028", "</td><script>",
    "&amp;", "&#13;", "]]>", "<!--", "None", "null", WIDE * 3, "x" * 40_000, "=" * 40_000, WIDE * 20_000,
)  # fmt: skip
AMOUNTS = st.one_of(st.integers(-(10**20), 10**20), st.sampled_from([0, -1, 10**15, 10**15 - 1, -(10**17)]))
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from(["GBP", "JPY", "KWD"]), AMOUNTS, AMOUNTS), min_size=1, max_size=4)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def statement(rows: list[tuple[str, str, int, int]]) -> Statement:
    report = Report(
        name="daily",
        columns=COLUMNS,
        rows=tuple((name, date(2010, 12, 3), code, 2, a, b, "in period", None) for name, code, a, b in rows),
        cuts={"pod1": 7},
        build_id="b",
        data_at=AT,
        age_seconds=1.5,
        noted={"pod1": NotedCut(registered_at=AT, epoch="one")},
    )
    nothing = Evidence(results={}, figures=None, breaks=None)
    return state(report, nothing, made_at=AT, period=Period(2010, 12), is_closed=True)


def write(folder: Path, name: str, made: Statement) -> Path:
    path = folder / f"daily.{name}"
    path.write_bytes(FILES[name](made))
    (folder / f"daily.csv{SIDECAR}").write_bytes(certificate_file(made))
    return path


@pytest.mark.parametrize("name", NAMES)
@QUICK
@given(rows=ROWS)
def test_what_was_written_is_unchanged(tmp_path: Path, name: str, rows: list[tuple[str, str, int, int]]) -> None:
    assert verify_file(write(tmp_path, name, statement(rows))).is_intact


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:24])
def test_no_name_is_too_hostile(tmp_path: Path, name: str, text: str) -> None:
    assert verify_file(write(tmp_path, name, statement([(text, "GBP", 1234, -5), ("b" + text, "JPY", 0, 0)]))).is_intact


@pytest.mark.parametrize("name", NAMES)
@QUICK
@given(rows=ROWS, place=st.integers(0, 3), column=st.sampled_from([0, 2, 3]), other=TEXTS, more=st.integers(1, 9))
@example(rows=[("a\rb", "GBP", 1, 1)], place=0, column=0, other="a\nb", more=1)
@example(rows=[("=1", "GBP", 1, 1)], place=0, column=0, other="'=1", more=1)
@example(rows=[("e\u0301", "GBP", 1, 1)], place=0, column=0, other="\u00e9", more=1)
def test_any_changed_cell_is_found(
    tmp_path: Path,
    name: str,
    rows: list[tuple[str, str, int, int]],
    place: int,
    column: int,
    other: str,
    more: int,
) -> None:
    """The figures of another report under the certificate of this one: as if somebody had changed the cell."""
    merchant, currency, net, sales = rows[place % len(rows)]
    changed = [*rows]
    changed[place % len(rows)] = (
        other if column == 0 else merchant,
        currency,
        net + more if column == 2 else net,
        sales + more if column == 3 else sales,
    )
    made = statement(rows)
    if changed == rows:
        return
    forged = replace(statement(changed), certificate=made.certificate)
    assert not verify_file(write(tmp_path, name, forged)).is_intact


def test_a_csv_file_holds_no_formula(tmp_path: Path) -> None:
    names = ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "\uff1d1", "'", "a"]
    path = write(tmp_path, "csv", statement([(name, "GBP", -5, 1) for name in names]))
    for number, row in enumerate(list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))[1:]):
        assert row[0] == (names[number] if number == 8 else f"'{names[number]}")
        # A negative amount is a number, and stays one.
        assert row[4] == "-0.05"


@pytest.mark.parametrize("name", ["a\rb", "=1+1", "'quoted'", "_x000D_", "plain"])
def test_files_of_an_earlier_version_still_verify(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written without apostrophes and without quotes around carriage returns; strings as the library writes them."""
    made = statement([(name, "GBP", -123_456, 1), ("b", "JPY", 500, 2)])
    path = write(tmp_path, "csv", made)
    old = io.StringIO()
    lines = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    csv.writer(old, lineterminator="\n").writerows([lines[0], [name, *lines[1][1:]], *lines[2:]])
    path.write_text(old.getvalue(), newline="")
    sidecar = tmp_path / f"daily.csv{SIDECAR}"
    value = json.loads(sidecar.read_text())
    del value["csv_escape"]
    sidecar.write_text(json.dumps(value))
    assert verify_file(path).is_intact
    path.write_text(old.getvalue().replace("-1234.56", "-1234.57"), newline="")
    assert not verify_file(path).is_intact

    def write_as_before(sheet: Any, row: int, column: int, text: str, *cell_format: Any) -> None:
        sheet.write_string(row, column, text, *cell_format)

    monkeypatch.setattr("finance.spreadsheet.write_text", write_as_before)
    assert verify_file(write(tmp_path, "xlsx", made)).is_intact


def semicolons(text: str) -> str:
    """Return the file as programs save it where a comma stands before the decimals."""
    lines = csv.reader(io.StringIO(text))
    out = io.StringIO()
    csv.writer(out, delimiter=";", lineterminator="\r\n").writerows(
        [[cell.replace(".", ",") if place in (4, 5) else cell for place, cell in enumerate(line)] for line in lines]
    )
    return out.getvalue()


SAVED_AGAIN = {
    "with a mark": lambda text: text.encode("utf-8-sig"),
    "line ends of Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "line ends of old": lambda text: text.replace("\n", "\r").encode(),
    "no end of the last line": lambda text: text.rstrip("\n").encode(),
    "empty lines at the end": lambda text: (text + "\n,,,,,,,\n\n").encode(),
    "UTF-16 with tabs": lambda text: text.replace(",", "\t").encode("utf-16"),
    "code page of Windows": lambda text: text.encode("cp1252"),
    "semicolons and decimal commas": lambda text: semicolons(text).encode(),
    "days first": lambda text: text.replace("2010-12-03", "03/12/2010").encode(),
    "months first": lambda text: text.replace("2010-12-03", "12/3/2010").encode(),
    "all in quotes": lambda text: "\n".join(
        ",".join(f'"{cell}"' for cell in line) for line in csv.reader(io.StringIO(text))
    ).encode(),
    "zeros left out": lambda text: text.replace("12.50", "12.5").encode(),
}


@pytest.mark.parametrize("how", list(SAVED_AGAIN))
def test_a_csv_file_that_was_only_saved_again_holds_what_was_certified(tmp_path: Path, how: str) -> None:
    path = write(tmp_path, "csv", statement([("caf\u00e9", "GBP", 1250, 7), ("b", "JPY", -5, 1_234_567)]))
    text = path.read_text()
    path.write_bytes(SAVED_AGAIN[how](text))
    assert verify_file(path).is_intact
    path.write_bytes(SAVED_AGAIN[how](text.replace("12.50", "12.60")))
    found = verify_file(path)
    assert not found.is_intact and found.found_sha256 and "was changed" in found.sentence


def test_a_json_file_with_its_names_in_another_order_is_only_saved_again(tmp_path: Path) -> None:
    path = write(tmp_path, "json", statement([("a", "GBP", 1250, 7)]))
    value = json.loads(path.read_text())
    path.write_bytes(json.dumps(value, sort_keys=True).encode("utf-8-sig"))
    assert verify_file(path).is_intact
    for wrong in ("12.5", 12.5, True, None, "1250"):
        value["rows"][0]["net_minor"] = wrong
        path.write_text(json.dumps(value))
        assert not verify_file(path).is_intact
    path.write_text(json.dumps(value).replace('"net_minor": "1250"', '"net_minor": 9, "net_minor": 1250'))
    with pytest.raises(InputError, match="stands twice"):
        verify_file(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_cut_off_or_damaged_is_said_to_be_so(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, statement([("a", "GBP", 1250, 7), ("b\r", "JPY", 5, 7)]))
    whole = path.read_bytes()
    for end in range(1, len(whole), max(1, len(whole) // 40)):
        for data in (whole[:end], whole[: end - 1] + bytes([whole[end - 1] ^ 0x41]) + whole[end:]):
            path.write_bytes(data)
            try:
                found = verify_file(path)
            except InputError as error:
                assert "is no report of Tieout, or not whole" in str(error)
            else:
                assert found.sentence


@pytest.mark.parametrize("name", NAMES)
@QUICK
@given(data=st.binary(min_size=1, max_size=200))
def test_what_is_anything_else_is_no_report(tmp_path: Path, name: str, data: bytes) -> None:
    path = write(tmp_path, name, statement([("a", "GBP", 1250, 7)]))
    path.write_bytes(data)
    if name == "csv":
        # Its certificate is right: so it is a file that was changed.
        assert not verify_file(path).is_intact
        return
    with pytest.raises(InputError, match="is no report of Tieout"):
        verify_file(path)
