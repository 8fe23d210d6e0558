"""OLTP, outbox, log and lake, compared at a cut: no difference where there is none, and every damage by its name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis

from contracts.errors import PropagationError
from contracts.settings import Settings
from contracts.verdicts import PairResult, Verdict
from derived.lake_connection import open_lake
from reconcile import log_entries
from reconcile.comparison_run import run_pairs
from reconcile.context import LoggedEntry, ReconcileContext
from stack.composition.comparison import build_reconcile_context
from streams.logs import build_log
from streams.outbox_reading import prune
from streams.valkey_log import ValkeyLog
from tests.conftest import Cluster
from tests.integration.reconcile_world import Shop, behind_the_outbox, busy_shops, carrying, migrate_lake_of
from tests.values import found

FAMILIES = ("stock_identity", "outbox_log", "log_manifests", "oltp_lake")
UNDER_LOAD = (
    "stock_identity",
    "outbox_log",
    "log_manifests",
    "oltp_lake.order",
    "oltp_lake.payment",
    "oltp_lake.reservation",
)
Shops = tuple[Shop, Shop]


@pytest.fixture
def shops(settings: Settings) -> Iterator[Shops]:
    """A shop in each pod, everything done that can be done, and the lake migrated."""
    migrate_lake_of(settings)
    with busy_shops(settings) as opened:
        yield opened


@pytest.fixture
def context(settings: Settings) -> ReconcileContext:
    """The real context, but that asking how far the lake is first brings it there: these tests run no workers."""
    real = build_reconcile_context(settings, lag_seconds_max=10)

    return carrying(real, settings, ("lake",))


def compared(context: ReconcileContext, *names: str) -> dict[str, PairResult]:
    """Return what comparing pairs in pod1 found, by pair."""
    return {result.pair: result for result in run_pairs(context, names or FAMILIES, ["pod1"])}


def with_log(
    context: ReconcileContext, change: Callable[[list[LoggedEntry], int], list[LoggedEntry]]
) -> ReconcileContext:
    """Return the context with another list of what the log has up to a cut."""
    real = context.read_log
    assert real is not None

    @contextmanager
    def changed(pod: str, cut: int) -> Iterator[list[LoggedEntry]]:
        with real(pod, cut) as logged:
            yield change(list(logged), cut)

    return replace(context, read_log=changed)


def damage_lake(settings: Settings, statement: str, values: list[object] | None = None) -> None:
    """Change the lake's events as nobody should."""
    with open_lake(settings) as lake:
        lake.execute(statement, values or [])


def test_nothing_differs_where_nothing_is_wrong(context: ReconcileContext, shops: Shops) -> None:
    results = run_pairs(context, FAMILIES)
    assert len(results) == 2 * 15
    assert [(r.pair, r.reason, r.sample) for r in results if r.verdict is not Verdict.CONSISTENT] == []
    by_pair = {result.pair: result for result in results if result.pod == "pod1"}
    orders = by_pair["oltp_lake.order"]
    root, lines, discounts, taxes = (level for level in orders.levels if level.merchant_id is None)
    assert (root.left_rows, lines.left_rows, discounts.left_rows, taxes.left_rows) == (8, 22, 7, 0)
    assert root.left_sums == root.right_sums and root.left_sums["total_minor"] > 0
    assert by_pair["log_manifests"].compared > 0 and len({result.cut for result in by_pair.values()}) == 1


def test_writes_that_bypassed_the_outbox_are_found(
    context: ReconcileContext, shops: Shops, settings: Settings, postgres: Cluster
) -> None:
    orders = [shops[0].order() for _ in range(3)]
    first, second, third = (order.order_id for order in orders)
    edit = "update oltp.orders set lines_minor = lines_minor + %s, total_minor = total_minor + %s where order_id = %s"
    with behind_the_outbox(postgres, settings.pods[0]) as connection:
        # One minor unit too much in one order, one too little in another of the same merchant, day and currency.
        connection.execute(edit, (1, 1, first))
        connection.execute(edit, (-1, -1, second))
        connection.execute("update oltp.order_lines set price_reason = '' where order_id = %s", (third,))
        connection.execute("update oltp.order_tax_lines set tax_minor = tax_minor + 1 where order_id = %s", (third,))
        connection.execute("update oltp.stock_slots set on_hand = on_hand + 5 where location_id = 'main'")
    results = compared(context)
    result = results["oltp_lake.order"]
    assert result.verdict is Verdict.INCONSISTENT
    assert result.classes == {"amount": 2, "tax": 3}
    assert (result.missing, result.extra, result.different, result.duplicates) == (0, 0, 5, 0)
    total = orders[0].total_minor
    by_key = {d.key: d for d in result.sample if d.entity == "orders"}
    assert {c.column: (c.left, c.right, c.difference) for c in by_key[(first,)].columns} == {
        "lines_minor": (orders[0].lines_minor + 1, orders[0].lines_minor, -1),
        "total_minor": (total + 1, total, -1),
    }
    assert {c.difference for c in by_key[(second,)].columns} == {1}
    segment = next(level for level in result.levels if level.entity == "orders" and level.merchant_id)
    assert segment.left_sums == segment.right_sums and not segment.is_equal
    assert results["stock_identity"].classes == {"different": 2}
    others = {pair: r.verdict for pair, r in results.items() if pair not in ("oltp_lake.order", "stock_identity")}
    assert set(others.values()) == {Verdict.CONSISTENT}, others


