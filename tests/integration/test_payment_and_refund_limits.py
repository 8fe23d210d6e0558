"""Payments and refunds on a real pod: limits, declines, repeats, and races for the same money or units."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec
import psycopg
import pytest

from contracts.errors import (
    ConflictError,
    GatewayAmountError,
    GatewayDeclinedError,
    GatewayError,
    IllegalTransitionError,
    InputError,
    InsufficientStockError,
    NotFoundError,
    OverCaptureError,
    OverRefundError,
    TieoutError,
)
from contracts.events.adjustment import AdjustmentKind
from contracts.events.order import OrderState, OrderStatus
from contracts.events.payment import PaymentState, PaymentStatus
from contracts.events.refund import RefundStatus
from contracts.ids import uuid7
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.execute import build_command_pod, execute
from oltp.commands.fail_refund import FailRefund
from oltp.commands.place_order import OrderLineInput, PlaceOrder, PriceOverride
from oltp.commands.release_payment import ReleasePayment
from oltp.commands.request_refund import RefundLineInput, RequestRefund
from oltp.commands.reverse_refund import ReverseRefund
from oltp.commands.void_payment import VoidPayment
from oltp.gateway import DECLINED_TOKEN, EmbeddedGateway, Moved
from tests.conftest import MakePod
from tests.integration.shop import LOCATION, MERCHANT, NOW, Shop, adjustment, open_shop, place_command


class RecordingGateway(EmbeddedGateway):
    """The embedded provider, which records calls, remembers what it took, and can be made not to answer after it acted.

    It stands for one outside of this process. `meanwhile`: what somebody else does between the authorization and its
    record.
    """

    is_local = False

    def __init__(self) -> None:
        super().__init__()
        self.moved: dict[str, Moved] = {}
        self.meanwhile: Callable[[], object] | None = None
        self.calls: list[tuple[str, str]] = []
        self.is_silent = False

    def authorize(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        answer = super().authorize(
            idempotency_key=idempotency_key, amount_minor=amount_minor, currency=currency, payment_token=payment_token
        )
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return self.moved.setdefault(f"auth {idempotency_key}", answer)

    def capture(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> Moved:
        reference = hashlib.sha256(idempotency_key.encode()).hexdigest()
        taken = Moved(reference=reference, amount_minor=amount_minor)
        taken = self.moved.setdefault(f"capt {idempotency_key}", taken)
        self._answer("capt", idempotency_key, authorization_reference)
        return taken

    def _answer(self, step: str, idempotency_key: str, subject: str) -> str:
        answer = super()._answer(step, idempotency_key, subject)
        self.calls.append((step, idempotency_key))
        if self.is_silent:
            raise GatewayError("The provider did not answer.")
        return answer


@pytest.fixture
def gateway() -> RecordingGateway:
    return RecordingGateway()


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the calls in threads that start together; return results or the errors they foresaw."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return call()
        except TieoutError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def test_captures_in_parts_up_to_the_authorization(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    payment = shop.authorize(order, 1000)
    payment = shop.capture(payment, 400)
    payment = shop.capture(payment)
    assert (payment.captured_minor, payment.version, len(payment.captures)) == (1000, 3, 2)
    with pytest.raises(OverCaptureError):
        shop.capture(payment, 1)
    rest = shop.capture(shop.authorize(order))
    assert payment.captured_minor + rest.captured_minor == order.total_minor
    with pytest.raises(ConflictError, match="nothing open"):
        shop.authorize(order)


@pytest.mark.parametrize("amount_minor", [0, -1])
def test_amounts_are_above_nothing(shop: Shop, amount_minor: int) -> None:
    order = shop.place(("MUG", 2))
    payment = shop.authorize(order)
    with pytest.raises(InputError):
        shop.capture(payment, amount_minor)
    with pytest.raises(InputError):
        shop.authorize(shop.place(("MUG", 1)), amount_minor)


def test_voiding_frees_the_order_for_another_payment(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    payment = shop.authorize(order)
    voided = shop.do(VoidPayment(merchant_id=MERCHANT, payment_id=payment.payment_id))
    assert voided.status is PaymentStatus.VOIDED
    for command in (CapturePayment, VoidPayment):
        with pytest.raises(IllegalTransitionError):
            shop.do(command(merchant_id=MERCHANT, payment_id=payment.payment_id))
    captured = shop.pay(order)
    with pytest.raises(IllegalTransitionError):
        shop.do(VoidPayment(merchant_id=MERCHANT, payment_id=captured.payment_id))


@pytest.mark.parametrize("is_by_provider", [False, True])
def test_a_released_authorization_frees_the_rest_of_the_order(
    shop: Shop, gateway: RecordingGateway, is_by_provider: bool
) -> None:
    order = shop.place(("MUG", 2))
    payment = shop.capture(shop.authorize(order), 500)
    release = ReleasePayment(
        merchant_id=MERCHANT, payment_id=payment.payment_id, is_released_by_provider=is_by_provider
    )
    released = shop.do(release, "release")
    assert released.released_minor == order.total_minor - 500
    assert (("void", f"{MERCHANT}/release") in gateway.calls) is not is_by_provider
    with pytest.raises(OverCaptureError):
        shop.capture(payment)
    assert shop.pay(order).captured_minor == order.total_minor - 500


def test_a_declined_card_is_recorded_and_holds_nothing(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    declined = shop.authorize(order, payment_token=DECLINED_TOKEN)
    assert (declined.status, declined.authorized_minor) == (PaymentStatus.DECLINED, 0)
    with pytest.raises(IllegalTransitionError):
        shop.capture(declined)
    assert shop.pay(order).captured_minor == order.total_minor


def test_a_declined_capture_changes_nothing_and_a_declined_refund_fails(make_pod: MakePod) -> None:
    settings = make_pod()
    with build_command_pod(settings, clock=lambda: NOW) as pod:
        shop = open_shop(pod, settings)
        order = shop.place(("MUG", 2))
        payment = shop.authorize(order)
        strict = EmbeddedGateway(declined=frozenset({payment.provider_reference}))
        with build_command_pod(settings, clock=lambda: NOW, gateway=strict) as other:
            declining = Shop(pod=other, settings=settings, variants=shop.variants, keys=shop.keys)
            with pytest.raises(GatewayDeclinedError):
                declining.capture(payment)
            payment = shop.capture(payment)
            refund = declining.refund(payment, (order.lines[0], 1))
        assert (refund.status, refund.completed_at) == (RefundStatus.FAILED, None)
        assert "declined" in (refund.failure_reason or "")
        assert shop.refund(payment, (order.lines[0], 2)).amount_minor == order.total_minor
        shop.assert_identities()


def captured_in_silence(shop: Shop, gateway: RecordingGateway) -> tuple[OrderState, PaymentState, CapturePayment]:
    """Capture a payment under the key `capture`; the provider does not answer."""
    order = shop.place(("MUG", 2))
    payment = shop.authorize(order)
    command = CapturePayment(merchant_id=MERCHANT, payment_id=payment.payment_id)
    gateway.is_silent = True
    with pytest.raises(GatewayError):
        shop.do(command, "capture")
    gateway.is_silent = False
    return order, payment, command


def test_a_provider_that_answers_late_is_asked_again_under_the_same_key(shop: Shop, gateway: RecordingGateway) -> None:
    order, _, command = captured_in_silence(shop, gateway)
    captured = shop.do(command, "capture")
    assert shop.do(command, "capture") == captured
    assert captured.captured_minor == order.total_minor
    assert [key for step, key in gateway.calls if step == "capt"] == [f"{MERCHANT}/capture"] * 2


def test_a_capture_is_recorded_with_what_the_provider_took(shop: Shop, gateway: RecordingGateway) -> None:
    order, payment, command = captured_in_silence(shop, gateway)
    # What was asked for counts as taken, so that it can be recorded whenever the answer comes.
    with pytest.raises(ConflictError, match="refund instead"):
        shop.cancel(order, (order.lines[0], 1))
    with pytest.raises(OverCaptureError):
        shop.capture(payment)
    with pytest.raises(ConflictError, match="being asked to capture"):
        shop.do(VoidPayment(merchant_id=MERCHANT, payment_id=payment.payment_id))
    assert shop.do(command, "capture").captured_minor == order.total_minor


def test_another_amount_than_was_asked_for_is_never_recorded(shop: Shop, gateway: RecordingGateway) -> None:
    payment = shop.authorize(shop.place(("MUG", 2)))
    command = CapturePayment(merchant_id=MERCHANT, payment_id=payment.payment_id)
    gateway.moved[f"capt {MERCHANT}/capture"] = Moved(reference="c", amount_minor=1)
    with pytest.raises(GatewayAmountError, match="a person must look"):
        shop.do(command, "capture")
    assert shop.present(PaymentState, payment.payment_id).captured_minor == 0


def test_a_refund_is_paid_once_whatever_keys_complete_it(shop: Shop, gateway: RecordingGateway) -> None:
    order = shop.place(("MUG", 2))
    refund = shop.request_refund(shop.pay(order), (order.lines[0], 1))
    command = CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id)
    gateway.is_silent = True
    with pytest.raises(GatewayError):
        shop.do(command, "one worker")
    gateway.is_silent = False
    assert shop.do(command, "another worker").status is RefundStatus.COMPLETED
    assert {key for step, key in gateway.calls if step == "refd"} == {f"{MERCHANT}/refund/{refund.refund_id}"}


def test_an_authorization_that_came_late_is_voided_for_good(shop: Shop, gateway: RecordingGateway) -> None:
    order = shop.place(("MUG", 2))
    gateway.meanwhile = lambda: shop.cancel(order, (order.lines[0], 1))
    command = AuthorizePayment(merchant_id=MERCHANT, order_id=order.order_id)
    late = shop.do(command, "late")
    assert (late.status, late.authorized_minor) == (PaymentStatus.DECLINED, 0)
    assert ("void", f"{MERCHANT}/late/void") in gateway.calls
    assert shop.do(command, "late") == late
    assert shop.pay(order).captured_minor == order.total_minor // 2


def test_refunds_stay_within_payment_and_line(shop: Shop) -> None:
    order = shop.place(("MUG", 3), ("PIN", 3))
    mugs, pins = order.lines
    payment = shop.capture(shop.authorize(order, mugs.total_minor))
    first = shop.request_refund(payment, (mugs, 2))
    with pytest.raises(OverRefundError, match="1 can still be refunded"):
        shop.request_refund(payment, (mugs, 2))
    with pytest.raises(OverRefundError, match="of what was captured"):
        shop.request_refund(payment, (mugs, 1), (pins, 3))
    shop.do(FailRefund(merchant_id=MERCHANT, refund_id=first.refund_id, failure_reason="account closed"))
    assert shop.refund(payment, (mugs, 3)).amount_minor == mugs.total_minor
    assert shop.present(PaymentState, payment.payment_id).refunded_minor == mugs.total_minor
    with pytest.raises(OverRefundError):
        shop.request_refund(payment, (pins, 1))
    with pytest.raises(NotFoundError):
        shop.request_refund(payment, (shop.place(("MUG", 1)).lines[0], 1))


def test_a_refund_is_settled_once(shop: Shop) -> None:
    order = shop.place(("MUG", 3))
    payment = shop.pay(order)
    refund = shop.refund(payment, (order.lines[0], 1))
    for command in (
        CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id),
        FailRefund(merchant_id=MERCHANT, refund_id=refund.refund_id, failure_reason="late"),
    ):
        with pytest.raises(IllegalTransitionError):
            shop.do(command)


def test_restocked_units_return_to_where_they_left(shop: Shop) -> None:
    order = shop.place(("MUG", 3))
    payment = shop.pay(order)
    with pytest.raises(ConflictError, match="0 left the stock"):
        shop.request_refund(payment, (order.lines[0], 1), is_restocked=True)
    shop.fulfill(order, (order.lines[0], 2))
    shop.refund(payment, (order.lines[0], 1), is_restocked=True)
    shop.refund(payment, (order.lines[0], 1))
    assert shop.stock("MUG") == (99, 0)
    returned = shop.query(
        "select location_id, quantity, order_id::text from oltp.stock_movements where kind = 'returned'"
    )
    assert returned == [(LOCATION, 1, order.order_id)]


def test_refunded_units_are_neither_shipped_nor_held(shop: Shop) -> None:
    order = shop.place(("MUG", 3), ("PIN", 2))
    mugs, pins = order.lines
    payment = shop.pay(order)
    shop.refund(payment, (mugs, 1))
    assert shop.stock("MUG") == (100, 2)
    requested = shop.request_refund(payment, (mugs, 1))
    with pytest.raises(ConflictError, match="2 units asked for, 1 open and not refunded"):
        shop.fulfill(order, (mugs, 2))
    shipped = shop.fulfill(order)
    assert {line.order_line_id: line.quantity for line in shipped.lines} == {
        mugs.order_line_id: 1,
        pins.order_line_id: 2,
    }
    assert shop.stock("MUG") == (99, 1)
    shop.do(FailRefund(merchant_id=MERCHANT, refund_id=requested.refund_id, failure_reason="account closed"))
    shop.fulfill(order)
    assert (shop.stock("MUG"), shop.stock("PIN")) == ((98, 0), (98, 0))
    with pytest.raises(ConflictError):
        shop.fulfill(order)
    shop.refund(payment, (mugs, 2), is_restocked=True)
    assert shop.stock("MUG") == (100, 0)


def test_an_order_whose_goods_were_all_refunded_has_ended(shop: Shop) -> None:
    order = shop.place(("MUG", 2))
    payment = shop.pay(order)
    shop.refund(payment, (order.lines[0], 1))
    assert shop.present(OrderState, order.order_id).status is OrderStatus.PLACED
    shop.refund(payment, (order.lines[0], 1))
    ended = shop.present(OrderState, order.order_id)
    assert (ended.status, ended.lines[0].withdrawn_quantity) == (OrderStatus.CANCELLED, 2)
    assert shop.stock("MUG") == (100, 0)
    for step in (shop.fulfill, shop.cancel):
        with pytest.raises(IllegalTransitionError):
            step(order)


def give_all_back(shop: Shop, order: OrderState, payment: PaymentState, amount_minor: int) -> None:
    """Refund all units of the order's only line for what was captured of it."""
    (line,) = order.lines
    lines = [RefundLineInput(order_line_id=line.order_line_id, quantity=line.quantity, amount_minor=amount_minor)]
    refund = shop.do(
        RequestRefund(merchant_id=MERCHANT, payment_id=payment.payment_id, lines=lines, reason="changed their mind")
    )
    shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id))


