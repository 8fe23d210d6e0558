"""Gift cards in a pod: spent, given back onto, ended; what commands and database refuse, also at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors

from contracts.errors import ConflictError, InsufficientBalanceError, OverCaptureError, OverRefundError, TieoutError
from contracts.events.gift_card import GiftCardFunding, GiftCardState, GiftCardStatus
from contracts.events.order import OrderState
from contracts.events.payment import PaymentState, PaymentStatus
from contracts.events.refund import RefundStatus
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.execute import build_command_pod
from oltp.commands.expire import GIFT_CARDS, ExpireGiftCards
from oltp.commands.fail_refund import FailRefund
from oltp.commands.issue_gift_card import IssueGiftCard
from oltp.commands.redeem_gift_card import RedeemGiftCard
from oltp.commands.request_refund import RefundLineInput, RequestRefund
from oltp.commands.restate import Restate
from oltp.expiry import expire_due
from oltp.gateway import EmbeddedGateway
from tests.conftest import Cluster, MakePod
from tests.integration.shop import MERCHANT, NOW, Shop, open_shop

YEAR = timedelta(days=365)


class FarGateway(EmbeddedGateway):
    """A provider that is asked outside of transactions, and counts what it was asked."""

    is_local = False

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def _answer(self, step: str, idempotency_key: str, subject: str) -> str:
        self.calls.append(step)
        return super()._answer(step, idempotency_key, subject)


class Watch:
    """A clock that a test sets."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def gateway() -> FarGateway:
    return FarGateway()


@pytest.fixture
def shop(make_pod: MakePod, watch: Watch, gateway: FarGateway) -> Iterator[Shop]:
    settings = make_pod()
    with build_command_pod(settings, clock=watch, gateway=gateway) as pod:
        shop = open_shop(pod, settings)
        yield shop
        shop.assert_identities()
        assert _off(shop) == []


def _off(shop: Shop) -> list[tuple[Any, ...]]:
    """Return the cards whose rows are not what their payments and refunds say."""
    return shop.query(
        """select gift_card_id from oltp.gift_cards as c
           where balance_minor <> issued_minor + credited_minor - redeemed_minor - expired_minor or balance_minor < 0
           or redeemed_minor <> (select coalesce(sum(captured_minor), 0) from oltp.payments as p
                                 where p.gift_card_id = c.gift_card_id)
           or credited_minor <> (select coalesce(sum(amount_minor), 0) from oltp.refunds as r
                                 where r.gift_card_id = c.gift_card_id and status = 'completed')"""
    )


def issue(shop: Shop, amount_minor: int, **options: Any) -> GiftCardState:
    defaults = {"funding": GiftCardFunding.SOLD, "external_reference": "till 1", "source": "test"}
    return shop.do(IssueGiftCard(merchant_id=MERCHANT, amount_minor=amount_minor, **{**defaults, **options}))


def redeem(
    shop: Shop, card: GiftCardState, order: OrderState, amount_minor: int | None = None, key: str | None = None
) -> PaymentState:
    command = RedeemGiftCard(
        merchant_id=MERCHANT,
        order_id=order.order_id,
        gift_card_id=card.gift_card_id,
        amount_minor=amount_minor,
    )
    return shop.do(command, key)


def present(shop: Shop, card: GiftCardState) -> GiftCardState:
    found: GiftCardState = shop.present(GiftCardState, card.gift_card_id)
    ((balance_minor, version),) = shop.query(
        "select balance_minor, version from oltp.gift_cards where gift_card_id = %s", card.gift_card_id
    )
    assert (found.balance_minor, found.version) == (balance_minor, version)
    return found


