"""The provider's answer to our call and its notification: in every order one order, one payment, and books that tie."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psycopg
import pytest

from contracts.errors import ConflictError, OverRefundError, TieoutError
from contracts.events.order import OrderState
from contracts.events.payment import PaymentMethod, PaymentState, PaymentStatus
from contracts.events.refund import RefundState, RefundStatus
from contracts.ids import uuid7
from oltp.commands.apply_notification import ASKING
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.await_payment import AwaitPayment
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.execute import Command, build_command_pod, execute
from oltp.commands.fail_refund import FailRefund
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.register import COMMANDS
from oltp.commands.void_payment import VoidPayment
from oltp.domain.notifications import Notification, NotificationKind, NotificationState, Settlement
from oltp.notifying import (
    Tried,
    apply_notification,
    apply_waiting,
    decide,
    notification_counts,
    open_notifications,
    prune_notifications,
    store_notification,
)
from oltp.settling import settle_provider_calls
from tests.integration.notifying_provider import Notifying
from tests.integration.shop import LOCATION, MERCHANT, NOW, Shop
from tests.integration.test_provider_calls import AT_ONCE, die_in

PROVIDER = "embedded"
PENDING, APPLIED, PARKED = NotificationState.PENDING, NotificationState.APPLIED, NotificationState.PARKED


@pytest.fixture
def provider() -> Notifying:
    return Notifying()


@pytest.fixture
def gateway(provider: Notifying) -> Notifying:
    return provider


def store(shop: Shop, one: Notification) -> None:
    with shop.pod.connections.connection() as connection:
        store_notification(connection, PROVIDER, one, msgspec.json.encode(one).decode())


def deliver(shop: Shop, one: Notification) -> Settlement:
    """Hand over a notification as the interface does."""
    store(shop, one)
    return apply_notification(shop.pod, PROVIDER, one.id, one.merchant_id)


def try_again(shop: Shop) -> Tried:
    return apply_waiting(shop.pod, retry_after=AT_ONCE)


def become_old(shop: Shop) -> None:
    """Make all notifications two hours older."""
    with psycopg.connect(shop.settings.owner_dsn) as owner:
        owner.execute("update oltp.provider_notifications set received_at = received_at - interval '2 hours'")


def killed() -> None:
    raise KeyboardInterrupt


@dataclass(kw_only=True)
class Run:
    """One command and what can happen around it, a method per step."""

    shop: Shop
    provider: Notifying
    command: Command[Any]
    key: str = field(default_factory=lambda: str(uuid7()))
    answers: list[Any] = field(default_factory=list)

    def client(self) -> None:
        """The client sends the command, or sends it again."""
        try:
            self.answers.append(execute(self.shop.pod, self.command, idempotency_key=self.key))
        except TieoutError as error:
            self.answers.append(type(error))

    def crash(self) -> None:
        """The same, and the process dies when the provider has acted."""
        self.provider.before_answer = killed
        try:
            self.client()
        except KeyboardInterrupt:
            pass
        finally:
            self.provider.before_answer = lambda: None

    def inside(self) -> None:
        """The same, and the notification is there before the provider's answer."""
        self.provider.before_answer = self.notify
        try:
            self.client()
        finally:
            self.provider.before_answer = lambda: None

    def notify(self) -> None:
        """The provider delivers everything that it has written; what it has delivered before comes twice."""
        for one in self.provider.written:
            deliver(self.shop, one)

    def newest_first(self) -> None:
        """The same, backwards."""
        for one in reversed(self.provider.written):
            deliver(self.shop, one)

    def worker(self) -> None:
        """The worker settles the calls that are left, and tries what waits."""
        settle_provider_calls(self.shop.pod, left_after=AT_ONCE)
        try_again(self.shop)


STEPS: Sequence[str] = ("client", "crash", "inside", "notify", "newest_first", "worker")
Begin = Callable[[Shop], Command[Any]]


def authorizing(shop: Shop) -> Command[Any]:
    return AuthorizePayment(merchant_id=MERCHANT, order_id=shop.place(("MUG", 1)).order_id)


def declined(shop: Shop) -> Command[Any]:
    order = shop.place(("MUG", 1))
    return AuthorizePayment(merchant_id=MERCHANT, order_id=order.order_id, payment_token="tok_declined")