def test_an_order_that_has_ended_owes_no_more_than_was_captured(shop: Shop) -> None:
    """Captured in part and given back: the rest is cancelled, with its tax, and can be charged in no way."""
    order = shop.place(("MUG", 2))
    payment = shop.capture(shop.authorize(order), 500)
    give_all_back(shop, order, payment, 500)
    ended = shop.present(OrderState, order.order_id)
    assert (ended.status, ended.lines[0].withdrawn_quantity) == (OrderStatus.CANCELLED, 2)
    (refund,) = (state for (kind, _), state in shop.fold().items() if kind == "refund")
    assert (order.total_minor, order.tax_minor, refund.tax_minor) == (1_198, 200, 83)
    assert (ended.cancelled_minor, ended.cancelled_tax_minor) == (698, 117)
    with pytest.raises(OverCaptureError):
        shop.capture(payment)
    shop.do(ReleasePayment(merchant_id=MERCHANT, payment_id=payment.payment_id))
    with pytest.raises(ConflictError, match="nothing open to pay"):
        shop.authorize(order)
    # The refund fails late: what was captured may be given back again, and no more.
    shop.do(ReverseRefund(merchant_id=MERCHANT, refund_id=refund.refund_id, failure_reason="closed"))
    again = shop.refund(shop.present(PaymentState, payment.payment_id), (order.lines[0], 2))
    assert (again.amount_minor, again.tax_minor) == (500, 83)
    shop.assert_identities()


