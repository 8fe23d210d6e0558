from __future__ import annotations

import random
import threading
from collections import Counter

import msgspec
import psycopg
import pytest

from contracts.settings import Settings
from oltp.commands.execute import CommandPod
from oltp.directory import placements
from traffic.command_chains import run_commands, run_commands_by_pod
from traffic.generator import attempt_order, deliveries, generate, place_orders
from traffic.live import run_live
from traffic.plans import LATER, Cancellation, OrderPlan, Payment, Refund, Shipment
from traffic.progress import no_progress
from traffic.shops import SHOPS
from traffic.staff import StaffSource
from traffic.workers import Workers


def rows(settings: Settings, query: str) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for pod in settings.pods:
        with psycopg.connect(pod.reader_dsn) as connection:
            found += connection.execute(query).fetchall()
    return found


def test_a_run_places_its_orders_and_leaves_every_identity_whole(books: Settings) -> None:
    report = place_orders(books, orders=60, seed=3, processes=0)
    assert (report.orders, report.refused) == (60, 0)
    orders = rows(books, "select order_number, status, currency from oltp.orders where source = 'generator'")
    assert sorted(str(order[0]) for order in orders) == [f"G-{number:07d}" for number in range(1, 61)]
    assert rows(books, "select * from oltp.stock_identity_violations") == []
    assert {placement.pod for placement in placements(books.control_dsn)} == {"pod1", "pod2"}
    trials = rows(books, "select effective_level from oltp.merchant_entitlements")
    assert trials == [(1,)] * len(SHOPS)


def test_a_second_run_continues_in_the_same_shops(books: Settings) -> None:
    place_orders(books, orders=10, seed=3, processes=0)
    products = rows(books, "select count(*), max(version) from oltp.products")
    again = place_orders(books, orders=10, seed=3, processes=0)
    assert again.first_order_number == "G-0000011"
    assert rows(books, "select count(*) from oltp.products") == [row[:1] for row in products]
    assert sum(int(str(row[0])) for row in rows(books, "select count(*) from oltp.orders")) == 20


def test_an_interrupted_run_is_followed_by_one_of_another_size(books: Settings) -> None:
    def interrupt(step: str, done: int, total: int) -> None:
        if step == "receiving stock":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place_orders(books, orders=10, seed=3, on_progress=interrupt, processes=0)
    report = place_orders(books, orders=12, seed=3, processes=0)
    assert (report.orders, report.refused) == (12, 0)


def test_several_processes_place_the_same_orders_as_one(books: Settings) -> None:
    report = place_orders(books, orders=40, seed=5, processes=2)
    assert (report.orders, report.refused) == (40, 0)
    ids = {str(row[0]) for row in rows(books, "select order_id from oltp.orders")}
    statuses = Counter(str(row[0]) for row in rows(books, "select status from oltp.orders"))
    assert len(ids) == 40
    assert statuses["fulfilled"] > statuses["cancelled"]


def test_orders_are_paid_with_gift_cards_and_given_back_onto_them(books: Settings) -> None:
    place_orders(books, orders=1, seed=1, processes=0)
    homes = {placement.merchant_id: placement.pod for placement in placements(books.control_dsn)}
    fates = ((Payment.GIFT_CARD, Refund.COMPLETED), (Payment.SPLIT, Refund.NONE), (Payment.PAID, Refund.ONTO_GIFT_CARD))
    plan = generate(orders=12, seed=5, first_number=100)
    orders = [
        msgspec.structs.replace(order, payment=payment, refund=refund, cancellation=Cancellation.NONE, is_free=False)
        for number, order in enumerate(plan.orders)
        for payment, refund in [fates[number % len(fates)]]
    ]
    with Workers(books, 0) as workers:
        run_commands_by_pod(workers, homes, deliveries(plan), "receiving stock", no_progress, at_once=1)
        done = list(workers.run(attempt_order_of, ((homes[order.merchant_id], order) for order in orders)))
    assert [refused for _, refused in done] == [False] * 12
    commands = sum((each for each, _ in done), Counter())
    assert (commands["RedeemGiftCard"], commands["IssueGiftCard"]) == (8, 12)
    cards = rows(books, "select redeemed_minor > 0, credited_minor > 0 from oltp.gift_cards where source = 'test'")
    # Spent and given back onto; spent as one half; given back onto, as it came with the refund.
    assert Counter(cards) == {(True, True): 4, (True, False): 4, (False, True): 4}
    off = rows(
        books,
        """select order_id from oltp.orders left join oltp.payments using (order_id)
           where source = 'test' group by order_id, total_minor
           having sum(captured_minor) <> total_minor""",
    )
    assert off == [], "with a gift card and what is left, an order is paid exactly"