def capturing(shop: Shop) -> Command[Any]:
    payment = shop.authorize(shop.place(("MUG", 1)))
    return CapturePayment(merchant_id=MERCHANT, payment_id=payment.payment_id)


def voiding(shop: Shop) -> Command[Any]:
    return VoidPayment(merchant_id=MERCHANT, payment_id=shop.authorize(shop.place(("PIN", 2))).payment_id)


def refunding(shop: Shop) -> Command[Any]:
    order = shop.place(("MUG", 2))
    refund = shop.request_refund(shop.pay(order), (order.lines[0], 1))
    return CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id)


def transferring(shop: Shop) -> Command[Any]:
    method = PaymentMethod.BANK_TRANSFER
    return AwaitPayment(merchant_id=MERCHANT, order_id=shop.place(("MUG", 1)).order_id, method=method)


def collecting(shop: Shop) -> Command[Any]:
    method = PaymentMethod.DIRECT_DEBIT
    return AwaitPayment(merchant_id=MERCHANT, order_id=shop.place(("MUG", 1)).order_id, method=method)


def uncollected(shop: Shop) -> Command[Any]:
    return msgspec.structs.replace(collecting(shop), payment_token="tok_declined")


BEGINNINGS: Sequence[Begin] = (
    *(authorizing, declined, capturing, voiding, refunding),
    *(transferring, collecting, uncollected),
)


def assert_one_outcome(shop: Shop, provider: Notifying, begin: Begin, steps: Sequence[str]) -> None:
    """Do the steps, then what always comes in the end (all is delivered, the worker runs): one outcome, told to all."""
    run = Run(shop=shop, provider=provider, command=begin(shop))
    moved = len(provider.answers)
    for step in (*steps, "notify", "worker", "newest_first", "worker"):
        getattr(run, step)()
    assert len(provider.answers) - moved <= 1, f"{steps}: the provider moved money once"
    assert all(answer == run.answers[0] for answer in run.answers), f"{steps}: every answer is the same"
    assert_agreed(shop, provider)


def assert_agreed(shop: Shop, provider: Notifying) -> None:
    """Books and provider say the same of every payment, nothing is under way, and no notification is left."""
    payments = [state for (kind, _), state in shop.fold().items() if kind == "payment"]
    live: dict[str, int] = {}
    for payment in payments:
        reference, is_live = (
            payment.provider_reference,
            payment.status
            in (
                PaymentStatus.AUTHORIZED,
                PaymentStatus.PENDING,
                PaymentStatus.CAPTURED,
            ),
        )
        assert provider.taken.get(reference, 0) == payment.captured_minor - payment.refunded_minor
        held = payment.authorized_minor - payment.captured_minor - payment.released_minor if is_live else 0
        assert provider.set_aside.get(reference, 0) == held
        live[payment.order_id] = live.get(payment.order_id, 0) + is_live
    assert max(live.values(), default=0) <= 1, "an order has one payment"
    known = {payment.provider_reference for payment in payments}
    assert {reference for reference, amount in provider.set_aside.items() if amount} <= known
    assert shop.query("select kind from oltp.provider_calls") == []
    assert shop.query("select kind, state, reason from oltp.provider_notifications where state <> 'applied'") == []


def test_every_command_that_asks_the_provider_can_be_answered_by_a_notification() -> None:
    assert set(ASKING.values()) == {command for command in COMMANDS if command.ASKS_PROVIDER}


@pytest.mark.parametrize("begin", BEGINNINGS, ids=lambda begin: begin.__name__)
def test_every_order_of_two_steps_has_one_outcome(shop: Shop, provider: Notifying, begin: Begin) -> None:
    for steps in itertools.permutations(STEPS, 2):
        assert_one_outcome(shop, provider, begin, steps)
        provider.written.clear()


@pytest.mark.long
@pytest.mark.parametrize("begin", BEGINNINGS, ids=lambda begin: begin.__name__)
def test_every_order_of_four_steps_has_one_outcome(shop: Shop, provider: Notifying, begin: Begin) -> None:
    many = [StockInput(variant_id=shop.variants[sku], quantity=1_000) for sku in ("MUG", "PIN")]
    shop.do(ReceiveStock(merchant_id=MERCHANT, location_id=LOCATION, lines=many))
    for steps in itertools.permutations(STEPS, 4):
        assert_one_outcome(shop, provider, begin, steps)
        provider.written.clear()