def test_an_order_from_before_units_were_withdrawn_ends_when_it_is_cancelled(shop: Shop) -> None:
    order = shop.place(("MUG", 2), shipping=None)
    payment = shop.pay(order)
    shop.refund(payment, (order.lines[0], 2))
    with psycopg.connect(shop.settings.owner_dsn) as connection:
        connection.execute("select oltp.declare_bypass('as an earlier release left it')")
        connection.execute("update oltp.order_lines set withdrawn_quantity = 0")
        connection.execute("update oltp.orders set status = 'placed'")
    with pytest.raises(ConflictError, match="no open units"):
        shop.fulfill(order)
    assert shop.cancel(order).status is OrderStatus.CANCELLED
    assert shop.stock("MUG") == (100, 0)


def test_a_line_paid_by_two_payments_is_given_back_over_both(shop: Shop) -> None:
    order = shop.place(("MUG", 1))
    mug = order.lines[0]
    first = shop.capture(shop.authorize(order, 400))
    second = shop.pay(order)
    with pytest.raises(OverRefundError):
        shop.refund(first, (mug, 1))
    refunds = []
    for payment, quantity, amount_minor in ((first, 0, 400), (second, 1, None)):
        line = RefundLineInput(order_line_id=mug.order_line_id, quantity=quantity, amount_minor=amount_minor)
        refund = shop.do(
            RequestRefund(merchant_id=MERCHANT, payment_id=payment.payment_id, lines=[line], reason="returned")
        )
        refunds.append(shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id)))
    assert sum(refund.amount_minor for refund in refunds) == order.total_minor
    assert sum(refund.tax_minor for refund in refunds) == order.tax_minor
    assert shop.stock("MUG") == (100, 0)


