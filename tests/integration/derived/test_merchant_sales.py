"""Merchant sales: what a day adds up to, whoever wrote its rows, in whatever order, and what mends a damaged sum."""

from __future__ import annotations

import random
import threading
from datetime import date, datetime, timedelta

import msgspec
import pytest

from contracts.events.order import OrderState, OrderStatus
from contracts.events.payment import PaymentCapture, PaymentState
from contracts.events.refund import RefundState, RefundStatus
from contracts.ids import uuid7
from derived.read_models import migrate
from derived.read_models.merchant_sales import SalesDay, order_in_sales, sales_of
from tests.derived_work import NOON, FakePod, changed, key_of, order, payment, refund
from tests.integration.derived.conftest import Stores

LATE = NOON.replace(hour=23, minute=59, second=59)
NEXT_DAY = LATE + timedelta(seconds=1)
COLUMNS = "order_count, ordered_minor, cancelled_minor, captured_minor, refunded_minor"
ADDED_UP = """
    select merchant_id, day, currency, count(*), sum(o), sum(om), sum(ca), sum(cp), sum(rf) from (
        select merchant_id, day, currency, 1 as o, ordered_minor as om, cancelled_minor as ca, 0 as cp, 0 as rf
        from read_models.sales_orders
        union all
        select merchant_id, day, currency, 0, 0, 0, captured_minor, 0 from read_models.sales_captures
        union all
        select merchant_id, day, currency, 0, 0, 0, 0, refunded_minor from read_models.sales_refunds
    ) as rows group by 1, 2, 3 order by 1, 2, 3"""
KEPT = f"""
    select merchant_id, day, currency, row_count, {COLUMNS} from read_models.merchant_sales_days order by 1, 2, 3"""


def captured(of: OrderState, *amounts: tuple[int, datetime]) -> PaymentState:
    captures = [
        PaymentCapture(
            payment_capture_id=str(uuid7()), amount_minor=amount, provider_reference=f"c-{number}", captured_at=moment
        )
        for number, (amount, moment) in enumerate(amounts)
    ]
    return payment(of, captures=captures, captured_minor=sum(amount for amount, _ in amounts))


def completed(of: PaymentState, amount: int, moment: datetime = NOON) -> RefundState:
    return refund(of, amount, status=RefundStatus.COMPLETED, completed_at=moment)


def days_of(stores: Stores, merchant_id: str = "m1") -> list[SalesDay]:
    return sales_of(stores.dsn, merchant_id, date(2000, 1, 1), date(2100, 1, 1)).days


def sums_hold(stores: Stores) -> None:
    assert stores.execute(KEPT) == stores.execute(ADDED_UP)


def test_a_refund_that_failed_after_it_was_paid_counts_nowhere(stores: Stores) -> None:
    pod = FakePod()
    paid = captured(order(placed_at=LATE), (1_000, LATE))
    back = completed(paid, 300, NEXT_DAY)
    stores.sales.apply(pod.step(pod.cut(paid, back)))
    assert [day.refunded_minor for day in days_of(stores)] == [300, 0]
    failed = msgspec.structs.replace(back, version=back.version + 1, status=RefundStatus.FAILED, failed_at=NEXT_DAY)
    stores.sales.apply(pod.step(pod.cut(failed), since=1))
    assert [(day.captured_minor, day.refunded_minor) for day in days_of(stores)] == [(1_000, 0)]
    sums_hold(stores)