def test_the_same_notification_from_many_threads_beside_the_answer(shop: Shop, provider: Notifying) -> None:
    """The answer and six copies of its notification are recorded at the same moment, for each kind of call."""
    together = threading.Barrier(7, timeout=60)
    sent: list[Future[Settlement]] = []

    def copy(one: Notification) -> Settlement:
        together.wait()
        return deliver(shop, one)

    def copies() -> None:
        sent.extend(threads.submit(copy, provider.written[-1]) for _ in range(6))
        together.wait()

    with ThreadPoolExecutor(6) as threads:
        for begin in (authorizing, capturing, voiding, refunding):
            run = Run(shop=shop, provider=provider, command=begin(shop))
            provider.before_answer = copies
            run.client()
            provider.before_answer = lambda: None
            assert {one.result().state for one in sent} == {APPLIED}
            run.notify()
            run.client()
            assert run.answers[0] == run.answers[1]
    assert_agreed(shop, provider)


def test_a_notification_before_the_command_has_committed_waits_for_it(shop: Shop) -> None:
    """A provider within this process is asked in the command's transaction, so its notification may come first."""
    with build_command_pod(shop.settings, clock=lambda: NOW) as local:
        order = shop.place(("MUG", 1))
        command = AuthorizePayment(merchant_id=MERCHANT, order_id=order.order_id)
        expected = local.gateway.authorize(
            idempotency_key=f"{MERCHANT}/early", amount_minor=1, currency="GBP", payment_token="tok_card"
        )
        early = Notification(
            id="evt_early",
            type=NotificationKind.AUTHORIZATION_SUCCEEDED,
            merchant_id=MERCHANT,
            created_at=NOW,
            idempotency_key=f"{MERCHANT}/early",
            authorization_reference=expected.reference,
            amount_minor=order.total_minor,
            currency="GBP",
        )
        assert deliver(shop, early).state is PENDING
        assert execute(local, command, idempotency_key="early").status is PaymentStatus.AUTHORIZED
        assert try_again(shop) == Tried(ended=1, failures={})
        assert deliver(shop, early).state is APPLIED
    assert len([1 for kind, _ in shop.fold() if kind == "payment"]) == 1


def test_an_authorization_that_no_order_claims_goes_to_a_person(shop: Shop, provider: Notifying) -> None:
    reference = provider.authorize(
        idempotency_key=f"{MERCHANT}/lost", amount_minor=700, currency="GBP", payment_token="tok_card"
    ).reference
    (one,) = provider.written
    assert deliver(shop, one).state is PENDING
    become_old(shop)
    pending, oldest_seconds, parked = notification_counts(shop.settings.reader_dsn)
    assert (pending, parked) == (1, 0) and oldest_seconds >= 7_200
    assert try_again(shop) == Tried(ended=1, failures={})
    (found,) = open_notifications(shop.settings.reader_dsn)
    assert found.state is PARKED and found.reason == "No order claims this authorization."
    assert notification_counts(shop.settings.reader_dsn)[::2] == (0, 1)
    # A person lets it go at the provider, and the provider says so: then both are settled.
    voided = provider.expire(reference)
    assert deliver(shop, voided).state is APPLIED
    assert_agreed(shop, provider)


def test_a_person_decides_about_a_parked_one(shop: Shop, provider: Notifying) -> None:
    one = provider.write(NotificationKind.REFUND_SUCCEEDED, None, reference="r", amount_minor=5, currency="GBP")
    deliver(shop, one)
    become_old(shop)
    try_again(shop)
    (found,) = open_notifications(shop.settings.reader_dsn)
    assert found.state is PARKED and "nobody here asked for" in found.reason
    decide(shop.pod, found, is_dismissed=False, reason="looked again", decided_by="Ada")
    assert try_again(shop).ended == 1
    decide(shop.pod, found, is_dismissed=True, reason="booked as an adjustment", decided_by="Ada")
    with pytest.raises(ConflictError, match="not parked"):
        decide(shop.pod, found, is_dismissed=True, reason="again", decided_by="Ada")
    assert open_notifications(shop.settings.reader_dsn) == []
    (kept,) = open_notifications(shop.settings.reader_dsn, event_id=one.id)
    assert (kept.state, kept.reason, kept.decided_by) == ("dismissed", "booked as an adjustment", "Ada")
    assert deliver(shop, one).state is NotificationState.DISMISSED