def test_units_without_an_amount_give_back_what_they_cost(shop: Shop) -> None:
    price = PriceOverride(unit_price_micro=24_500_000, source="test", reason="round figures")
    line = OrderLineInput(sku="FREE", quantity=3, price_override=price)
    order = shop.do(
        PlaceOrder(
            merchant_id=MERCHANT, order_number="A", customer_id=None, location_id=LOCATION, lines=[line], shipping=[]
        )
    )
    payment = shop.pay(order)
    unit_minor = order.total_minor // 3
    amounts = []
    for amount_minor in (1000, None, None):
        asked = RefundLineInput(order_line_id=order.lines[0].order_line_id, quantity=1, amount_minor=amount_minor)
        refund = shop.do(
            RequestRefund(merchant_id=MERCHANT, payment_id=payment.payment_id, lines=[asked], reason="returned")
        )
        amounts.append(shop.do(CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id)).amount_minor)
    assert amounts == [1000, unit_minor, unit_minor]


def test_what_is_captured_is_not_cancelled(shop: Shop) -> None:
    order = shop.place(("MUG", 3))
    payment = shop.pay(order)
    with pytest.raises(ConflictError, match="refund instead"):
        shop.cancel(order, (order.lines[0], 1))
    assert shop.refund(payment, (order.lines[0], 1)).status is RefundStatus.COMPLETED


