"""Disputes that a person records: with the provider's notifications, in any order and at once, each is one dispute."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import psycopg
import pytest

from contracts.errors import ConflictError, IdempotencyConflictError, InputError, NotFoundError
from contracts.events.payment import DisputeStatus, PaymentState
from contracts.ids import uuid7
from oltp.commands.record_dispute import RecordDispute, RecordedDispute
from oltp.domain.notifications import NotificationKind, NotificationState
from oltp.notifying import open_notifications, prune_notifications
from tests.integration.notifying_provider import Notifying
from tests.integration.shop import MERCHANT, Shop
from tests.integration.test_provider_notifications import deliver, disputed, try_again

OPENED, WON, LOST = DisputeStatus.OPENED, DisputeStatus.WON, DisputeStatus.LOST
KINDS = {
    OPENED: NotificationKind.DISPUTE_OPENED,
    WON: NotificationKind.DISPUTE_WON,
    LOST: NotificationKind.DISPUTE_LOST,
}


@pytest.fixture
def provider() -> Notifying:
    return Notifying()


@pytest.fixture
def gateway(provider: Notifying) -> Notifying:
    return provider


def by_hand(payment: PaymentState, status: DisputeStatus = OPENED, **changes: Any) -> RecordDispute:
    """What a person says of a dispute: that of `disputed`, over 100 minor units with a fee of 15."""
    opening: dict[str, Any] = {"amount_minor": 100, "fee_minor": 15, "reason": "The customer does not know it."}
    values: dict[str, Any] = {
        "merchant_id": MERCHANT,
        "payment_id": payment.payment_id,
        "provider_reference": "dp_1",
        "status": status,
        "recorded_by": "Ada",
        "recorded_because": "the provider's letter of today",
        **(opening if status is OPENED else {}),
    }
    return RecordDispute(**{**values, **changes})


def test_a_person_and_the_provider_in_any_order_record_one_dispute(shop: Shop, provider: Notifying) -> None:
    """Opening and end, each said by both: whoever comes second changes nothing; an end by hand needs the opening."""
    for end in (WON, LOST):
        for order in sorted(set(itertools.permutations((True, False, True, False)))):
            payment = shop.pay(shop.place(("MUG", 1)))
            left = {True: [OPENED, end], False: [OPENED, end]}
            new = 0
            for is_hand in order:
                status = left[is_hand].pop(0)
                if is_hand:
                    new += shop.do(by_hand(payment, status)).is_new
                else:
                    deliver(shop, disputed(shop, provider, payment, KINDS[status], "dp_1"))
            after = shop.present(PaymentState, payment.payment_id)
            (dispute,) = after.disputes
            lost = 100 if end is LOST else 0
            assert (after.disputed_minor, after.charged_back_minor, after.dispute_fee_minor) == (0, lost, 15)
            assert dispute.status is end and after.version == payment.version + 2
            kept = shop.query(
                "select count(*) from oltp.provider_notifications where provider = 'by hand' "
                "and authorization_reference = %s",
                payment.provider_reference,
            )
            assert kept == [(new,)]
    assert shop.query("select distinct state from oltp.provider_notifications") == [("applied",)]


def test_a_person_and_the_provider_at_once_record_one_dispute(shop: Shop, provider: Notifying) -> None:
    payment = shop.pay(shop.place(("MUG", 1)))
    notifications = [disputed(shop, provider, payment, NotificationKind.DISPUTE_OPENED, "dp_1") for _ in range(3)]
    together = threading.Barrier(6, timeout=60)

    def at_once(work: Callable[[], Any]) -> Any:
        together.wait()
        try:
            return work()
        except ConflictError as error:
            return error

    def hand(key: str) -> Callable[[], Any]:
        return lambda: shop.do(by_hand(payment), key)

    def told(one: Any) -> Callable[[], Any]:
        return lambda: deliver(shop, one)

    with ThreadPoolExecutor(6) as threads:
        done = list(threads.map(at_once, [*(hand(f"hand-{n}") for n in range(3)), *map(told, notifications)]))
    # A notification that met the other's commit waits, and is then found recorded.
    try_again(shop)
    assert all(one.dispute.amount_minor == 100 for one in done if isinstance(one, RecordedDispute))
    assert sum(one.is_new for one in done if isinstance(one, RecordedDispute)) <= 1
    after = shop.present(PaymentState, payment.payment_id)
    assert (len(after.disputes), after.disputed_minor, after.dispute_fee_minor) == (1, 100, 15)
    assert after.version == payment.version + 1
    parked = [one for one in open_notifications(shop.settings.reader_dsn) if one.state is NotificationState.PARKED]
    assert parked == []


def test_the_same_key_answers_as_before_and_another_says_that_it_is_known(shop: Shop) -> None:
    payment = shop.pay(shop.place(("MUG", 1)))
    first = shop.do(by_hand(payment), "mine")
    assert (first.is_new, first.dispute.status, first.currency) == (True, OPENED, "GBP")
    assert shop.do(by_hand(payment), "mine") == first
    with pytest.raises(IdempotencyConflictError):
        shop.do(by_hand(payment, fee_minor=16), "mine")
    again = shop.do(by_hand(payment), "another")
    assert (again.is_new, again.notification_id, again.dispute) == (False, None, first.dispute)
    assert len(shop.present(PaymentState, payment.payment_id).disputes) == 1


def test_what_the_books_contradict_is_refused_and_nothing_of_it_is_kept(shop: Shop, provider: Notifying) -> None:
    payment, other = shop.pay(shop.place(("MUG", 1))), shop.authorize(shop.place(("MUG", 1)))
    for refused, error, said in (
        (by_hand(payment, WON), ConflictError, "has no dispute dp_1 yet"),
        (by_hand(payment, amount_minor=600), ConflictError, "More is disputed than"),
        (by_hand(other), ConflictError, "More is disputed than"),
        (by_hand(payment, amount_minor=0), InputError, "needs the disputed amount"),
        (by_hand(payment, LOST, fee_minor=15), InputError, "when a dispute is opened"),
        (by_hand(payment, recorded_by=" "), InputError, "recorded_by is missing"),
        (by_hand(payment, recorded_because=""), InputError, "recorded_because is missing"),
        (by_hand(payment, payment_id=str(uuid7())), NotFoundError, "has no payment"),
    ):
        with pytest.raises(error, match=said):
            shop.do(refused)
    assert shop.do(by_hand(payment)).is_new and shop.do(by_hand(payment, WON)).is_new
    for refused, said in (
        (by_hand(payment, LOST), "recorded as won"),
        (by_hand(payment, amount_minor=200), "100 minor units of GBP are recorded, and the provider says 200"),
    ):
        with pytest.raises(ConflictError, match=said):
            shop.do(refused)
    # What the provider says to the contrary afterwards goes to a person, as ever.
    contrary = deliver(shop, disputed(shop, provider, payment, NotificationKind.DISPUTE_LOST, "dp_1"))
    assert contrary.state is NotificationState.PARKED
    assert shop.present(PaymentState, payment.payment_id).version == payment.version + 2
    assert shop.present(PaymentState, other.payment_id) == other
    assert shop.query("select kind from oltp.provider_notifications where provider = 'by hand' order by kind") == [
        ("dispute.opened",),
        ("dispute.won",),
    ]


def test_who_said_so_and_why_is_kept_for_ever(shop: Shop, provider: Notifying) -> None:
    payment = shop.pay(shop.place(("MUG", 1)))
    opened = shop.do(by_hand(payment))
    deliver(shop, disputed(shop, provider, payment, NotificationKind.DISPUTE_OPENED, "dp_1"))
    with psycopg.connect(shop.settings.owner_dsn) as owner:
        owner.execute("update oltp.provider_notifications set received_at = received_at - interval '1000 days'")
    assert prune_notifications(shop.settings.relay_dsn) == 1
    (kept,) = open_notifications(shop.settings.reader_dsn, event_id=opened.notification_id)
    assert (kept.provider, kept.state, kept.decided_by) == ("by hand", NotificationState.APPLIED, "Ada")
    assert kept.reason == "the provider's letter of today"
    assert msgspec.json.decode(kept.body)["amount_minor"] == 100