def test_rows_that_came_and_went_behind_the_outbox_are_found(
    context: ReconcileContext, shops: Shops, settings: Settings, postgres: Cluster
) -> None:
    order, payment = shops[0].paid()
    with behind_the_outbox(postgres, settings.pods[0]) as connection:
        connection.execute("delete from oltp.payment_captures where payment_id = %s", (payment.payment_id,))
        connection.execute("delete from oltp.payments where payment_id = %s", (payment.payment_id,))
        connection.execute(
            "insert into oltp.order_discounts select gen_random_uuid(), order_id, merchant_id, 'GHOST', 1 "
            "from oltp.orders where order_id = %s",
            (order.order_id,),
        )
    results = compared(context, "oltp_lake.payment", "oltp_lake.order")
    assert results["oltp_lake.payment"].classes == {"extra": 2}
    extra = next(item for item in found(results["oltp_lake.payment"]) if item[0] == "payments")
    assert extra[2]["captured_minor"] == (None, payment.captured_minor, payment.captured_minor)
    assert found(results["oltp_lake.order"]) == [("order_discounts", "missing", {"amount_minor": (1, None, -1)})]


def test_damage_of_the_lake_is_found_and_named(context: ReconcileContext, shops: Shops, settings: Settings) -> None:
    shop = shops[0]
    orders = [shop.order() for _ in range(6)]
    twice, stale, lost, wrong, foreign, broken = (order.order_id for order in orders)
    total = orders[3].total_minor
    shop.cancel(stale)
    assert {r.verdict for r in compared(context).values()} == {Verdict.CONSISTENT}
    events = "lake.raw.events"
    edit = f"update {events} set payload = replace(payload, ?, ?) where aggregate_id = ?"
    damage_lake(settings, f"insert into {events} select * from {events} where aggregate_id = ?", [twice])
    damage_lake(settings, f"delete from {events} where aggregate_id = ? and aggregate_version = 2", [stale])
    damage_lake(settings, f"delete from {events} where aggregate_id = ?", [lost])
    damage_lake(settings, edit, [f'"total_minor":{total},', f'"total_minor":{total + 1},', wrong])
    damage_lake(settings, edit, ['"currency":"GBP"', '"currency":"EUR"', foreign])
    # A fraction is not rounded away, and what is no number is not a number.
    damage_lake(settings, edit, ['"cancelled_minor":0,', '"cancelled_minor":0.4,', broken])
    results = compared(context, "oltp_lake.order", "log_manifests")
    result = results["oltp_lake.order"]
    kinds = {(d.entity, d.key[0]): d.kind.value for d in result.sample}
    assert kinds[("events", twice)] == "duplicate"
    assert kinds[("orders", stale)] == "stale"
    assert kinds[("orders", lost)] == "missing"
    assert kinds[("orders", wrong)] == "amount"
    assert kinds[("orders", foreign)] == "currency"
    assert kinds[("orders", broken)] == "amount"
    assert (result.duplicates, result.extra) == (1, 0)
    log = results["log_manifests"]
    outbox = {d.kind.value for d in log.sample if d.entity == "outbox_events"}
    assert outbox == {"duplicate", "missing", "different"}
    assert {d.entity for d in log.sample} >= {"outbox_events", "manifest_counts", "log_events"}


def test_an_event_lost_in_the_middle_is_found(context: ReconcileContext, shops: Shops, settings: Settings) -> None:
    order, _ = shops[0].shipped()
    assert compared(context, "oltp_lake.order")["oltp_lake.order"].verdict is Verdict.CONSISTENT
    damage_lake(
        settings, "delete from lake.raw.events where aggregate_id = ? and aggregate_version = 1", [order.order_id]
    )
    assert found(compared(context, "oltp_lake.order")["oltp_lake.order"]) == [
        ("orders", "different", {"events": (2, 1, -1)})
    ]


