"""Which line of an order stands for it in a break, when several break an identity by the same amount."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import duckdb
import pytest

from reconcile.entities import AGGREGATE_ID
from reconcile.identity import Identity
from reconcile.oltp_identities import _outcome
from reconcile.pair import PodRun

LINES = ((100, 105), (200, 205), (300, 301), (150, 145))


@pytest.mark.parametrize("lines", [LINES, LINES[::-1]])
def test_lines_with_the_same_excess_give_the_same_amounts_in_whatever_order_they_are_read(
    lines: tuple[tuple[int, int], ...],
) -> None:
    identity = Identity(
        name="tried",
        aggregate_type="order",
        rows=f"select 'a' as {AGGREGATE_ID}, 'm' as merchant_id, 'GBP' as currency, expected, actual from given",
    )
    with duckdb.connect() as connection:
        connection.execute("attach ':memory:' as scratch; create table given (expected bigint, actual bigint)")
        connection.executemany("insert into given values (?, ?)", [list(line) for line in lines])
        run = SimpleNamespace(
            connection=connection,
            in_scope=lambda relation, _: relation,
            context=SimpleNamespace(limits=SimpleNamespace(sample=10)),
        )
        (found,) = _outcome(cast("PodRun", run), identity, {}).sample
    (column,) = found.columns
    assert (column.left, column.right) == (200, 205)