def test_a_card_pays_a_part_and_the_provider_the_rest(shop: Shop, gateway: FarGateway) -> None:
    order = shop.place(("MUG", 4))  # 19.96 and 3.99 of tax
    card = issue(shop, 1_000)
    paid = redeem(shop, card, order, key="checkout-1")
    assert (paid.status, paid.captured_minor, paid.version) == (PaymentStatus.CAPTURED, 1_000, 2)
    assert gateway.calls == []
    rest = shop.pay(order)
    assert rest.captured_minor == 2_395 - 1_000 and rest.gift_card_id is None
    assert present(shop, card).balance_minor == 0
    # The same key again takes nothing twice.
    assert redeem(shop, card, order, key="checkout-1") == paid
    assert present(shop, card).version == 2
    with pytest.raises(OverCaptureError):
        shop.do(CapturePayment(merchant_id=MERCHANT, payment_id=paid.payment_id))


def test_no_more_is_taken_than_the_card_holds_or_the_order_owes(shop: Shop) -> None:
    order, card = shop.place(("MUG", 1)), issue(shop, 300)
    with pytest.raises(InsufficientBalanceError, match=r"holds 3\.00"):
        redeem(shop, card, order, 301)
    with pytest.raises(ConflictError, match="open to pay"):
        redeem(shop, issue(shop, 10_000), order, 10_000)
    shop.pay(order)
    with pytest.raises(ConflictError, match="nothing open to pay"):
        redeem(shop, card, order)
    assert present(shop, card).balance_minor == 300


def test_of_two_redemptions_at_once_one_wins(shop: Shop) -> None:
    card = issue(shop, 599)
    orders = [shop.place(("MUG", 1)), shop.place(("MUG", 1))]  # 5.99 each
    barrier = threading.Barrier(2)
    outcomes: list[Any] = [None, None]

    def run(number: int) -> None:
        barrier.wait()
        try:
            outcomes[number] = redeem(shop, card, orders[number], 599, key=f"at-once-{number}")
        except TieoutError as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["InsufficientBalanceError", "PaymentState"]
    assert present(shop, card).balance_minor == 0


def test_what_a_card_paid_goes_back_onto_it(shop: Shop, gateway: FarGateway) -> None:
    order, card = shop.place(("MUG", 2)), issue(shop, 2_000)
    payment = redeem(shop, card, order)
    refund = shop.refund(payment, (order.lines[0], 1))
    assert (refund.status, refund.gift_card_id) == (RefundStatus.COMPLETED, card.gift_card_id)
    assert gateway.calls == [] and shop.query("select * from oltp.provider_calls") == []
    after = present(shop, card)
    assert (after.redeemed_minor, after.credited_minor, after.balance_minor) == (1_198, 599, 2_000 - 599)
    with pytest.raises(OverRefundError):
        shop.request_refund(payment, (order.lines[0], 2))
    # Completed once, under whatever key.
    with pytest.raises(ConflictError):
        shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id))


def test_a_refund_is_paid_onto_a_card_that_is_named(shop: Shop, gateway: FarGateway) -> None:
    order = shop.place(("MUG", 1))
    payment = shop.pay(order)
    asked = len(gateway.calls)
    card = issue(shop, 100, funding=GiftCardFunding.GRANTED, external_reference=None)
    line = RefundLineInput(order_line_id=order.lines[0].order_line_id, quantity=1)
    command = RequestRefund(
        merchant_id=MERCHANT,
        payment_id=payment.payment_id,
        lines=[line],
        reason="wants a card",
        gift_card_id=card.gift_card_id,
    )
    refund = shop.do(command)
    assert present(shop, card).balance_minor == 100, "a request moves nothing"
    shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id))
    assert present(shop, card).balance_minor == 100 + 599
    assert len(gateway.calls) == asked, "the provider keeps the money: it is owed on the card now"
    assert shop.present(PaymentState, payment.payment_id).refunded_minor == 599