def test_orders_are_paid_by_money_that_comes_later(books: Settings) -> None:
    place_orders(books, orders=1, seed=1, processes=0)
    homes = {placement.merchant_id: placement.pod for placement in placements(books.control_dsn)}
    plan = generate(orders=14, seed=5, first_number=100)
    orders = [
        msgspec.structs.replace(
            order, payment=LATER[number % len(LATER)], refund=Refund.NONE, cancellation=Cancellation.NONE,
            is_free=False, is_reserved_first=False, shipment=Shipment.WHOLE, is_restocked=number < len(LATER),
        )
        for number, order in enumerate(plan.orders)
    ]  # fmt: skip
    with Workers(books, 0) as workers:
        run_commands_by_pod(workers, homes, deliveries(plan), "receiving stock", no_progress, at_once=1)
        for _ in range(2):
            done = list(workers.run(attempt_order_of, ((homes[order.merchant_id], order) for order in orders)))
            assert [refused for _, refused in done] == [False] * 14
    found = rows(
        books,
        """select orders.status, payments.status, method, captured_minor = total_minor, returned_minor > 0,
                  unallocated_minor
           from oltp.orders join oltp.payments using (order_id) where source = 'test'""",
    )
    # Each was run twice under its keys, and counts once.
    assert Counter(found) == {
        ("cancelled", "failed", "direct_debit", False, False, 0): 2,
        ("fulfilled", "captured", "bank_transfer", True, False, 0): 5,
        ("fulfilled", "captured", "bank_transfer", True, False, 500): 1,
        ("fulfilled", "captured", "direct_debit", True, False, 0): 2,
        ("fulfilled", "captured", "direct_debit", True, True, 0): 2,
        ("placed", "pending", "bank_transfer", False, False, 0): 2,
    }


def attempt_order_of(pod: CommandPod, plan: OrderPlan) -> tuple[Counter[str], bool]:
    """Take one order through its journey, in whatever process this is."""
    return attempt_order(pod, plan, "test/cards")


def test_live_traffic_runs_until_its_time_is_over_and_delivers_what_is_sold_out(books: Settings) -> None:
    report = run_live(books, threading.Event(), orders_per_second=200, seed=1, duration_seconds=1.0)
    assert report.orders > 0
    # Nothing was in stock at first: refused once, delivered, and sold from then on.
    assert report.refused["InsufficientStockError"] >= 1
    assert report.commands["ReceiveStock"] >= 1
    assert set(report.refused) == {"InsufficientStockError"}
    assert report.unreachable == 0
    assert rows(books, "select * from oltp.stock_identity_violations") == []


def test_the_people_of_the_shops_do_every_kind_of_task_and_are_refused_nothing(books: Settings) -> None:
    place_orders(books, orders=1, seed=1, processes=0)
    homes = {placement.merchant_id: placement.pod for placement in placements(books.control_dsn)}
    staff = StaffSource(random.Random(3))
    with Workers(books, 0) as workers:
        tasks = [staff.task(f"live/{number}") for number in range(30)]
        batches = ((homes[task[0].command.merchant_id], task) for task in tasks)
        assert sum(workers.run(run_commands, batches)) == sum(map(len, tasks))
    kinds = {str(row[0]) for row in rows(books, "select event_type from oltp.outbox")}
    assert kinds >= {
        "adjustment_booked",
        "customer_entitlement_granted",
        "merchant_configured",
        "merchant_entitlement_revoked",
        "price_set",
        "variant_upserted",
    }
    assert rows(books, "select * from oltp.stock_identity_violations") == []


def test_live_traffic_stops_when_told(books: Settings) -> None:
    stop = threading.Event()
    stop.set()
    report = run_live(books, stop, orders_per_second=5, seed=1)
    assert report.orders == 0