def test_what_the_provider_does_by_itself_is_recorded(shop: Shop, provider: Notifying) -> None:
    """An authorization expires, the rest of a captured one is let go, and a refund is paid that we had asked for."""
    expired, partly = shop.authorize(shop.place(("MUG", 1))), shop.authorize(shop.place(("PIN", 3)))
    shop.capture(partly, 10)
    provider.expire(expired.provider_reference)
    provider.expire(partly.provider_reference)
    order = shop.place(("MUG", 2))
    refund = shop.request_refund(shop.pay(order), (order.lines[0], 1))
    provider.refund(
        idempotency_key=f"{MERCHANT}/refund/{refund.refund_id}",
        authorization_reference=shop.present(PaymentState, refund.payment_id).provider_reference,
        amount_minor=refund.amount_minor,
        currency="GBP",
    )
    for one in (*provider.written, *provider.written):
        assert deliver(shop, one).state is APPLIED
    assert shop.present(PaymentState, expired.payment_id).status is PaymentStatus.VOIDED
    assert shop.present(PaymentState, partly.payment_id).released_minor == partly.authorized_minor - 10
    assert shop.present(RefundState, refund.refund_id).status is RefundStatus.COMPLETED
    assert shop.pay(shop.present(OrderState, expired.order_id)).captured_minor == expired.authorized_minor
    for one in provider.written:
        deliver(shop, one)
    assert_agreed(shop, provider)


def test_an_expiry_waits_for_the_capture_that_is_under_way(shop: Shop, provider: Notifying) -> None:
    payment = shop.authorize(shop.place(("MUG", 1)))
    found: list[Settlement] = []

    def expires() -> None:
        provider.before_answer = lambda: None
        found.append(deliver(shop, provider.expire(payment.provider_reference)))

    provider.before_answer = expires
    assert shop.capture(payment).captured_minor == payment.authorized_minor
    assert [one.state for one in found] == [PENDING]
    for one in provider.written:
        deliver(shop, one)
    try_again(shop)
    assert_agreed(shop, provider)


def test_a_failed_refund_is_recorded_as_failed(shop: Shop, provider: Notifying) -> None:
    order = shop.place(("MUG", 2))
    refund = shop.request_refund(shop.pay(order), (order.lines[0], 1))
    key = f"{MERCHANT}/refund/{refund.refund_id}"
    one = provider.write(NotificationKind.REFUND_FAILED, key, reason="The account is closed.")
    assert deliver(shop, one).state is APPLIED
    failed = shop.present(RefundState, refund.refund_id)
    assert (failed.status, failed.failure_reason) == (RefundStatus.FAILED, "The account is closed.")
    assert shop.refund(shop.present(PaymentState, refund.payment_id), (order.lines[0], 2)).amount_minor > 0


def test_another_refunded_amount_than_was_asked_for_is_never_recorded(shop: Shop, provider: Notifying) -> None:
    """The same while the call is under way as after it: parked with both said, and the answer of the call counts."""
    order = shop.place(("MUG", 2))
    refund = shop.request_refund(shop.pay(order), (order.lines[0], 2))
    command = CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id)
    die_in(shop, provider, command, "refund")
    before = shop.fold()
    other = msgspec.structs.replace(provider.written[-1], id="evt_other", amount_minor=100)
    settlement = deliver(shop, other)
    assert settlement.state is PARKED and "gave 1.00 back, not 11.98" in settlement.reason, settlement
    assert shop.fold() == before
    assert deliver(shop, provider.written[-1]).state is APPLIED
    assert shop.do(command, "refund").status is RefundStatus.COMPLETED
    settlement = deliver(shop, msgspec.structs.replace(other, id="evt_later"))
    assert settlement.state is PARKED and "1,198 minor units of GBP are recorded" in settlement.reason


def test_money_that_went_back_is_recorded_whatever_was_disputed_since(shop: Shop, provider: Notifying) -> None:
    """The provider has paid under our key, and no call is left of it, as after a restore of the pod."""
    order = shop.place(("MUG", 1))
    payment = shop.pay(order)
    refund = shop.request_refund(payment, (order.lines[0], 1))
    deliver(shop, disputed(shop, provider, payment, NotificationKind.DISPUTE_OPENED, "dp_1"))
    provider.refund(
        idempotency_key=f"{MERCHANT}/refund/{refund.refund_id}",
        authorization_reference=payment.provider_reference,
        amount_minor=599,
        currency="GBP",
    )
    assert deliver(shop, provider.written[-1]).state is APPLIED
    assert shop.present(PaymentState, payment.payment_id).refunded_minor == 599


