"""Random damages: which values are tried, which breaks are those of a damage, and what became of it."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bench.looking import breaks_of_change
from bench.random_damages import Change, first_legal, neighbours
from bench.random_serving import FOUND_BY, STORES, changed, leaves, other
from contracts.breaks import Break, BreakState
from contracts.verdicts import DifferenceClass
from reconcile.pairs import PAIRS
from tests.values import break_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def a_break(**values: object) -> Break:
    given = {
        "break_id": 1,
        "pair": "lake_account_view",
        "entity": "account_orders",
        "kind": DifferenceClass.DIFFERENT,
        "day": None,
        "currency": None,
        "aggregate_key": None,
        "state": BreakState.OPEN,
        "owner": "data-platform",
        "first_seen_at": NOW,
        "first_seen_cut": 7,
        "last_seen_cut": 7,
        "repairs": 0,
        "pod": "pod1",
    }
    return break_of(**{**given, **values})


def change(pod: str = "pod1", at: datetime = NOW) -> Change:
    row = frozenset({"eire", "o1", "2026-03-01", "EUR", "7"})
    return Change(store="s", pod=pod, table="t", column="c", before="7", after="8", row=row, at=at)


def test_a_value_that_the_store_refuses_is_not_the_last_one_tried() -> None:
    tried: list[str | None] = []

    def write(value: str | None) -> bool:
        tried.append(value)
        return value == "open"

    after, is_done = first_legal(random.Random(1), "text", "paid", ["paid", "open", None, "paid"], write)
    assert (after, is_done) == ("open", True) and "paid" not in tried and None not in tried
    assert first_legal(random.Random(1), "text", "paid", ["paid"], lambda _: False) == (None, False)


def test_neighbours_are_other_values_of_the_type() -> None:
    dice = random.Random(1)
    for kind, before in (("int8", "-5"), ("BIGINT", "7"), ("bool", "true"), ("text", "a"), ("date", "2026-03-01")):
        (value,) = neighbours(dice, kind, before)
        assert value != before, kind
    assert neighbours(dice, "timestamptz", "2026-03-01 00:00:00+00") == ["2025-03-01 00:00:00+00"]
    assert neighbours(dice, "jsonb", "{}") == [] == neighbours(dice, "uuid", None)


def test_the_breaks_of_a_changed_row_have_its_keys_or_its_aggregate() -> None:
    named = a_break(aggregate_key="eire/order/o1", key=("x",))
    summed = a_break(key=("eire", "2026-03-01", "EUR"))
    other = a_break(key=("eire", "2026-03-02", "EUR"))
    breaks = [named, summed, other]
    assert breaks_of_change(change(), breaks) == [named, summed]
    assert breaks_of_change(change(pod=""), breaks) == [named, summed]
    assert breaks_of_change(change(pod="pod2"), breaks) == []
    # A view is compared by its own pairs; what others find at the same time is another damage.
    elsewhere = replace(named, pair="log_manifests")
    assert breaks_of_change(replace(change(), store="read_models"), [named, elsewhere]) == [named]
    assert breaks_of_change(replace(change(), store="lake"), [named, elsewhere]) == [named, elsewhere]
    assert breaks_of_change(replace(change(), store="warehouse"), breaks) == []
    assert breaks_of_change(change(at=NOW + timedelta(seconds=1)), breaks) == []


def test_any_value_of_a_document_but_its_keys_is_changed_in_place() -> None:
    variants = [{"variant_id": "v", "sku": "A", "n": 7}]
    document = {"product_id": "p1", "title": "Cup", "brand": None, "variants": variants}
    found = dict(leaves(document))
    assert found == {("title",): "Cup", ("variants", 0, "sku"): "A", ("variants", 0, "n"): 7}
    after = changed(document, ("variants", 0, "n"), 8)
    assert after["variants"] == [{"variant_id": "v", "sku": "A", "n": 8}] and variants[0]["n"] == 7
    dice = random.Random(1)
    assert other(dice, True) is False and other(dice, "a") == "ax" and other(dice, 7) > 7


def test_a_damage_of_what_serves_is_found_by_its_own_pairs() -> None:
    found = a_break(pair="lake_search", aggregate_key="eire/product/o1")
    assert breaks_of_change(replace(change(), store="search"), [found, a_break()]) == [found]
    assert set(FOUND_BY) == set(STORES)
    assert {pair for pairs in FOUND_BY.values() for pair in pairs} <= {pair.name for pair in PAIRS}
