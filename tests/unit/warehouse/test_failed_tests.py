"""A failed test of the warehouse names its first rows by key, and nothing else of them."""

from __future__ import annotations

import duckdb

from derived.failed_tests import ROWS_MAX, failing_keys

ROWS = "select 'o' || range as order_id, range as total_minor, null as refund_id, 'pod1' as pod from range(100)"


def test_the_first_rows_are_named_by_key_and_their_amounts_are_not_shown() -> None:
    keys = failing_keys(duckdb.connect(), f"-- a comment at the end\n{ROWS} order by range -- here")
    assert keys.split("; ") == [f"order_id=o{number}, pod=pod1" for number in range(ROWS_MAX)]


def test_what_is_stored_is_shown_and_not_obeyed() -> None:
    keys = failing_keys(duckdb.connect(), "select 'a' || chr(27) || '[2J' || repeat('x', 1000) as order_id")
    assert keys.startswith("order_id=a\\x1b[2J") and len(keys) < 200


def test_a_query_that_cannot_be_asked_names_nothing() -> None:
    assert failing_keys(duckdb.connect(), "select order_id from gone") == ""
    assert failing_keys(duckdb.connect(), None) == ""
    assert failing_keys(duckdb.connect(), "select 1 as total_minor") == ""