def test_a_log_that_says_something_else_is_found(context: ReconcileContext, shops: Shops, settings: Settings) -> None:
    assert compared(context, "log_manifests")["log_manifests"].verdict is Verdict.CONSISTENT

    def wrong_manifests(logged: list[LoggedEntry], _cut: int) -> list[LoggedEntry]:
        first, second, *rest = logged
        return [
            replace(first, stated_events=first.stated_events + 1),
            replace(second, stated_checksum="0" * 64),
            *rest,
        ]

    results = compared(with_log(context, wrong_manifests), "outbox_log", "log_manifests")
    assert sorted((d.entity, tuple(c.column for c in d.columns)) for d in results["outbox_log"].sample) == [
        ("log_counts", ("events",)),
        ("log_entries", ("checksum",)),
        ("log_entries", ("events",)),
    ]
    assert [(d.entity, tuple(c.column for c in d.columns)) for d in results["log_manifests"].sample] == [
        ("manifest_counts", ("events",))
    ]
    with redis.Redis.from_url(settings.log_url) as client:
        keys = sorted(key for key in client.scan_iter(_type="stream") if b"pod1" in key and b"cuts" not in key)
        client.xtrim(keys[0], maxlen=0, approximate=False)
    results = compared(context, "outbox_log", "log_manifests")
    assert {(d.entity, d.kind.value) for d in results["outbox_log"].sample} == {("log_entries", "missing")}
    assert {(d.entity, d.kind.value) for d in results["log_manifests"].sample} == {("log_events", "extra")}