def test_what_contradicts_the_books_changes_nothing(shop: Shop, provider: Notifying) -> None:
    """Another amount, another currency, another merchant's key, an unknown type: parked, and the reason says both."""
    order = shop.place(("MUG", 2))
    payment = shop.pay(order)
    refund = shop.request_refund(payment, (order.lines[0], 1))
    shop.do(FailRefund(merchant_id=MERCHANT, refund_id=refund.refund_id, failure_reason="by hand"))
    before = shop.fold()
    (capture,) = payment.captures
    about: dict[str, Any] = {"authorization_reference": payment.provider_reference, "currency": "GBP"}
    money = {"amount_minor": 1, **about}
    for kind, key, says, reason in (
        (NotificationKind.AUTHORIZATION_SUCCEEDED, None, money, "1,198 minor units of GBP are recorded"),
        (
            NotificationKind.CAPTURE_SUCCEEDED,
            None,
            {**money, "reference": capture.provider_reference},
            "says 1 minor unit of",
        ),
        (
            NotificationKind.CAPTURE_FAILED,
            None,
            {**about, "reference": capture.provider_reference},
            "says that it fail",
        ),
        (
            NotificationKind.REFUND_SUCCEEDED,
            f"{MERCHANT}/refund/{refund.refund_id}",
            {**money, "amount_minor": refund.amount_minor, "reference": "r"},
            "recorded as failed",
        ),
        (NotificationKind.AUTHORIZATION_VOIDED, "rival/key", about, "not one of its merchant"),
        (NotificationKind.AUTHORIZATION_SUCCEEDED, None, about, "names no amount"),
        ("payout.paid", None, {}, "not known here"),
    ):
        settlement = deliver(shop, provider.write(kind, key, **says))  # type: ignore[arg-type]
        assert settlement.state is PARKED and reason in settlement.reason, settlement
    assert shop.fold() == before


def test_a_notification_that_cannot_be_applied_stops_only_itself(shop: Shop, provider: Notifying) -> None:
    """Its merchant does not live here: it waits, is parked with the reason, and the next one is applied."""
    payment = shop.authorize(shop.place(("MUG", 1)))
    lost = msgspec.structs.replace(provider.written[-1], id="evt_lost", merchant_id="nobody", idempotency_key=None)
    for one in (lost, provider.written[-1]):
        store(shop, one)
    tried = try_again(shop)
    assert tried.ended == 1 and "does not live in" in tried.failures[f"{PROVIDER}/evt_lost"]
    become_old(shop)
    try_again(shop)
    (found,) = open_notifications(shop.settings.reader_dsn)
    assert found.state is PARKED and "does not live in" in found.reason
    assert shop.present(PaymentState, payment.payment_id) == payment


def test_only_what_has_ended_and_is_old_is_removed(shop: Shop, provider: Notifying) -> None:
    shop.authorize(shop.place(("MUG", 1)))
    deliver(shop, provider.written[0])
    deliver(shop, provider.write(NotificationKind.CAPTURE_SUCCEEDED, None, authorization_reference="?", reference="?"))
    with psycopg.connect(shop.settings.owner_dsn) as owner:
        owner.execute("update oltp.provider_notifications set received_at = received_at - interval '91 days'")
    shop.authorize(shop.place(("MUG", 1)))
    deliver(shop, provider.written[-1])
    assert prune_notifications(shop.settings.relay_dsn) == 1
    assert shop.query("select state from oltp.provider_notifications order by state") == [("applied",), ("parked",)]


def disputed(shop: Shop, provider: Notifying, payment: PaymentState, kind: NotificationKind, name: str) -> Notification:
    """What the provider writes of a dispute over 100 minor units with a fee of 15."""
    return provider.write(
        kind,
        None,
        authorization_reference=payment.provider_reference,
        reference=name,
        amount_minor=100,
        fee_minor=15,
        currency=payment.currency,
        reason="The customer does not know it.",
    )


