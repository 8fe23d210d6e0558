"""A hot variant's level, spread over slots and folded back while it is sold: exact, and sold to the last unit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import ConflictError, InputError, InsufficientStockError, NotFoundError
from contracts.events.stock import ReservationState, StockMovementKind
from contracts.limits import STOCK_MAX, STOCK_SLOTS
from contracts.settings import PodSettings
from oltp.commands.adjust_stock import AdjustStock
from oltp.commands.batch import BatchItem, execute_batch
from oltp.commands.execute import CommandPod, build_command_pod, execute
from oltp.commands.fulfill_order import FulfillOrder
from oltp.commands.place_order import OrderLineInput, PlaceOrder
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.release_reservation import ReleaseReservation
from oltp.commands.reserve_stock import ReserveStock
from oltp.commands.spread_stock import SpreadStock
from oltp.store.stock import StockLayout
from reconcile.identity_pairs import STOCK_LEVELS, STOCK_SUMS
from stack.servers import bootstrap
from tests.conftest import Cluster
from tests.integration.oltp_pod import LATER, MERCHANT, NOW, add_product, key, receive, register

CLIENTS = 12


@dataclass(frozen=True, kw_only=True)
class Counter:
    """One variant at one location, and what can be done to it."""

    pod: CommandPod
    settings: PodSettings
    variant_id: str
    sku: str

    def spread(self, is_spread: bool = True, **options: Any) -> StockLayout:
        command = SpreadStock(
            merchant_id=MERCHANT, location_id="main", variant_id=self.variant_id, is_spread=is_spread, **options
        )
        return execute(self.pod, command, idempotency_key=key())

    def receive(self, quantity: int) -> None:
        receive(self.pod, quantity, self.variant_id)

    def reserve(self, quantity: int) -> ReservationState:
        lines = [StockInput(variant_id=self.variant_id, quantity=quantity)]
        command = ReserveStock(merchant_id=MERCHANT, location_id="main", lines=lines, expires_at=LATER)
        return execute(self.pod, command, idempotency_key=key())

    def release(self, reservation: ReservationState) -> None:
        command = ReleaseReservation(merchant_id=MERCHANT, reservation_id=reservation.reservation_id)
        execute(self.pod, command, idempotency_key=key())

    def adjust(self, quantity: int) -> None:
        command = AdjustStock(
            merchant_id=MERCHANT, location_id="main", variant_id=self.variant_id, quantity=quantity, reason="counted"
        )
        execute(self.pod, command, idempotency_key=key())

    def order(self, quantity: int) -> str:
        command = PlaceOrder(
            merchant_id=MERCHANT,
            order_number=key(),
            customer_id=None,
            location_id="main",
            lines=[OrderLineInput(sku=self.sku, quantity=quantity)],
        )
        return execute(self.pod, command, idempotency_key=key()).order_id

    def ship(self, order_id: str) -> None:
        command = FulfillOrder(merchant_id=MERCHANT, order_id=order_id, location_id="main")
        execute(self.pod, command, idempotency_key=key())

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.settings.reader_dsn) as connection:
            return connection.execute(statement.encode(), {"variant_id": self.variant_id}).fetchall()

    def level(self) -> tuple[int, int]:
        """Return (on hand, reserved), and require that every identity of stock holds."""
        assert self.query("select * from oltp.stock_identity_violations") == []
        assert set(self.query(STOCK_LEVELS)) == set(self.query(STOCK_SUMS)), "every level has all its slots"
        found = self.query("select on_hand, reserved from oltp.stock_levels where variant_id = %(variant_id)s")
        return found[0] if found else (0, 0)

    def slots(self) -> list[tuple[int, int]]:
        return self.query(
            "select on_hand, reserved from oltp.stock_slots where variant_id = %(variant_id)s order by slot"
        )


@pytest.fixture(scope="module")
def shop(postgres: Cluster, pod_template: str) -> Iterator[tuple[CommandPod, PodSettings]]:
    connecting = (*bootstrap.POD_ROLES, bootstrap.WITNESS_ROLE)
    database = postgres.create("slots", owner=connecting[0], template=pod_template, connecting=connecting)
    pod_settings = postgres.pod_settings("pod1", database)
    with build_command_pod(pod_settings, clock=lambda: NOW, connections_max=CLIENTS + 2) as pod:
        register(pod)
        yield pod, pod_settings
    postgres.drop(database)


@pytest.fixture
def counter(shop: tuple[CommandPod, PodSettings]) -> Counter:
    return a_counter(shop)


def a_counter(shop: tuple[CommandPod, PodSettings]) -> Counter:
    pod, pod_settings = shop
    sku = f"HOT-{key()}"
    (variant,) = add_product(pod, sku).variants
    return Counter(pod=pod, settings=pod_settings, variant_id=variant.variant_id, sku=sku)


def test_a_level_is_spread_and_folded_back_and_stays_the_same(counter: Counter) -> None:
    counter.receive(100)
    counter.reserve(7)
    shown = counter.spread(is_preview=True)
    assert (shown.slots_before, shown.slots, shown.on_hand, shown.reserved) == (1, STOCK_SLOTS, 100, 7)
    assert counter.slots() == [(100, 7)], "a preview changes nothing"

    assert counter.spread(reason="the sale begins") == shown
    assert len(counter.slots()) == STOCK_SLOTS
    assert max(on_hand for on_hand, _ in counter.slots()) == 7
    assert counter.level() == (100, 7)
    assert counter.spread().slots_before == STOCK_SLOTS, "again: nothing is left to do"

    assert counter.spread(is_spread=False, reason="it is over").slots_before == STOCK_SLOTS
    assert counter.slots() == [(100, 7)]
    changes = "select slots, on_hand, reserved, reason from oltp.stock_slot_changes where variant_id = %(variant_id)s"
    assert counter.query(f"{changes} order by changed_at, slots desc") == [
        (STOCK_SLOTS, 100, 7, "the sale begins"),
        (1, 100, 7, "it is over"),
    ]


@pytest.mark.parametrize(
    "harm",
    ["delete from oltp.stock_slots where slot = 9", "update oltp.stock_slots set slots = 1 where slot = 0"],
    ids=["a slot is lost", "a slot is apart"],
)
def test_comparing_finds_a_slot_that_is_odd(counter: Counter, harm: str) -> None:
    """Also one without units, which no sum misses."""
    counter.spread()
    with psycopg.connect(counter.settings.owner_dsn) as connection:
        connection.execute(f"{harm} and variant_id = %s".encode(), [counter.variant_id])
    (odd,) = set(counter.query(STOCK_LEVELS)) - set(counter.query(STOCK_SUMS))
    assert odd[0] == counter.variant_id and int(odd[-1]) > 0
    with psycopg.connect(counter.settings.owner_dsn) as connection:
        connection.execute("delete from oltp.stock_slots where variant_id = %s", [counter.variant_id])


def test_a_variant_that_the_merchant_does_not_have(counter: Counter) -> None:
    for is_preview in (False, True):
        command = SpreadStock(merchant_id=MERCHANT, location_id="main", variant_id=key(), is_preview=is_preview)
        with pytest.raises(NotFoundError):
            execute(counter.pod, command, idempotency_key=key())


def test_a_quantity_larger_than_a_slot_is_taken_from_several(counter: Counter) -> None:
    counter.spread()
    counter.receive(20)
    held = counter.reserve(19)
    with pytest.raises(InsufficientStockError, match="2 units needed, 1 available"):
        counter.reserve(2)
    counter.reserve(1)
    with pytest.raises(InsufficientStockError, match="1 units needed, 0 available"):
        counter.reserve(1)
    with pytest.raises(InsufficientStockError):
        counter.adjust(-1)
    counter.release(held)
    assert counter.level() == (20, 1)
    order_id = counter.order(19)
    assert counter.level() == (20, 20)
    counter.ship(order_id)
    assert counter.level() == (1, 1)


def test_a_slot_that_is_free_is_taken_without_waiting_for_the_others(counter: Counter) -> None:
    counter.receive(STOCK_SLOTS * 5_000)
    counter.spread()
    with psycopg.connect(counter.settings.owner_dsn) as other:
        locked = "select from oltp.stock_slots where variant_id = %s and slot < 15 for update"
        assert other.execute(locked, [counter.variant_id]).rowcount == 15
        held = [counter.reserve(2) for _ in range(6)]
        order_id = counter.order(1)
    assert counter.slots()[15] == (5_000, 13)
    counter.ship(order_id)
    for reservation in held:
        counter.release(reservation)
    assert counter.level() == (STOCK_SLOTS * 5_000 - 1, 0)


def test_a_level_that_is_spread_has_the_limit_of_one_that_is_not(counter: Counter) -> None:
    counter.spread()
    counter.receive(10**9)
    receipt = [StockInput(variant_id=counter.variant_id, quantity=10**9)] * (STOCK_MAX // 10**9 - 1)
    command = ReceiveStock(merchant_id=MERCHANT, location_id="main", lines=receipt)
    execute(counter.pod, command, idempotency_key=key())
    assert counter.level() == (STOCK_MAX, 0)
    with pytest.raises(InputError, match="holds, moves or reserves at most"):
        counter.receive(1)
    assert counter.level() == (STOCK_MAX, 0)


def test_orders_of_one_transaction_share_the_slots(counter: Counter) -> None:
    counter.receive(40)
    counter.spread()
    items = [
        BatchItem(
            command=PlaceOrder(
                merchant_id=MERCHANT,
                order_number=key(),
                customer_id=None,
                location_id="main",
                lines=[OrderLineInput(sku=counter.sku, quantity=3)],
            ),
            idempotency_key=key(),
        )
        for _ in range(14)
    ]
    answers = execute_batch(counter.pod, items)
    assert sum(isinstance(answer, InsufficientStockError) for answer in answers) == 1
    assert counter.level() == (40, 39)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(1, 30)),
        st.tuples(st.just("release"), st.integers(0, 100)),
        st.tuples(st.just("receive"), st.integers(1, 40)),
        st.tuples(st.just("adjust"), st.integers(-40, 40).filter(bool)),
        st.tuples(st.just("spread"), st.integers(0, 1)),
    ),
    max_size=14,
)


@settings(max_examples=15, deadline=None)
@given(steps=STEPS)
def test_whatever_is_done_a_level_is_that_of_one_counter(
    shop: tuple[CommandPod, PodSettings], steps: list[tuple[str, int]]
) -> None:
    counter = a_counter(shop)
    counter.spread()
    on_hand = 0
    held: list[ReservationState] = []
    for step, number in steps:
        free = on_hand - sum(reservation.lines[0].quantity for reservation in held)
        if step == "spread":
            counter.spread(bool(number))
        elif step == "receive":
            counter.receive(number)
            on_hand += number
        elif step == "release" and held:
            counter.release(held.pop(number % len(held)))
        elif step == "reserve" and number <= free:
            held.append(counter.reserve(number))
        elif step == "adjust" and -number <= free:
            counter.adjust(number)
            on_hand += number
        elif step in ("reserve", "adjust"):
            with pytest.raises(InsufficientStockError):
                counter.reserve(number) if step == "reserve" else counter.adjust(number)
    assert counter.level() == (on_hand, sum(reservation.lines[0].quantity for reservation in held))


@pytest.mark.parametrize("turns", [0, 12], ids=["spread", "spread and folded back all the time"])
def test_a_race_for_the_last_units_sells_each_of_them_once(counter: Counter, turns: int) -> None:
    """Nobody is told "sold out" while the units that are left would do, and no unit is sold twice."""
    units = 150
    counter.receive(units)
    counter.spread()

    def buy(seed: int) -> int:
        source, bought = random.Random(seed), 0
        while True:
            quantity = source.choice((1, 1, 1, 2, 13))
            try:
                counter.reserve(quantity)
                bought += quantity
            except InsufficientStockError as error:
                available = int(str(error).rsplit(", ", 1)[1].split()[0])
                assert available < quantity, str(error)
                if quantity == 1:
                    return bought

    def turn() -> None:
        for number in range(turns):
            counter.spread(bool(number % 2))

    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        turning = pool.submit(turn)
        bought = sum(pool.map(buy, range(CLIENTS)))
        turning.result()
    assert bought == units
    assert counter.level() == (units, units)


def test_buyers_and_returns_and_shipments_at_once_are_exact(counter: Counter) -> None:
    counter.receive(60)
    counter.spread()

    def trade(seed: int) -> tuple[int, int]:
        """Return the change of units on hand and of reserved units."""
        source = random.Random(seed)
        on_hand = reserved = 0
        for number in range(8):
            try:
                if number % 4 == 3:
                    counter.receive(quantity := source.randint(1, 5))
                    on_hand += quantity
                elif number % 4 == 2:
                    counter.spread(source.random() < 0.7)
                else:
                    quantity = source.randint(1, 9)
                    ending = source.choice(("keep", "release", "ship"))
                    on_hand -= _sell(counter, quantity, ending)
                    reserved += quantity if ending == "keep" else 0
            except InsufficientStockError:
                pass
        return on_hand, reserved

    with ThreadPoolExecutor(CLIENTS) as pool:
        changes = list(pool.map(trade, range(CLIENTS)))
    on_hand = 60 + sum(change for change, _ in changes)
    assert counter.level() == (on_hand, sum(change for _, change in changes))


def _sell(counter: Counter, quantity: int, ending: str) -> int:
    """Sell units and end it so; return the units that left."""
    if ending == "ship":
        counter.ship(counter.order(quantity))
        return quantity
    reservation = counter.reserve(quantity)
    if ending == "release":
        counter.release(reservation)
    return 0


def test_a_write_off_takes_no_reserved_units(counter: Counter) -> None:
    counter.receive(32)
    counter.spread()
    counter.reserve(30)
    command = AdjustStock(
        merchant_id=MERCHANT,
        location_id="main",
        variant_id=counter.variant_id,
        quantity=-3,
        kind=StockMovementKind.WRITTEN_OFF,
    )
    with pytest.raises(ConflictError):
        execute(counter.pod, command, idempotency_key=key())
    assert counter.level() == (32, 30)
