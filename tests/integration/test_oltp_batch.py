"""Commands of a batch have the effect of one after the other, and one bad command stops only itself."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from contracts.errors import (
    ConflictError,
    IdempotencyConflictError,
    InputError,
    InsufficientStockError,
    PodFencedError,
    StackError,
)
from contracts.events.adjustment import AdjustmentKind
from contracts.events.payment import PaymentStatus
from contracts.ids import uuid7
from oltp.commands import batch
from oltp.commands.adjust_stock import AdjustStock
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.batch import BatchItem, execute_batch
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.execute import Command, build_command_pod
from oltp.commands.fulfill_order import FulfillOrder
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from oltp.gateway import EmbeddedGateway
from tests.conftest import MakePod
from tests.integration.shop import LOCATION, MERCHANT, NOW, Shop, adjustment, open_shop, place_command


def item(command: Command[Any], key: str, occurred_at: datetime | None = None) -> BatchItem:
    return BatchItem(command=command, idempotency_key=key, occurred_at=occurred_at)


def placing(number: int, *lines: tuple[str, int], **options: Any) -> BatchItem:
    order_id = f"01000000-0000-7000-8000-{number:012}"
    command = place_command(lines or [("MUG", 2), ("PIN", 1)], f"B{number}", order_id=order_id, **options)
    return item(command, f"place {number}", NOW - timedelta(days=number))


def steps_of(numbers: Sequence[int]) -> list[list[BatchItem]]:
    """The whole life of orders, step by step."""
    orders = {number: f"01000000-0000-7000-8000-{number:012}" for number in numbers}
    payments = {number: f"02000000-0000-7000-8000-{number:012}" for number in numbers}
    return [
        [placing(number) for number in numbers],
        [
            item(AuthorizePayment(merchant_id=MERCHANT, order_id=orders[n], payment_id=payments[n]), f"authorize {n}")
            for n in numbers
        ],
        [item(CapturePayment(merchant_id=MERCHANT, payment_id=payments[n]), f"capture {n}") for n in numbers],
        [
            item(FulfillOrder(merchant_id=MERCHANT, order_id=orders[n], location_id=LOCATION), f"ship {n}")
            for n in numbers
        ],
    ]


def events(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.query(
        "select aggregate_type, event_type, aggregate_version, occurred_at, causation_id, schema_version "
        "from oltp.outbox order by aggregate_type, event_type, aggregate_version, occurred_at"
    )


def content(shop: Shop) -> list[list[tuple[Any, ...]]]:
    """Everything but generated ids."""
    return [
        events(shop),
        shop.query("select order_number, version, status, total_minor, placed_at from oltp.orders order by 1"),
        shop.query("select sku, quantity, fulfilled_quantity, total_minor from oltp.order_lines order by 1, 2, 3, 4"),
        shop.query("select version, status, captured_minor, authorized_at from oltp.payments order by payment_id"),
        shop.query("select on_hand, reserved from oltp.stock_levels order by variant_id"),
        shop.query("select kind, quantity, reason, moved_at from oltp.stock_movements order by 1, 2, 3, 4"),
        shop.query(
            "select idempotency_key, command, body_hash, is_kept, response is null from oltp.idempotency_keys "
            "where idempotency_key ~ '^[a-z]+ ' order by 1"
        ),
    ]


def test_a_batch_leaves_what_one_command_after_the_other_leaves(make_pod: MakePod) -> None:
    found = []
    for is_batch in (True, False):
        settings = make_pod()
        with build_command_pod(settings, clock=lambda: NOW) as pod:
            shop = open_shop(pod, settings)
            before = shop.query("select count(distinct xid) from oltp.outbox")[0][0]
            for step in steps_of(range(1, 6)):
                parts = [step] if is_batch else [[one] for one in step]
                assert not any(isinstance(answer, Exception) for part in parts for answer in execute_batch(pod, part))
            shop.assert_identities()
            found.append(content(shop))
            transactions = shop.query("select count(distinct xid) from oltp.outbox")[0][0] - before
            assert transactions == (4 if is_batch else 20)
    assert found[0] == found[1]


def test_each_event_says_when_its_own_command_happened_and_which_it_was(shop: Shop) -> None:
    execute_batch(shop.pod, [placing(1), placing(2)])
    rows = shop.query(
        "select occurred_at, count(distinct correlation_id), count(*) from oltp.outbox "
        "where occurred_at < %s group by 1 order by 1",
        NOW,
    )
    assert rows == [(NOW - timedelta(days=2), 1, 2), (NOW - timedelta(days=1), 1, 2)]
    assert shop.query("select count(distinct correlation_id) from oltp.outbox where occurred_at < %s", NOW) == [(2,)]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (placing(2, ("MUG", 1_000)), InsufficientStockError),
        (placing(2, ("NO SUCH", 1)), InputError),
        (placing(2, ("MUG", 0)), InputError),
        (item(place_command([("MUG", 1)], "B1"), "other key"), ConflictError),
        (item(place_command([("MUG", 1)], "B9"), "place 1"), IdempotencyConflictError),
    ],
)
def test_one_bad_command_stops_only_itself(shop: Shop, bad: BatchItem, error: type[Exception]) -> None:
    first, second, third = execute_batch(shop.pod, [placing(1), bad, placing(3)])
    assert (first.order_number, third.order_number) == ("B1", "B3")
    assert isinstance(second, error)
    assert shop.query("select order_number from oltp.orders order by 1") == [("B1",), ("B3",)]
    assert shop.stock("MUG") == (100, 4)


def test_units_that_two_commands_of_a_batch_want_are_not_sold_twice(shop: Shop) -> None:
    answers = execute_batch(shop.pod, [placing(n, ("MUG", 40)) for n in (1, 2, 3)])
    assert [isinstance(answer, InsufficientStockError) for answer in answers] == [False, False, True]
    assert shop.stock("MUG") == (100, 80)


def test_a_repeated_batch_gives_the_same_answers_and_no_second_effect(shop: Shop) -> None:
    steps = steps_of([1, 2, 3])
    first = [execute_batch(shop.pod, step) for step in steps]
    before = content(shop)
    assert [execute_batch(shop.pod, step) for step in steps] == first
    # Some were done before, some are new.
    again = execute_batch(shop.pod, [*steps[0], placing(4)])
    assert again[:3] == first[0]
    assert again[3].order_number == "B4"
    assert content(shop)[1][:3] == before[1]


def test_the_same_key_twice_in_a_batch_is_one_command(shop: Shop) -> None:
    first, second = execute_batch(shop.pod, [placing(1), placing(1)])
    assert first == second
    assert shop.query("select count(*) from oltp.orders") == [(1,)]


def test_commands_of_one_aggregate_find_out_about_each_other(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    ship = FulfillOrder(merchant_id=MERCHANT, order_id=order.order_id, location_id=LOCATION)
    first, second = execute_batch(shop.pod, [item(ship, "a"), item(ship, "b")])
    assert isinstance(second, ConflictError)
    assert first.order_id == order.order_id
    assert shop.stock("MUG") == (98, 0)
    pays = [AuthorizePayment(merchant_id=MERCHANT, order_id=order.order_id) for _ in range(2)]
    answers = execute_batch(shop.pod, [item(pay, f"pay {n}") for n, pay in enumerate(pays)])
    live = shop.query("select sum(authorized_minor) from oltp.payments where status = 'authorized'")
    assert live == [(order.total_minor,)]
    assert sum(getattr(answer, "status", None) is PaymentStatus.AUTHORIZED for answer in answers) == 1


def test_an_order_and_its_payment_in_one_batch_end_as_one_after_the_other(shop: Shop) -> None:
    steps = steps_of([1, 2])
    answers = execute_batch(shop.pod, [*steps[0], *steps[1]])
    assert not any(isinstance(answer, Exception) for answer in answers)
    shipped = execute_batch(shop.pod, [*steps[2], *steps[3]])
    assert not any(isinstance(answer, Exception) for answer in shipped)
    assert shop.query("select status, count(*) from oltp.orders group by 1") == [("fulfilled", 2)]


def test_products_adjustments_and_stock_in_batches(shop: Shop) -> None:
    products: list[Command[Any]] = [
        UpsertProduct(
            merchant_id=MERCHANT,
            product_id=str(uuid7()),
            title=f"T{n}",
            variants=[VariantInput(variant_id=str(uuid7()), sku=f"T{n}", title="T", unit_price_micro=1_000_000)],
        )
        for n in range(3)
    ]
    duplicate = UpsertProduct(
        merchant_id=MERCHANT,
        product_id=str(uuid7()),
        title="T0 again",
        variants=[VariantInput(variant_id=str(uuid7()), sku="T0", title="T", unit_price_micro=1)],
    )
    answers = execute_batch(shop.pod, [item(one, f"product {n}") for n, one in enumerate([*products, duplicate])])
    assert [isinstance(answer, ConflictError) for answer in answers] == [False, False, False, True]
    assert shop.query("select currency, count(*) from oltp.prices where unit_price_micro = 1000000 group by 1") == [
        ("GBP", 3)
    ]
    wear: list[Command[Any]] = [
        AdjustStock(merchant_id=MERCHANT, location_id=LOCATION, variant_id=shop.variants["MUG"], quantity=-n)
        for n in (1, 2)
    ]
    fee = adjustment(MERCHANT, -1_000_000, kind=AdjustmentKind.FEE)
    answers = execute_batch(shop.pod, [item(one, f"row {n}") for n, one in enumerate([*wear, fee])])
    assert not any(isinstance(answer, Exception) for answer in answers)
    assert shop.stock("MUG") == (97, 0)


def test_an_order_after_a_change_of_price_in_the_same_batch_has_the_new_price(shop: Shop) -> None:
    product_id = shop.query("select product_id::text from oltp.variants where sku = 'MUG'")[0][0]
    variant = VariantInput(variant_id=shop.variants["MUG"], sku="MUG", title="Mug", unit_price_micro=7_000_000)
    dearer = UpsertProduct(merchant_id=MERCHANT, product_id=product_id, title="Mug", variants=[variant])
    answers = execute_batch(shop.pod, [item(dearer, "dearer"), placing(1, ("MUG", 1)), placing(2, ("MUG", 1))])
    assert [answer.lines[0].unit_price_micro for answer in answers[1:]] == [7_000_000] * 2


def test_batches_at_once_wait_for_each_other_in_no_circle(shop: Shop) -> None:
    skus = ["MUG", "PIN", "PEN", "FREE"]

    def sell(worker: int) -> list[Any]:
        lines = [(skus[(worker + place) % 4], 1) for place in range(4)]
        numbers = range(worker * 100, worker * 100 + 20)
        return [
            answer
            for start in range(0, 20, 5)
            for answer in execute_batch(shop.pod, [placing(n, *lines) for n in numbers[start : start + 5]])
        ]

    with ThreadPoolExecutor(4) as threads:
        answers = [answer for part in threads.map(sell, range(1, 5)) for answer in part]
    assert not any(isinstance(answer, Exception) for answer in answers)
    assert shop.stock("MUG") == (100, 80)


def test_a_commit_whose_answer_was_lost_is_found_by_its_keys(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    together = batch._together

    def lost(*arguments: Any) -> list[Any]:
        together(*arguments)
        raise psycopg.OperationalError("the connection is gone")

    monkeypatch.setattr(batch, "_together", lost)
    answers = execute_batch(shop.pod, [placing(1), placing(2)])
    assert [answer.order_number for answer in answers] == ["B1", "B2"]
    assert shop.query("select count(*) from oltp.orders") == [(2,)]


def test_a_batch_that_dies_before_its_commit_leaves_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(shop)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "_store", die)
    with pytest.raises(KeyboardInterrupt):
        execute_batch(shop.pod, [placing(1), placing(2)])
    assert content(shop) == before
    monkeypatch.undo()
    assert len(execute_batch(shop.pod, [placing(1), placing(2)])) == 2


def test_a_merchant_that_lives_elsewhere_is_refused_alone(shop: Shop) -> None:
    command = msgspec.structs.replace(place_command([("MUG", 1)], "X1"), merchant_id="x")
    answers = execute_batch(shop.pod, [placing(1), item(command, "x")])
    assert answers[0].order_number == "B1"
    assert isinstance(answers[1], PodFencedError)


def test_commands_that_ask_a_real_provider_or_may_not_share_run_alone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Provider:
        name, is_local = "real", False

        def __getattr__(self, name: str) -> Any:
            return getattr(EmbeddedGateway(), name)

    monkeypatch.setattr(batch, "_together", lambda *_: pytest.fail("they shared a transaction"))
    orders = [shop.place(("MUG", 1)) for _ in range(2)]
    pays = [item(AuthorizePayment(merchant_id=MERCHANT, order_id=one.order_id), one.order_id) for one in orders]
    answers = execute_batch(replace(shop.pod, gateway=Provider()), pays)
    assert [answer.status for answer in answers] == [PaymentStatus.AUTHORIZED] * 2
    names = [item(ConfigureMerchant(merchant_id=MERCHANT, name=name), name) for name in ("A", "B")]
    assert [answer.name for answer in execute_batch(shop.pod, names)] == ["A", "B"]


def test_a_pod_that_is_gone_is_said(shop: Shop) -> None:
    gone = replace(shop.settings, app_dsn=shop.settings.app_dsn + "_gone")
    with build_command_pod(gone, connections_max=1) as pod, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pod.connections, "timeout", 0.5)
        with pytest.raises(StackError):
            execute_batch(pod, [placing(1), placing(2)])