def test_a_day_is_utc_and_each_amount_counts_on_its_own_day(stores: Stores) -> None:
    pod = FakePod()
    one = order(placed_at=LATE)
    two = order(placed_at=NEXT_DAY, currency="EUR", cancelled_minor=200)
    paid = captured(one, (1_000, LATE), (200, NEXT_DAY))
    back = completed(paid, 300, NEXT_DAY)
    asked = refund(paid, 100)
    by_card = msgspec.structs.replace(captured(one, (90, LATE)), gift_card_id=str(uuid7()))
    stores.sales.apply(pod.step(pod.cut(one, two, paid, back, asked, by_card)))
    day, next_day = LATE.date().isoformat(), NEXT_DAY.date().isoformat()
    assert [msgspec.structs.astuple(found) for found in days_of(stores)] == [
        (next_day, "EUR", 1, two.total_minor, 200, 0, 0),
        (next_day, "GBP", 0, 0, 0, 200, 300),
        (day, "GBP", 1, one.total_minor, 0, 1_090, 0),
    ]
    assert sales_of(stores.dsn, "m1", NEXT_DAY.date(), NEXT_DAY.date()).days == days_of(stores)[:2]
    assert days_of(stores, "m2") == []
    row, age = order_in_sales(stores.dsn, "m1", two.order_id)
    assert row is not None and (row.currency, row.cancelled_minor) == ("EUR", 200)
    assert [one.applied_cut for one in age.pods] == [1]


def test_what_no_longer_counts_leaves_its_day_and_an_empty_day_goes(stores: Stores) -> None:
    pod = FakePod()
    first = order(placed_at=NOON)
    paid = captured(first, (1_200, NOON))
    stores.sales.apply(pod.step(pod.cut(first, paid)))
    moved = changed(first, placed_at=NEXT_DAY, status=OrderStatus.CANCELLED, cancelled_minor=first.total_minor)
    taken = msgspec.structs.replace(paid, version=2, captures=[], captured_minor=0)
    stores.sales.apply(pod.step(pod.cut(moved, taken), since=1))
    assert [msgspec.structs.astuple(found)[:5] for found in days_of(stores)] == [
        (NEXT_DAY.date().isoformat(), "GBP", 1, first.total_minor, first.total_minor)
    ]
    sums_hold(stores)


def test_sums_are_wider_than_any_row(stores: Stores) -> None:
    pod = FakePod()
    largest = 2**62
    stores.sales.apply(pod.step(pod.cut(*(order(placed_at=NOON, total_minor=largest) for _ in range(5)))))
    assert [found.ordered_minor for found in days_of(stores)] == [5 * largest]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3))])
def test_sums_follow_rows_through_any_history(stores: Stores, seed: int) -> None:
    chosen = random.Random(seed)
    pod = FakePod(chunk_rows=3)
    states: list[OrderState | PaymentState | RefundState] = []
    for cut in range(12):
        fresh: list[OrderState | PaymentState | RefundState] = []
        for _ in range(chosen.randint(1, 4)):
            moment = NOON + timedelta(hours=chosen.randint(0, 60))
            one = order(
                placed_at=moment, merchant_id=chosen.choice(["m1", "m2"]), currency=chosen.choice(["GBP", "EUR"])
            )
            paid = captured(one, *((chosen.randint(1, 900), moment) for _ in range(chosen.randint(0, 3))))
            fresh += [one, paid, completed(paid, chosen.randint(1, 300), moment)]
        for old in chosen.sample(states, min(len(states), 4)):
            fresh.append(msgspec.structs.replace(old, version=old.version + 1, currency=chosen.choice(["GBP", "EUR"])))
        states += fresh
        stores.apply(pod.step(pod.cut(*fresh), since=cut), also_lake=True)
        sums_hold(stores)
        if chosen.random() < 0.4:
            stores.execute(
                chosen.choice(
                    [
                        "delete from read_models.sales_orders where currency = 'GBP'",
                        "update read_models.sales_captures set captured_minor = captured_minor + 1",
                        "update read_models.sales_refunds set day = '1999-12-31'",
                        "truncate read_models.sales_captures",
                    ]
                )
            )
            sums_hold(stores)
    before = stores.execute(KEPT)
    stores.sales.rebuild_all("pod1")
    sums_hold(stores)
    wanted = stores.execute(KEPT)
    keys = sorted({key_of(state) for state in states})
    stores.execute("delete from read_models.sales_payments")
    stores.execute("update read_models.sales_orders set ordered_minor = 1")
    stores.sales.rebuild("pod1", keys)
    assert stores.execute(KEPT) == wanted and len(before) > 1


