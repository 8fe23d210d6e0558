"""Report files: the same bytes for the same statement, exact amounts, and a change that is found."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from contracts.breaks import Break, BreakState
from contracts.errors import InputError
from contracts.scope import Scope
from contracts.tying import Tying
from contracts.verdicts import PairResult, Verdict
from derived.reports import REPORTS, NotedCut, Report
from finance.certificate import Coverage, Evidence, FigureEvidence, LeftOut, Standing
from finance.certificate_tables import certificate_tables
from finance.charts import DRAWINGS, charts_of
from finance.content_hash import Content, canonical, content_sha256
from finance.files import FILES
from finance.page import CELL_EM, CHARACTER_EM, PAPER_POINTS, POINTS_MAX, print_points
from finance.periods import Period
from finance.statement import Statement, certificate_file, from_json, json_file, state
from finance.verification import SIDECAR, verify_file
from tests.values import break_of, result_of

AT = datetime(2011, 1, 2, 3, 4, 5, tzinfo=UTC)
COLUMNS = ("merchant_id", "sales_date", "currency", "order_count", "net_minor", "sales_micro", "posting", "late_for")
REPORT = Report(
    name="daily",
    columns=COLUMNS,
    rows=(
        ("=cmd, <b>", date(2010, 12, 1), "GBP", 2, -123_456_789, 1, "in period", None),
        ("c", date(2010, 12, 2), "JPY", 1, 500, Decimal(-1_500_000), "in period", None),
        ("d", date(2010, 11, 2), "KWD", 1, 9_007_199_254_740_993, 0, "late arrival", "2010-11"),
    ),
    cuts={"pod1": 7, "pod2": 4},
    build_id="b",
    data_at=AT,
    age_seconds=1.5,
    noted={pod: NotedCut(registered_at=AT, epoch="one") for pod in ("pod1", "pod2")},
)
NOTHING = Evidence(results={}, figures=None, breaks=None)


def compared(pod: str, cut: int, verdict: Verdict = Verdict.CONSISTENT, different: int = 0) -> PairResult:
    return result_of("journal_identities", verdict, pod=pod, cut=cut, compared=9, different=different, checked_at=AT)


def figures(finance: int = 5) -> list[FigureEvidence]:
    return [
        FigureEvidence(pod=pod, cut=cut, currency="GBP", name="net_minor", operational=5, finance=finance)
        for pod, cut in REPORT.cuts.items()
    ]


def proof(cuts: Mapping[str, int]) -> Evidence:
    return Evidence(results={pod: [compared(pod, cut)] for pod, cut in cuts.items()}, figures=figures(), breaks=[])


def statement(report: Report = REPORT, evidence: Evidence = NOTHING) -> Statement:
    return state(report, evidence, made_at=AT, period=Period(2010, 12), is_closed=True)


def written(folder: Path, name: str) -> Path:
    path = folder / f"daily.{name}"
    path.write_bytes(FILES[name](statement()))
    (folder / f"daily.csv{SIDECAR}").write_bytes(certificate_file(statement()))
    return path


def test_the_canonical_form_is_what_the_documentation_says() -> None:
    content = Content(name="tax", period=None, cuts={"b": 2, "a": 1}, columns=["currency", "x_minor"], rows=[("é", 3)])
    expected = (
        '{"columns":["currency","x_minor"],"cuts":{"a":1,"b":2},"format":"tieout-report/1","name":"tax",'
        '"period":null,"rows":[["é",3]]}'
    )
    from finance.content_hash import document

    assert canonical(document(content)) == expected.encode()
    with pytest.raises(InputError, match="no whole number"):
        content_sha256(replace(content, rows=[("GBP", "3.5")]))


def test_content_is_what_is_said_not_when_or_by_which_build() -> None:
    again = replace(REPORT, build_id="another", age_seconds=99.0, cuts=dict(reversed(list(REPORT.cuts.items()))))
    assert statement(again).certificate.content_sha256 == statement().certificate.content_sha256
    other = replace(REPORT, cuts={"pod1": 8, "pod2": 4})
    assert statement(other).certificate.content_sha256 != statement().certificate.content_sha256


@pytest.mark.parametrize("name", list(FILES))
def test_the_same_statement_gives_the_same_bytes(name: str) -> None:
    made = FILES[name](statement())
    assert made == FILES[name](statement())
    assert made == FILES[name](from_json(json.loads(json_file(statement())))) or name == "xlsx"


def test_every_report_has_its_chart() -> None:
    assert list(DRAWINGS) == list(REPORTS)


def test_a_page_fetches_nothing_and_runs_nothing() -> None:
    page = FILES["html"](statement()).decode()
    assert page.count("<svg") == 3
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert "@page { size: A4" in page
    assert page.count("<script") == 1 and '<script type="application/json"' in page
    for outside in ("src=", "@import", "url(", "<link", "<!--"):
        assert outside not in page
    assert "https://" not in page.replace("https://www.w3.org", "")


def test_a_page_begins_with_what_it_comes_to() -> None:
    page = FILES["html"](statement()).decode()
    head = page[: page.index("<main")]
    for shown in ("Daily sales", "December 2010", "Closed", "pod1 cut 7, pod2 cut 4", "late arrival for 2010-11"):
        assert shown in head
    assert page.index("<svg") < page.index('id="figures"') < page.index("Tie-out certificate")


def test_a_spreadsheet_has_exact_numbers_and_no_formulas() -> None:
    with zipfile.ZipFile(io.BytesIO(FILES["xlsx"](statement()))) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
        strings = book.read("xl/sharedStrings.xml").decode()
        styles = book.read("xl/styles.xml").decode()
    assert "<v>-1234567.89</v>" in sheet and "<v>500</v>" in sheet and "<v>-1.500000</v>" in sheet
    assert "<f>" not in sheet and "=cmd" in strings
    # Sixteen digits are more than a spreadsheet keeps.
    assert "9007199254740.993" in strings and "9007199254740.993" not in sheet
    assert 'formatCode="#,##0.00"' in styles and 'formatCode="#,##0.000000"' in styles


@pytest.mark.parametrize("name", ["json", "csv", "html", "xlsx"])
def test_a_file_that_was_not_changed_is_intact_and_one_that_was_is_not(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    assert verify_file(path).is_intact
    if name == "xlsx":
        changed_in_spreadsheet(path)
        return
    shown = {"json": "-123456789", "csv": "-1234567.89", "html": "-1,234,567.89"}[name]
    text = path.read_text()
    cell = f'<td class="number">{shown}' if name == "html" else shown
    before, _, figures = text.partition(cell) if name != "html" else text.rpartition(cell)
    assert before and figures
    path.write_text(before + cell.replace("6", "7", 1) + figures)
    assert not verify_file(path).is_intact


def changed_in_spreadsheet(path: Path) -> None:
    """A number is changed in the zip; one that only was saved with more digits, and a left out cell, are the same."""
    whole = path.read_bytes()
    for old, new, is_same in (
        ("<v>-1234567.89</v>", "<v>-1234567.8899999999</v>", True),
        ("<v>-1234567.89</v>", "<v>-1234567.88</v>", False),
        ("<v>500</v>", "<v>501</v>", False),
    ):
        with zipfile.ZipFile(io.BytesIO(whole)) as book, zipfile.ZipFile(path, "w") as changed:
            for item in book.namelist():
                text = book.read(item)
                if item == "xl/worksheets/sheet1.xml":
                    assert old.encode() in text
                    text = text.replace(old.encode(), new.encode(), 1)
                changed.writestr(item, text)
        assert verify_file(path).is_intact is is_same


def test_what_is_no_report_is_said(tmp_path: Path) -> None:
    for name in ("x.json", "x.html", "x.csv", f"x.csv{SIDECAR}", "x.xlsx", "x.pdf"):
        (tmp_path / name).write_text("{}")
    for name in ("x.json", "x.html", "x.csv", "x.xlsx"):
        with pytest.raises(InputError, match="is no report of Tieout"):
            verify_file(tmp_path / name)
    with pytest.raises(InputError, match="cannot be verified"):
        verify_file(tmp_path / "x.pdf")
    (tmp_path / f"x.csv{SIDECAR}").unlink()
    with pytest.raises(InputError, match=r"x\.csv\.certificate\.json is not there"):
        verify_file(tmp_path / "x.csv")
    with pytest.raises(InputError, match="is a certificate"):
        verify_file(tmp_path / f"x.csv{SIDECAR}")
    for name in ("json", "csv", "html", "xlsx"):
        (tmp_path / f"empty.{name}").touch()
        (tmp_path / f"folder.{name}").mkdir()
        for what, said in (("empty", "is empty"), ("folder", "cannot be read: Is a directory"), ("none", "No such")):
            with pytest.raises(InputError, match=said):
                verify_file(tmp_path / f"{what}.{name}")


def test_a_certificate_never_takes_a_missing_answer_for_a_good_one() -> None:
    certificate = statement().certificate
    assert {pod.coverage for pod in certificate.pods} == {Coverage.NONE}
    assert (certificate.figures, certificate.breaks_unsettled, certificate.breaks_accepted) == (None, None, None)
    assert certificate.conclusion.startswith("Not compared: ") and certificate.standing is Standing.CLOSED


def test_a_certificate_says_which_comparison_covers_the_report() -> None:
    exact = statement(evidence=proof({"pod1": 7, "pod2": 4})).certificate
    assert exact.conclusion == ("Ties: operations and finance agree key by key and in total, at exactly these cuts.")
    later = statement(evidence=proof({"pod1": 9, "pod2": 4})).certificate
    assert [pod.coverage for pod in later.pods] == [Coverage.LATER, Coverage.EXACT]
    assert later.conclusion.startswith("Ties: ") and "later cut (pod1 at cut 9)" in later.conclusion
    earlier = statement(evidence=proof({"pod1": 6, "pod2": 4})).certificate
    assert earlier.pods[0].coverage is Coverage.NONE and earlier.conclusion.startswith("Not compared: ")


def test_a_certificate_says_when_only_what_changed_was_compared() -> None:
    scope = Scope(since_cut=5, through_cut=9)
    changed = {"pod1": [replace(compared("pod1", 9), scope=scope)], "pod2": [compared("pod2", 4)]}
    whole_before = replace(proof(REPORT.cuts), results=changed, compared_since={"pod1": AT - timedelta(hours=3)})
    certificate = statement(evidence=whole_before).certificate
    assert [pod.coverage for pod in certificate.pods] == [Coverage.CHANGED, Coverage.EXACT]
    since = f"{AT - timedelta(hours=3):%Y-%m-%d %H:%M:%S} UTC"
    assert certificate.conclusion == (
        "Ties: operations and finance agree key by key and in total, when whatever had changed was compared "
        f"(pod1 up to cut 9, everything at least once since {since})."
    )
    never_whole = replace(whole_before, compared_since={})
    assert statement(evidence=never_whole).certificate.conclusion.startswith("Not compared: ")


def test_what_finance_is_made_from_must_have_been_compared_too() -> None:
    """A comparison of the lake that fell left a certificate that said `Ties`."""
    good = proof(REPORT.cuts)
    fell = replace(good, unproven={"pod1": ("oltp_lake.order", "oltp_lake.payment")})
    certificate = statement(evidence=fell).certificate
    assert certificate.conclusion == (
        "Not compared completely: operations and finance agree, but what finance is made from was not compared at or "
        "after these cuts (oltp_lake.order in pod1, oltp_lake.payment in pod1)."
    )
    assert certificate.unproven == ("oltp_lake.order in pod1", "oltp_lake.payment in pod1")
    worse = replace(fell, results={**good.results, "pod1": [compared("pod1", 7, Verdict.INCONSISTENT, 2)]})
    assert statement(evidence=worse).certificate.conclusion.startswith("Does not tie: ")


def test_what_is_left_out_of_the_figures_is_named_with_its_money() -> None:
    """A defective aggregate is left out, and said wherever a report is shown."""
    torn = LeftOut(
        pod="pod1",
        aggregate_key="eire/payment/p1",
        merchant_id="eire",
        currency="GBP",
        amounts={"captured_minor": 1250},
        reason="version 1 is missing",
    )
    made = statement(evidence=replace(proof(REPORT.cuts), left_out=(torn,)))
    assert made.certificate.conclusion.endswith(
        "1 defective aggregate of eire is left out of the figures (captured 12.50 GBP); the certificate lists them."
    )
    (table,) = [one for one in certificate_tables(made) if one.title.startswith("Left out of the figures")]
    assert table.rows == (("pod1", "eire/payment/p1", "eire", "Captured 12.50", "version 1 is missing"),)
    assert "eire/payment/p1" in FILES["html"](made).decode()
    assert from_json(json.loads(json_file(made))).certificate.left_out == (torn,)


def test_every_certificate_says_what_it_covers_and_uses_the_words_of_the_runs() -> None:
    good = proof(REPORT.cuts)
    for evidence in (NOTHING, good, replace(good, figures=None), replace(good, breaks=None)):
        made = statement(evidence=evidence)
        assert made.certificate.conclusion.startswith(tuple(Tying))
        assert "Views, log, outbox and backup are not covered" in made.certificate.covers
        assert made.certificate.covers in FILES["html"](made).decode().replace("&#39;", "'")


def test_a_difference_in_a_key_or_in_a_total_does_not_tie() -> None:
    good = proof(REPORT.cuts)
    key = replace(good, results={**good.results, "pod1": [compared("pod1", 7, Verdict.INCONSISTENT, 2)]})
    total = replace(good, figures=figures(finance=6))
    for evidence in (key, total):
        assert statement(evidence=evidence).certificate.conclusion.startswith("Does not tie: ")


def test_totals_are_kept_by_currency() -> None:
    found = {total.currency: (total.rows, total.sums["net_minor"]) for total in statement().certificate.totals}
    assert found == {"GBP": (1, -123_456_789), "JPY": (1, 500), "KWD": (1, 9_007_199_254_740_993)}


def found_break(state: BreakState, day: str | None = "2010-12-09") -> Break:
    return break_of(
        pair="journal_identities",
        entity="marts.orders",
        merchant_id=None,
        day=day,
        currency="GBP",
        state=state,
        reason="Known.",
        first_seen_at=AT,
    )


@pytest.mark.parametrize(
    ("breaks", "differing", "begins"),
    [
        ([found_break(BreakState.ACCEPTED)], 1, "Ties but for 1 accepted difference"),
        ([found_break(BreakState.ACCEPTED)], 2, "Does not tie: 2 keys"),
        ([found_break(BreakState.OPEN)], 1, "Does not tie: 1 key"),
        ([found_break(BreakState.OPEN, day=None)], 0, "Does not tie: 0 keys"),
        ([found_break(BreakState.OPEN, day="2011-01-02")], 1, "Ties: "),
        ([], 1, "Does not tie: 1 key"),
    ],
)
def test_every_difference_is_accepted_or_of_later_days_or_the_report_does_not_tie(
    breaks: list[Break], differing: int, begins: str
) -> None:
    good = proof(REPORT.cuts)
    verdict = Verdict.INCONSISTENT if differing else Verdict.CONSISTENT
    results = {**good.results, "pod1": [compared("pod1", 7, verdict, differing)]}
    certificate = statement(evidence=replace(good, results=results, breaks=breaks)).certificate
    assert certificate.conclusion.startswith(begins)


def bar_widths(report: Report) -> set[float]:
    """Return how wide the bars of the first chart are."""
    bars = re.findall(r'<rect[^>]*width="([\d.]+)"[^>]*class="rect', charts_of(report)[0])
    return {round(float(width), 3) for width in bars}


def test_one_day_is_a_bar_as_wide_as_those_of_more_days() -> None:
    def of_days(number: int) -> Report:
        row = REPORT.rows[0]
        days = [(row[0], date(2010, 12, day), *row[2:]) for day in range(1, number + 1)]
        return replace(REPORT, rows=tuple(days))

    (one,) = bar_widths(of_days(1))
    assert {one} == bar_widths(of_days(12)) and 10 < one < 60


def test_a_table_is_printed_so_small_that_it_fits_the_paper() -> None:
    assert print_points(["Day", "Net"], [["2010-12-01", "1.00"]]) == POINTS_MAX
    wide = [["1,234,567.890000"] * 16]
    points = print_points(["Amount"] * 16, wide)
    assert 4 < points < POINTS_MAX and points * 16 * (16 * CHARACTER_EM + CELL_EM) <= PAPER_POINTS + 16
    # A long name is broken into lines, a number is not.
    assert print_points(["Merchant"], [["a" * 500]]) == POINTS_MAX > print_points(["Net"], [["1" * 500]])
    assert f"--printed: {POINTS_MAX}pt" in FILES["html"](statement()).decode()
