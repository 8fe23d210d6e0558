"""Stock and reservations through their commands: counters, movements, limits, and a race for the last units."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from contracts.errors import IllegalTransitionError, InputError, InsufficientStockError, NotFoundError
from contracts.events.stock import ReservationState, ReservationStatus, StockMovementKind
from contracts.settings import PodSettings
from oltp.commands.adjust_stock import AdjustStock
from oltp.commands.execute import CommandPod, execute
from oltp.commands.expire import RESERVATIONS, ExpireReservations
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.release_reservation import ReleaseReservation
from oltp.commands.reserve_stock import ReserveStock
from oltp.expiry import expire_due
from tests.integration.oltp_pod import LATER, MERCHANT, NOW, key, receive, stocked_variants


def reserve(pod: CommandPod, quantity: int, *variant_ids: str) -> ReservationState:
    lines = [StockInput(variant_id=variant_id, quantity=quantity) for variant_id in variant_ids]
    command = ReserveStock(merchant_id=MERCHANT, location_id="main", lines=lines, expires_at=LATER)
    return execute(pod, command, idempotency_key=key())


def levels(settings: PodSettings) -> list[tuple[int, int]]:
    """Return (on_hand, reserved) by SKU, and require that both are what movements and reservations say."""
    with psycopg.connect(settings.reader_dsn) as connection:
        assert connection.execute("select * from oltp.stock_identity_violations").fetchall() == []
        return connection.execute(
            "select on_hand, reserved from oltp.stock_levels inner join oltp.variants using (variant_id) order by sku"
        ).fetchall()


def test_units_come_and_go(pod: CommandPod, settings_of_pod: PodSettings) -> None:
    first, second = stocked_variants(pod, "a", "b")
    receive(pod, 5, first, first)
    adjust = AdjustStock(
        merchant_id=MERCHANT, location_id="main", variant_id=second, quantity=-3, kind=StockMovementKind.WRITTEN_OFF
    )
    movement = execute(pod, adjust, idempotency_key=key())
    assert (movement.quantity, movement.version, movement.moved_at) == (-3, 1, NOW)
    assert levels(settings_of_pod) == [(20, 0), (7, 0)]


def test_reserved_units_are_given_back_by_release_and_by_expiry(pod: CommandPod, settings_of_pod: PodSettings) -> None:
    variants = stocked_variants(pod, "a", "b")
    released, expired, kept = (reserve(pod, quantity, *variants) for quantity in (1, 2, 3))
    assert levels(settings_of_pod) == [(10, 6), (10, 6)]

    release = ReleaseReservation(merchant_id=MERCHANT, reservation_id=released.reservation_id)
    assert execute(pod, release, idempotency_key=key()).status is ReservationStatus.RELEASED
    with pytest.raises(IllegalTransitionError):
        execute(pod, release, idempotency_key=key())

    later = replace(pod, clock=lambda: LATER)
    command = ExpireReservations(merchant_id=MERCHANT, limit=1)
    (first,) = execute(later, command, idempotency_key=key())
    assert (first.reservation_id, first.status) == (expired.reservation_id, ReservationStatus.EXPIRED)
    assert levels(settings_of_pod) == [(10, 3), (10, 3)]
    (second,) = execute(later, command, idempotency_key=key())
    assert second.reservation_id == kept.reservation_id
    assert execute(later, command, idempotency_key=key()) == []
    assert levels(settings_of_pod) == [(10, 0), (10, 0)]


def keys(settings: PodSettings) -> int:
    with psycopg.connect(settings.owner_dsn) as connection:
        return int(connection.execute("select count(*) from oltp.idempotency_keys").fetchall()[0][0])


def test_all_that_is_due_expires_at_once(pod: CommandPod, settings_of_pod: PodSettings) -> None:
    (variant,) = stocked_variants(pod, "a")
    for _ in range(5):
        reserve(pod, 1, variant)
    before = keys(settings_of_pod)
    assert (expire_due(pod, kinds=[RESERVATIONS], limit=2), keys(settings_of_pod)) == (0, before)
    later = replace(pod, clock=lambda: LATER)
    assert expire_due(later, kinds=[RESERVATIONS], merchant_ids=["another"]) == 0
    assert (expire_due(later, kinds=[RESERVATIONS], limit=2), keys(settings_of_pod)) == (5, before + 3)
    assert (expire_due(later, kinds=[RESERVATIONS]), keys(settings_of_pod)) == (0, before + 3), (
        "nothing is due: no key is left"
    )
    assert levels(settings_of_pod) == [(10, 0)]


def test_nothing_is_held_when_one_variant_is_short(pod: CommandPod, settings_of_pod: PodSettings) -> None:
    first, second = stocked_variants(pod, "a", "b")
    reserve(pod, 4, second)
    with pytest.raises(InsufficientStockError, match=r"Variant b at main: 7 units needed, 6 available\."):
        reserve(pod, 7, first, second)
    assert levels(settings_of_pod) == [(10, 0), (10, 4)]


def test_reserved_units_cannot_be_written_off(pod: CommandPod) -> None:
    (variant,) = stocked_variants(pod, "a")
    reserve(pod, 8, variant)
    command = AdjustStock(merchant_id=MERCHANT, location_id="main", variant_id=variant, quantity=-3)
    with pytest.raises(InsufficientStockError, match="3 units needed, 2 available"):
        execute(pod, command, idempotency_key=key())


def test_a_location_without_stock_has_none(pod: CommandPod) -> None:
    (variant,) = stocked_variants(pod, "a")
    command = ReserveStock(
        merchant_id=MERCHANT,
        location_id="elsewhere",
        lines=[StockInput(variant_id=variant, quantity=1)],
        expires_at=LATER,
    )
    with pytest.raises(InsufficientStockError, match="0 available"):
        execute(pod, command, idempotency_key=key())


def test_what_cannot_be_stored_is_the_callers_to_mend(pod: CommandPod) -> None:
    (variant,) = stocked_variants(pod, "a")
    lines = [StockInput(variant_id=variant, quantity=1)]
    nul = ReceiveStock(merchant_id=MERCHANT, location_id="main", lines=lines, reason="a\x00b")
    with pytest.raises(InputError, match="reason holds the character U\\+0000"):
        execute(pod, nul, idempotency_key=key())
    naive = ReserveStock(merchant_id=MERCHANT, location_id="main", lines=lines, expires_at=LATER.replace(tzinfo=None))
    with pytest.raises(InputError, match="offset from UTC"):
        execute(pod, naive, idempotency_key=key())


@pytest.mark.parametrize(
    ("variant_id", "error"),
    [("00000000-0000-7000-8000-000000000000", NotFoundError), ("not a uuid", InputError)],
)
def test_variants_must_be_the_merchants_own(pod: CommandPod, variant_id: str, error: type[Exception]) -> None:
    stocked_variants(pod, "a")
    command = ReceiveStock(
        merchant_id=MERCHANT, location_id="main", lines=[StockInput(variant_id=variant_id, quantity=1)]
    )
    with pytest.raises(error):
        execute(pod, command, idempotency_key=key())


def test_racing_buyers_never_get_more_than_there_is(
    pod: CommandPod, settings_of_pod: PodSettings, rng: random.Random
) -> None:
    """Eight threads ask for one or two of three variants, in any order: no deadlock, no unit twice, none left over."""
    variants = stocked_variants(pod, "a", "b", "c", quantity=20)
    wanted = [rng.sample(variants, rng.choice((1, 2))) for _ in range(80)]

    def attempt(chosen: list[str]) -> int:
        try:
            return len(reserve(pod, 1, *chosen).lines)
        except InsufficientStockError:
            return 0

    with ThreadPoolExecutor(8) as threads:
        held = sum(threads.map(attempt, wanted))
    counters = levels(settings_of_pod)
    assert held == sum(reserved for _, reserved in counters)
    assert all(reserved <= on_hand == 20 for on_hand, reserved in counters)
    assert max(reserved for _, reserved in counters) == 20