def test_one_winner_when_many_want_the_last_units(shop: Shop) -> None:
    calls = [
        partial(
            execute, shop.pod, place_command([("MUG", 60), ("PIN", 1)], f"R{number}"), idempotency_key=f"race-{number}"
        )
        for number in range(6)
    ]
    results = at_once(calls)
    assert sum(isinstance(result, InsufficientStockError) for result in results) == 5
    assert shop.stock("MUG") == (100, 60)


def test_orders_of_the_same_goods_in_any_order_do_not_deadlock(shop: Shop) -> None:
    skus = ["MUG", "PIN", "PEN", "FREE"]
    calls = [
        partial(
            execute,
            shop.pod,
            place_command([(sku, 1) for sku in (skus if number % 2 else skus[::-1])], f"D{number}"),
            idempotency_key=f"deadlock-{number}",
        )
        for number in range(8)
    ]
    assert not [result for result in at_once(calls) if isinstance(result, TieoutError)]
    assert [shop.stock(sku)[1] for sku in skus] == [8, 8, 8, 8]


def test_money_is_captured_authorized_and_refunded_once_whoever_is_first(shop: Shop) -> None:
    order = shop.place(("MUG", 3))
    results = [result for result in at_once([lambda: shop.authorize(order)] * 4) if isinstance(result, PaymentState)]
    authorized = [payment for payment in results if payment.status is PaymentStatus.AUTHORIZED]
    assert len(authorized) == 1
    captured = at_once([lambda: shop.capture(authorized[0])] * 4)
    assert sum(isinstance(result, OverCaptureError) for result in captured) == 3
    refunds = at_once([lambda: shop.refund(authorized[0], (order.lines[0], 2))] * 4)
    assert sum(isinstance(result, OverRefundError) for result in refunds) == 3