def test_disputes_in_any_order_are_recorded_once(shop: Shop, provider: Notifying) -> None:
    """The end may come before the opening, and each may come twice: one dispute, one amount, one fee."""
    for ends_with in (NotificationKind.DISPUTE_WON, NotificationKind.DISPUTE_LOST):
        for places in sorted(set(itertools.permutations((0, 1, 0, 1)))):
            payment = shop.pay(shop.place(("MUG", 1)))
            said = [
                disputed(shop, provider, payment, kind, "dp_1") for kind in (NotificationKind.DISPUTE_OPENED, ends_with)
            ]
            for place in places:
                deliver(shop, said[place])
            try_again(shop)
            after = shop.present(PaymentState, payment.payment_id)
            (dispute,) = after.disputes
            lost = 100 if ends_with is NotificationKind.DISPUTE_LOST else 0
            assert (after.disputed_minor, after.charged_back_minor, after.dispute_fee_minor) == (0, lost, 15)
            assert (dispute.status == "lost") is bool(lost) and after.version == payment.version + 2
    assert shop.query("select distinct state from oltp.provider_notifications") == [("applied",)]


def test_an_end_that_says_another_amount_or_fee_than_the_opening_is_parked(shop: Shop, provider: Notifying) -> None:
    """A dispute that is lost in part, or a fee that is said at its end: nothing of it is recorded, and nothing lost."""
    payment = shop.pay(shop.place(("MUG", 1)))
    deliver(shop, disputed(shop, provider, payment, NotificationKind.DISPUTE_OPENED, "dp_1"))
    opened = shop.present(PaymentState, payment.payment_id)
    others: tuple[dict[str, Any], ...] = ({"amount_minor": 60}, {"fee_minor": 40}, {"currency": "EUR"})
    for kind in (NotificationKind.DISPUTE_WON, NotificationKind.DISPUTE_LOST):
        whole = disputed(shop, provider, payment, kind, "dp_1")
        for number, other in enumerate(others):
            settlement = deliver(shop, msgspec.structs.replace(whole, id=f"{whole.id}-{number}", **other))
            assert settlement.state is PARKED and "recorded" in settlement.reason, settlement
    assert shop.present(PaymentState, payment.payment_id) == opened
    # It need not say them.
    says_less = msgspec.structs.replace(whole, amount_minor=None, fee_minor=0, currency=None)
    assert deliver(shop, says_less).state is APPLIED
    assert shop.present(PaymentState, payment.payment_id).charged_back_minor == 100


def test_disputed_money_is_not_refunded_as_well(shop: Shop, provider: Notifying) -> None:
    order = shop.place(("MUG", 1))
    payment = shop.pay(order)
    for name in ("dp_1", "dp_2"):
        assert deliver(shop, disputed(shop, provider, payment, NotificationKind.DISPUTE_OPENED, name)).state is APPLIED
    with pytest.raises(OverRefundError, match=r"3\.99 of what was captured"):
        shop.request_refund(payment, (order.lines[0], 1))
    deliver(shop, disputed(shop, provider, payment, NotificationKind.DISPUTE_WON, "dp_1"))
    deliver(shop, disputed(shop, provider, payment, NotificationKind.DISPUTE_WON, "dp_2"))
    assert shop.refund(shop.present(PaymentState, payment.payment_id), (order.lines[0], 1)).amount_minor == 599
    # Nor by a refund that was requested before the dispute was opened; it may be paid when the dispute is won.
    other_order = shop.place(("MUG", 1))
    other = shop.pay(other_order)
    refund = shop.request_refund(other, (other_order.lines[0], 1))
    complete = CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id)
    deliver(shop, disputed(shop, provider, other, NotificationKind.DISPUTE_OPENED, "dp_1"))
    with pytest.raises(OverRefundError, match=r"disputes or took back 1\.00; with 5\.99 refunded"):
        shop.do(complete)
    assert provider.taken[other.provider_reference] == 599, "the provider was not asked"
    deliver(shop, disputed(shop, provider, other, NotificationKind.DISPUTE_WON, "dp_1"))
    assert shop.do(complete).status is RefundStatus.COMPLETED
    # An end that contradicts the recorded one, and a dispute over more than was taken, change nothing.
    contradicts = disputed(shop, provider, payment, NotificationKind.DISPUTE_LOST, "dp_1")
    assert "recorded as won" in deliver(shop, contradicts).reason
    too_much = msgspec.structs.replace(
        disputed(shop, provider, payment, NotificationKind.DISPUTE_OPENED, "dp_3"), amount_minor=10_000
    )
    assert deliver(shop, too_much).state is PENDING
    assert shop.present(PaymentState, payment.payment_id).disputed_minor == 0