def test_what_is_in_doubt_is_read_back_whatever_its_age(
    context: ReconcileContext, shops: Shops, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a complete comparison, which reads the newest entries only, would end a break that it has not looked at."""
    altered, lost = (shops[0].paid()[0].order_id for _ in range(2))
    assert compared(context, "log_manifests")["log_manifests"].verdict is Verdict.CONSISTENT
    later = compared(context, "log_manifests")["log_manifests"].cut or 0
    assert prune(settings.pods[0].owner_dsn, later).events > 0  # only log and lake have the events now
    of_order = "where aggregate_type = 'order' and aggregate_id = ?"
    damage_lake(settings, f"update lake.raw.events set payload = replace(payload, 'ada', 'eve') {of_order}", [altered])
    damage_lake(settings, f"delete from lake.raw.events {of_order}", [lost])

    def differing(given: ReconcileContext) -> list[tuple[str | None, ...]]:
        (sample,) = (one.sample for one in compared(given, "log_manifests").values())
        assert {one.entity for one in sample} <= {"log_events", "manifest_counts"}
        return sorted(one.key for one in sample if one.entity == "log_events")

    every = differing(context)
    assert len(every) >= 2
    shops[0].paid()
    monkeypatch.setattr(log_entries, "ENTRIES_MAX", 1)
    assert differing(context) == [], "the newest entry has nothing wrong"

    def unended(pair: str, pod: str, entity: str) -> list[tuple[str | None, ...]]:
        return every if (pair, pod, entity) == ("log_manifests", "pod1", "log_events") else []

    assert differing(replace(context, unended=unended)) == every


def test_an_old_entry_in_doubt_is_read_back(
    context: ReconcileContext, shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    shops[0].paid()
    altered = with_log(context, lambda logged, _: [replace(logged[0], stated_checksum="0" * 64), *logged[1:]])
    (item,) = compared(altered, "outbox_log")["outbox_log"].sample
    assert item.entity == "log_entries"
    shops[0].paid()
    monkeypatch.setattr(log_entries, "ENTRIES_MAX", 1)
    assert compared(altered, "outbox_log")["outbox_log"].sample == ()
    doubting = replace(altered, unended=lambda pair, pod, entity: [item.key] if entity == item.entity else [])
    assert [one.key for one in compared(doubting, "outbox_log")["outbox_log"].sample] == [item.key]
    mended = replace(doubting, read_log=context.read_log)
    assert compared(mended, "outbox_log")["outbox_log"].verdict is Verdict.CONSISTENT


def test_what_the_log_lost_is_found_although_the_lake_waits_for_it(
    context: ReconcileContext, shops: Shops, settings: Settings
) -> None:
    """Nothing is compared with a lake that is late; it is late because of the loss, which must be found without it."""
    assert compared(context, "outbox_log")["outbox_log"].verdict is Verdict.CONSISTENT
    waiting = replace(context, lake_cut=lambda connection, pod: 0, lag_seconds_max=0.05)
    with redis.Redis.from_url(settings.log_url) as client, closing(ValkeyLog(settings.log_url)) as log:
        manifest = next(one for one in log.manifests("pod1", 0, limit=100) if one.events)
        partition = next(number for number, chunks in enumerate(manifest.partitions) if chunks)
        entries, entry = log.entries_key("pod1", manifest.generation, partition), f"{manifest.cut}-0"
        (content,) = client.xrange(entries, entry, entry)
        client.xdel(entries, entry)
        results = compared(waiting, "outbox_log", "log_manifests")
        assert results["log_manifests"].verdict is Verdict.LATE
        lost = [(d.entity, d.key, d.kind.value) for d in results["outbox_log"].sample]
        assert lost == [("log_entries", (str(manifest.cut), str(partition), "0"), "missing")]

        client.delete(entries)
        client.xadd(entries, {**content[1], b"events": b"no entry at all"}, id=entry)
        results = compared(waiting, "outbox_log")
        assert ("log_entries", "different") in {(d.entity, d.kind.value) for d in results["outbox_log"].sample}

        client.xdel(log.manifests_key("pod1"), f"{manifest.cut}-0")
        results = compared(waiting, "outbox_log")
        is_lowest = log.manifests("pod1", 0, limit=1)[0].cut > manifest.cut
        assert is_lowest or ("log_counts", "missing") in {
            (d.entity, d.kind.value) for d in results["outbox_log"].sample
        }


def test_trimming_beside_a_comparison_makes_no_difference(
    context: ReconcileContext, shops: Shops, settings: Settings
) -> None:
    assert compared(context, "log_manifests")["log_manifests"].verdict is Verdict.CONSISTENT
    shops[0].paid()

    def trimmed_after_listing(logged: list[LoggedEntry], cut: int) -> list[LoggedEntry]:
        with closing(build_log(settings)) as log:
            assert log.trim("pod1", cut) > 0
        return logged

    result = compared(with_log(context, trimmed_after_listing), "log_manifests")["log_manifests"]
    assert result.verdict is Verdict.CONSISTENT, result.sample


def test_pruning_the_outbox_makes_no_difference(context: ReconcileContext, shops: Shops, settings: Settings) -> None:
    cut = compared(context, "log_manifests")["log_manifests"].cut
    assert cut is not None
    shops[0].paid()
    later = compared(context, "log_manifests")["log_manifests"]
    assert later.cut is not None and prune(settings.pods[0].owner_dsn, later.cut).events > 0
    shops[0].shipped()
    results = compared(context)
    assert {(r.pair, r.verdict) for r in results.values() if r.verdict is not Verdict.CONSISTENT} == set()


def test_what_could_not_be_looked_at_is_unknown_and_what_is_behind_is_late(
    context: ReconcileContext, shops: Shops
) -> None:
    def broken(pod: str) -> Any:
        raise PropagationError(f"The server of {pod} does not answer.")

    unreadable = compared(replace(context, take_cut=broken), "oltp_lake.order", "stock_identity")
    assert {r.verdict for r in unreadable.values()} == {Verdict.UNKNOWN}
    assert "does not answer" in unreadable["stock_identity"].reason
    no_log = compared(replace(context, read_log=None), "outbox_log", "log_manifests", "oltp_lake.order")
    assert no_log["outbox_log"].verdict is Verdict.UNKNOWN
    assert no_log["log_manifests"].verdict is Verdict.UNKNOWN
    assert no_log["oltp_lake.order"].verdict is Verdict.CONSISTENT
    no_lake = compared(replace(context, open_lake=lambda: broken("the lake")))
    assert {r.verdict for r in no_lake.values()} == {Verdict.UNKNOWN} and len(no_lake) == 15
    behind = replace(context, lake_cut=lambda connection, pod: 0, lag_seconds_max=0.05)
    late = compared(behind, "oltp_lake.order", "stock_identity")
    assert late["oltp_lake.order"].verdict is Verdict.LATE and late["oltp_lake.order"].compared == 0
    assert late["stock_identity"].verdict is Verdict.CONSISTENT


@pytest.mark.in_turn("comparisons", seconds=16)
def test_no_false_difference_while_writers_write(context: ReconcileContext, shops: Shops) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(shop: Shop) -> None:
        try:
            while not stop.wait(0.02):
                shop.refunded()
                shop.cancelled_in_part()
        except BaseException as error:  # shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=write, args=(shop,)) for shop in shops]
    for thread in threads:
        thread.start()
    try:
        cuts = set()
        for _ in range(2):
            results = run_pairs(context, UNDER_LOAD)
            wrong = [(r.pair, r.pod, r.verdict, r.reason, r.sample[:2]) for r in results]
            assert [item for item in wrong if item[2] is not Verdict.CONSISTENT] == []
            cuts |= {(r.pod, r.cut, r.compared) for r in results if r.pair == "oltp_lake.order"}
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len({number for _, _, number in cuts}) >= 2, "the writers wrote while it was compared"