DAMAGES = {
    "changed": "update read_models.merchant_sales_days set captured_minor = captured_minor + 1",
    "two that cancel": """update read_models.merchant_sales_days
                          set ordered_minor = ordered_minor + 1, captured_minor = captured_minor - 1""",
    "missing": "delete from read_models.merchant_sales_days",
    "extra": """insert into read_models.merchant_sales_days (merchant_id, day, currency, row_count, captured_minor)
                values ('m1', '1999-12-31', 'GBP', 1, 5)""",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("is_whole", [False, True], ids=["by key", "as a whole"])
def test_a_damaged_sum_is_added_up_again(stores: Stores, damage: str, is_whole: bool) -> None:
    pod = FakePod()
    one = order(placed_at=NOON)
    stores.apply(pod.step(pod.cut(one, captured(one, (1_200, NOON)), order(placed_at=NEXT_DAY))), also_lake=True)
    before = stores.execute(KEPT)
    ids = stores.execute("select merchant_id, sales_day_id from read_models.merchant_sales_days")
    stores.execute(DAMAGES[damage])
    assert stores.execute(KEPT) != before
    ids += stores.execute("select merchant_id, sales_day_id from read_models.merchant_sales_days")
    keys = sorted({f"{merchant}/merchant_sales_days/{identifier}" for merchant, identifier in ids})

    def rebuilt() -> int | None:
        if is_whole:
            return stores.sales.rebuild_all("pod1", is_change_told=True).changed
        return stores.sales.rebuild("pod1", keys).changed

    assert rebuilt()
    assert stores.execute(KEPT) == before
    assert rebuilt() == 0


@pytest.mark.parametrize(
    ("lost", "states"),
    [
        ("drop trigger sums_of_updated on read_models.sales_orders", "OOOO"),
        ("alter table read_models.sales_orders disable trigger sums_of_updated", "OOOO"),
        ("alter table read_models.sales_orders disable trigger all", "OOOO"),
        ("alter table read_models.sales_orders enable replica trigger sums_of_updated", "OOOO"),
        # It fires in every session, so the sums are kept, and it stays as somebody set it.
        ("alter table read_models.sales_orders enable always trigger sums_of_updated", "OOOA"),
    ],
)
def test_a_lost_or_disabled_trigger_comes_back_with_the_next_migration(stores: Stores, lost: str, states: str) -> None:
    pod = FakePod()
    first = order(placed_at=NOON)
    stores.sales.apply(pod.step(pod.cut(first)))
    stores.execute(lost)
    migrate(stores.dsn)
    triggers = stores.execute(
        "select tgenabled::text from pg_trigger"
        " where tgrelid = 'read_models.sales_orders'::regclass and tgname like 'sums_of_%' order by tgname"
    )
    assert "".join(str(state) for (state,) in triggers) == states
    stores.sales.apply(pod.step(pod.cut(changed(first, cancelled_minor=100)), since=1))
    assert [found.cancelled_minor for found in days_of(stores)] == [100]
    sums_hold(stores)


def test_two_pods_add_to_the_same_day_while_it_is_added_up_again(stores: Stores) -> None:
    pods = [FakePod(pod="pod1"), FakePod(pod="pod2", epoch="other")]
    for pod in pods:
        stores.apply(pod.step(pod.cut(order(placed_at=NOON))), also_lake=True)
    ((day_id,),) = stores.execute("select sales_day_id from read_models.merchant_sales_days")
    failures: list[Exception] = []

    def follow(pod: FakePod) -> None:
        try:
            for cut in range(1, 15):
                stores.sales.apply(pod.step(pod.cut(order(placed_at=NOON)), since=cut))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=follow, args=[pod]) for pod in pods]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        stores.sales.rebuild("pod1", [f"m1/merchant_sales_days/{day_id}"])
    for thread in threads:
        thread.join()
    assert failures == []
    assert [found.order_count for found in days_of(stores)] == [30]
    sums_hold(stores)