def test_a_cancellation_and_a_capture_never_both_take_the_same_units(shop: Shop) -> None:
    for _ in range(4):
        order = shop.place(("MUG", 3))
        payment = shop.authorize(order)
        at_once([partial(shop.capture, payment), partial(shop.cancel, order, (order.lines[0], 1))])
    shop.assert_identities()


def test_one_key_from_many_threads_has_one_effect(shop: Shop) -> None:
    command = place_command([("MUG", 1)], "SAME")
    results = at_once([lambda: execute(shop.pod, command, idempotency_key="same")] * 6)
    assert len({result.order_id for result in results}) == 1
    assert shop.stock("MUG") == (100, 1)


def test_an_adjustment_is_exact_to_the_micro_unit(shop: Shop) -> None:
    booked = shop.do(adjustment(MERCHANT, -11_062_060_001, kind=AdjustmentKind.BAD_DEBT, sku="B"))
    assert booked.amount_minor * 10_000 + booked.rounding_micro == -11_062_060_001
    assert booked.adjusted_at == NOW


def test_an_adjustment_carries_the_tax_in_it(shop: Shop) -> None:
    returned = AdjustmentKind.UNREFERENCED_RETURN
    command = adjustment(MERCHANT, -18_000_000, kind=returned, quantity=-3, sku="B", tax_category="standard")
    booked = shop.do(command)
    assert (booked.amount_minor, booked.tax_minor, booked.jurisdiction, booked.rate_ppm) == (-1800, -300, "GB", 200_000)
    with pytest.raises(InputError, match="declares no tax rate for category 'rare'"):
        shop.do(msgspec.structs.replace(command, tax_category="rare"))


def test_a_command_without_tax_has_the_hash_that_it_had_before(shop: Shop) -> None:
    command = adjustment("m", 1)
    assert "tax_category" not in msgspec.json.decode(msgspec.json.encode(command))
    assert "tax_category" in msgspec.json.decode(
        msgspec.json.encode(msgspec.structs.replace(command, tax_category="x"))
    )


def test_commands_on_unknown_ids_say_so(shop: Shop) -> None:
    with pytest.raises(NotFoundError):
        shop.do(CapturePayment(merchant_id=MERCHANT, payment_id=str(uuid7())))
    with pytest.raises(InputError, match="UUID"):
        shop.do(CapturePayment(merchant_id=MERCHANT, payment_id="nope"))
