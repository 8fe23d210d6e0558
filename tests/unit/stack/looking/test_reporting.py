"""What `tieout report` accepts, and how amounts look."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from cli.commands.reports import Format, chosen_format
from contracts.errors import InputError
from derived.reports import Report
from finance import presentation
from stack.looking import as_of

REPORT = Report(
    name="daily",
    columns=("merchant_id", "currency", "order_count", "net_minor", "rounding_micro"),
    rows=(
        ("a, b", "GBP", 2, 120_050, Decimal(-4_000)),
        ("c", "JPY", 1, 500, Decimal(0)),
        ("d", "KWD", 1, None, Decimal(1)),
    ),
    cuts={"pod2": 4, "pod1": 3},
    build_id="b",
    data_at=datetime(2011, 1, 2, 3, 4, 5, tzinfo=UTC),
    age_seconds=1.5,
)


def test_amounts_are_decimals_of_their_currency() -> None:
    assert [row[3:] for row in presentation.shown_rows(REPORT)] == [
        ["1200.50", "-0.004000"],
        ["500", "0.000000"],
        ["", "0.000001"],
    ]


def test_csv_has_no_units_in_its_headings_and_quotes_what_needs_it() -> None:
    lines = presentation.as_csv(REPORT).splitlines()
    assert lines[0] == "merchant_id,currency,order_count,net,rounding"
    assert lines[1] == '"a, b",GBP,2,1200.50,-0.004000'


def test_the_sentence_says_at_which_cuts_it_stands() -> None:
    assert presentation.standing(REPORT) == "3 rows; pod1 at cut 3, pod2 at cut 4, as of 2011-01-02 03:04:05 UTC."


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2011-01-31", datetime(2011, 2, 1, tzinfo=UTC)),
        ("2011-01-31T18:00:00", datetime(2011, 1, 31, 18, tzinfo=UTC)),
        ("2011-01-31T18:00:00+02:00", datetime(2011, 1, 31, 16, tzinfo=UTC)),
    ],
)
def test_a_date_is_the_end_of_its_day_and_times_are_utc(text: str, moment: datetime) -> None:
    assert as_of.parse_moment(text) == moment


@pytest.mark.parametrize("text", ["yesterday", "2011-13-01", "", "2011-02-30", "2011-1-1", "31/12/2011"])
def test_what_is_no_moment_is_said(text: str) -> None:
    with pytest.raises(InputError, match="no date or time and no cuts"):
        as_of.parse_moment(text)


def test_the_last_day_has_an_end() -> None:
    assert as_of.parse_moment("9999-12-31") == datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["9999-12-31T23:30:00-01:00", "0001-01-01T00:30:00+01:00"])
def test_a_moment_that_no_clock_shows_is_said(text: str) -> None:
    with pytest.raises(InputError, match="years 1 to 9999"):
        as_of.parse_moment(text)


@pytest.mark.parametrize(
    ("chosen", "output", "flags", "found"),
    [
        (None, None, {}, Format.TABLE),
        (None, "x/daily.HTML", {}, Format.HTML),
        (None, None, {"as_json": True}, Format.JSON),
        (Format.CSV, "daily.txt", {"as_csv": True}, Format.CSV),
    ],
)
def test_the_format_is_named_or_follows_from_the_file(
    chosen: Format | None, output: str | None, flags: dict[str, bool], found: Format
) -> None:
    options = {"as_csv": False, "as_json": False, **flags}
    assert chosen_format(chosen, Path(output) if output else None, **options) is found


@pytest.mark.parametrize(
    ("chosen", "output", "as_json", "sentence"),
    [
        (Format.XLSX, None, False, "say with --output"),
        (Format.TABLE, "daily.txt", False, "for the terminal"),
        (Format.CSV, None, True, "one format, not csv and json"),
        (None, "daily.txt", False, "is not clear"),
    ],
)
def test_formats_that_contradict_each_other_are_said(
    chosen: Format | None, output: str | None, as_json: bool, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        chosen_format(chosen, Path(output) if output else None, as_csv=False, as_json=as_json)