def test_cards_end_and_take_nothing_back_then(shop: Shop, watch: Watch) -> None:
    order = shop.place(("MUG", 1))
    ending = issue(shop, 2_000, expires_at=NOW + YEAR)
    staying = issue(shop, 2_000)
    payment = redeem(shop, ending, order)
    refund = shop.request_refund(payment, (order.lines[0], 1))
    assert expire_due(shop.pod, kinds=[GIFT_CARDS]) == 0
    watch.now = NOW + YEAR
    with pytest.raises(ConflictError, match="has expired"):
        redeem(shop, ending, shop.place(("MUG", 1)))
    assert expire_due(shop.pod, kinds=[GIFT_CARDS], merchant_ids=["another"]) == 0
    assert (expire_due(shop.pod, limit=1), expire_due(shop.pod)) == (1, 0)
    ended = present(shop, ending)
    assert (ended.status, ended.expired_minor, ended.balance_minor) == (GiftCardStatus.EXPIRED, 2_000 - 599, 0)
    with pytest.raises(ConflictError, match="has expired"):
        shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id))
    shop.do(FailRefund(merchant_id=MERCHANT, refund_id=refund.refund_id, failure_reason="the card has expired"))
    with pytest.raises(ConflictError, match="has expired"):
        shop.request_refund(payment, (order.lines[0], 1))
    # The customer gets it on another card.
    again = shop.do(
        RequestRefund(
            merchant_id=MERCHANT,
            payment_id=payment.payment_id,
            lines=[RefundLineInput(order_line_id=order.lines[0].order_line_id, quantity=1)],
            reason="returned",
            gift_card_id=staying.gift_card_id,
        )
    )
    shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=again.refund_id))
    assert present(shop, staying).balance_minor == 2_000 + 599
    assert shop.do(ExpireGiftCards(merchant_id=MERCHANT)) == []


REFUSED = {
    "balance_minor = -1, redeemed_minor = issued_minor + 1": "gift_cards_balance_minor_not_negative",
    "balance_minor = balance_minor + 1": "gift_cards_balance_is_its_parts",
    "issued_minor = issued_minor + 1, balance_minor = balance_minor + 1, version = version + 1": "change_has_event",
    "redeemed_minor = 1, balance_minor = balance_minor - 1": "gift_card_is_its_payments",
    "credited_minor = 1, balance_minor = balance_minor + 1": "gift_card_is_its_payments",
    "status = 'expired', expired_at = now()": "gift_cards_expired_has_nothing",
    "funding = 'found'": "gift_cards_funding_known",
    "issued_minor = 200000000000000, balance_minor = 200000000000000": "gift_cards_currency_amount_limit",
}


@pytest.mark.parametrize("change", REFUSED)
def test_the_database_refuses_what_no_card_may_be(shop: Shop, change: str) -> None:
    issue(shop, 1_000)
    with psycopg.connect(shop.settings.owner_dsn) as connection, pytest.raises(errors.IntegrityError) as refused:
        connection.execute(f"update oltp.gift_cards set {change}".encode())
        connection.commit()
    assert refused.value.diag.constraint_name == REFUSED[change]


def test_a_payment_by_card_takes_from_the_card(shop: Shop) -> None:
    """Whoever lets a payment of the provider be one by card, without an event or with one, is refused."""
    shop.pay(shop.place(("MUG", 1)))
    card = issue(shop, 1_000)
    with psycopg.connect(shop.settings.owner_dsn) as connection, pytest.raises(errors.CheckViolation) as refused:
        connection.execute("select oltp.declare_bypass('test')")
        connection.execute("update oltp.payments set gift_card_id = %s", [card.gift_card_id])
        connection.commit()
    assert refused.value.diag.constraint_name == "gift_card_is_its_payments"


def test_a_card_that_was_changed_past_the_outbox_is_stated_again(shop: Shop, postgres: Cluster) -> None:
    card = issue(shop, 1_000)
    database = psycopg.conninfo.conninfo_to_dict(shop.settings.owner_dsn)["dbname"]
    with psycopg.connect(postgres.superuser_dsn(str(database))) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update oltp.gift_cards set issued_minor = 1200, balance_minor = 1200")
    command = Restate(
        merchant_id=MERCHANT, aggregate_type="gift_card", aggregate_id=card.gift_card_id, cause="found by a person"
    )
    stated = shop.do(command)
    assert (stated.version, stated.changed) == (2, ["issued_minor", "balance_minor"])
    assert present(shop, card).balance_minor == 1_200
