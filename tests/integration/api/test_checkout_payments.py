"""Ways of paying a checkout: one request orders and pays, or says what the customer must do; once per key."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from api.declaring import Role
from api.routes.checkouts import key_of, order_number_of
from contracts.ids import uuid7
from oltp.commands.body import body_hash, field_hashes
from oltp.commands.place_order import OrderLineInput, PaidBy, PlaceOrder
from tests.integration.api.conftest import Asked
from tests.integration.shop import LOCATION, MERCHANT

ADMIN = Role.ADMIN
TRANSFER = {"payment_method": "bank_transfer"}


def checkout(asked: Asked, *lines: tuple[str, int], key: str | None = None, **more: Any) -> Any:
    goods = [{"sku": sku, "quantity": quantity} for sku, quantity in lines]
    body = {"lines": goods, "location_id": LOCATION, "customer_id": "c1", **more}
    return asked.ask("POST", "/v1/checkouts", key=key, json=body)


def order_of(key: str, line: tuple[str, int], **more: Any) -> PlaceOrder:
    """Return the command of a checkout with one line."""
    return PlaceOrder(
        merchant_id=MERCHANT,
        order_number=order_number_of(MERCHANT, key),
        customer_id="c1",
        location_id=LOCATION,
        lines=[OrderLineInput(sku=line[0], quantity=line[1])],
        **more,
    )


def gift_card(asked: Asked, amount_minor: int) -> str:
    body = {"amount_minor": amount_minor, "funding": "granted", "source": "admin", "reason": "thanks"}
    made = asked.ask("POST", "/v1/gift-cards", ADMIN, json=body)
    card: str = made.json()["gift_card_id"]
    return card


def ordered(asked: Asked) -> int:
    count: int = asked.shop.query("select count(*) from oltp.orders")[0][0]
    return count


def test_one_request_orders_and_says_what_to_transfer(asked: Asked) -> None:
    key = str(uuid7())
    answer = checkout(asked, ("MUG", 2), key=key, **TRANSFER)
    assert answer.status_code == 201, answer.text
    order, payment, due = (answer.json()[name] for name in ("order", "payment", "due"))
    assert (payment["status"], payment["captured_minor"], order["total_minor"]) == ("pending", 0, 1_792)
    assert due == {
        "action": "transfer",
        "amount_minor": 1_792,
        "currency": "GBP",
        "pay_to": payment["pay_to"],
        "reference": payment["provider_reference"],
        "pay_by": payment["expires_at"],
        "reason": None,
    }
    asked_at, pay_by = (datetime.fromisoformat(payment[name]) for name in ("authorized_at", "expires_at"))
    assert pay_by - asked_at == timedelta(days=7) and due["pay_to"] and due["reference"].startswith("tran_")

    before = ordered(asked)
    again = checkout(asked, ("MUG", 2), key=key, **TRANSFER)
    assert again.json() == answer.json() and again.headers["idempotency-replayed"] == "true"
    assert ordered(asked) == before, "one order, one payment"
    held = asked.ask("POST", f"/v1/orders/{order['order_id']}/fulfillments", ADMIN, json={"location_id": LOCATION})
    assert held.status_code == 409
    receipt = {"provider_reference": "rcpt_1", "amount_minor": 1_792}
    came = asked.ask("POST", f"/v1/payments/{payment['payment_id']}/receipts", ADMIN, json=receipt)
    assert (came.json()["status"], came.json()["captured_minor"]) == ("captured", 1_792)
    # The stored answer is what was said then; what holds now is read.
    assert checkout(asked, ("MUG", 2), key=key, **TRANSFER).json() == answer.json()


@pytest.mark.parametrize("other", [{}, {"payment_token": "tok_card"}, {"payment_method": "direct_debit"}])
def test_a_key_pays_in_one_way_only(asked: Asked, other: dict[str, Any]) -> None:
    if "payment_method" in other:
        other = {**other, "payment_token": "tok_mandate"}
    key = str(uuid7())
    first = checkout(asked, ("MUG", 1), key=key, **TRANSFER).json()
    answer = checkout(asked, ("MUG", 1), key=key, **other)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-conflict")
    assert answer.json()["differing_fields"] == sorted({"payment_method", *other})
    status = asked.ask("GET", f"/v1/orders/{first['order']['order_id']}/status").json()
    assert [payment["status"] for payment in status["payments"]] == ["pending"]


def test_a_key_that_has_paid_does_not_say_that_nothing_was_paid(asked: Asked) -> None:
    key, token = str(uuid7()), {"payment_token": "tok_card"}
    first = checkout(asked, ("MUG", 1), key=key, **token)
    assert first.json()["payment"]["status"] == "authorized"
    answer = checkout(asked, ("MUG", 1), key=key)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-conflict")
    assert answer.json()["differing_fields"] == ["payment_token"]
    assert checkout(asked, ("MUG", 1), key=key, **token).json() == first.json()
    unpaid = str(uuid7())
    placed = checkout(asked, ("MUG", 1), key=unpaid)
    again = checkout(asked, ("MUG", 1), key=unpaid)
    assert (again.status_code, again.json()) == (201, placed.json()) and again.headers["idempotency-replayed"] == "true"


CARD = {"payment_token": "tok_card"}
GIFT = {"payment_method": "gift_card", "gift_card_id": str(uuid7())}


@pytest.mark.parametrize(
    ("first", "then", "differing"),
    [
        (CARD, {}, "payment_token"),
        ({}, CARD, "payment_token"),
        (CARD, {"payment_token": "tok_other"}, "payment_token"),
        # The first one cannot pay, so it has left no payment under the key.
        (GIFT, {**GIFT, "gift_card_id": str(uuid7())}, "gift_card_id"),
    ],
)
def test_a_key_pays_with_one_means_only(
    asked: Asked, first: dict[str, Any], then: dict[str, Any], differing: str
) -> None:
    key = str(uuid7())
    answer = checkout(asked, ("MUG", 1), key=key, **first)
    path = f"/v1/orders/{answer.json()['order']['order_id']}/status"
    before = asked.ask("GET", path).json()
    refused = checkout(asked, ("MUG", 1), key=key, **then)
    assert (refused.status_code, refused.json()["differing_fields"]) == (422, [differing])
    assert asked.ask("GET", path).json() == before, "nothing was paid by another body"
    again = checkout(asked, ("MUG", 1), key=key, **first)
    assert again.json() == answer.json()


def test_a_process_that_died_after_the_order_awaits_its_payment_at_the_next_attempt(asked: Asked) -> None:
    key = str(uuid7())
    command = order_of(key, ("PIN", 3), payment_method=PaidBy.BANK_TRANSFER)
    placed = asked.services.pods.execute(command, idempotency_key=f"checkout/{key_of(key)}/order").answer
    answer = checkout(asked, ("PIN", 3), key=key, **TRANSFER)
    assert answer.json()["order"]["order_id"] == placed.order_id
    assert answer.json()["payment"]["status"] == "pending" and "idempotency-replayed" not in answer.headers


def test_a_direct_debit_waits_for_the_bank_and_a_card_for_nothing(asked: Asked) -> None:
    debit = checkout(asked, ("MUG", 1), payment_method="direct_debit", payment_token="tok_mandate").json()
    due = debit["due"]
    assert (due["action"], due["amount_minor"], due["pay_to"]) == ("wait", debit["order"]["total_minor"], None)
    assert (due["reference"], due["pay_by"]) == (
        debit["payment"]["provider_reference"],
        debit["payment"]["expires_at"],
    )
    card = checkout(asked, ("MUG", 1), payment_method="card", payment_token="tok_card").json()
    assert card["payment"]["status"] == "authorized" and "due" not in card
    declined = checkout(asked, ("MUG", 1), payment_method="card", payment_token="tok_declined").json()
    assert (declined["payment"]["status"], declined["due"]["action"]) == ("declined", "pay")
    assert declined["due"]["amount_minor"] == declined["order"]["total_minor"]


def test_a_gift_card_pays_wholly_or_in_part_or_leaves_the_order_to_be_paid(asked: Asked) -> None:
    whole = checkout(asked, ("MUG", 1), payment_method="gift_card", gift_card_id=gift_card(asked, 1_193)).json()
    assert (whole["payment"]["status"], whole["payment"]["captured_minor"]) == (
        "captured",
        1_193,
    ) and "due" not in whole
    key, card = str(uuid7()), gift_card(asked, 400)
    part = checkout(asked, ("MUG", 1), key=key, payment_method="gift_card", gift_card_id=card).json()
    assert part["payment"]["captured_minor"] == 400
    assert (part["due"]["action"], part["due"]["amount_minor"], part["due"]["currency"]) == ("pay", 793, "GBP")
    assert checkout(asked, ("MUG", 1), key=key, payment_method="gift_card", gift_card_id=card).json() == part
    rest = asked.ask("POST", f"/v1/orders/{part['order']['order_id']}/payments", json={})
    assert (rest.json()["status"], rest.json()["authorized_minor"]) == ("authorized", 793)
    for empty in (card, str(uuid7())):
        refused = checkout(asked, ("MUG", 1), payment_method="gift_card", gift_card_id=empty)
        assert refused.status_code == 201 and refused.json()["payment"] is None
        due = refused.json()["due"]
        assert (due["action"], due["amount_minor"]) == ("pay", 1_193) and due["reason"]


def test_a_gift_card_that_cannot_pay_leaves_what_is_open_when_it_is_asked_again(asked: Asked) -> None:
    """The repeated request says what holds now: the order was paid in part, then wholly, in another way."""
    key, body = str(uuid7()), {"payment_method": "gift_card", "gift_card_id": str(uuid7())}
    first = checkout(asked, ("MUG", 1), key=key, **body).json()
    assert first["due"]["amount_minor"] == 1_193
    path = f"/v1/orders/{first['order']['order_id']}/payments"
    for amount_minor, due in ((393, 800), (800, None)):
        assert asked.ask("POST", path, json={"amount_minor": amount_minor}).status_code == 201
        again = checkout(asked, ("MUG", 1), key=key, **body)
        assert (again.status_code, again.json()["order"]) == (201, first["order"])
        assert again.json().get("due", {}).get("amount_minor") == due


def test_a_free_order_is_not_paid_in_any_way(asked: Asked) -> None:
    fee_minor = asked.ask("GET", "/v1/merchant").json()["shipping_fee_minor"]
    assert asked.ask("PATCH", "/v1/merchant", ADMIN, json={"shipping_fee_minor": 0}).status_code == 200
    answer = checkout(asked, ("FREE", 1), **TRANSFER).json()
    assert asked.ask("PATCH", "/v1/merchant", ADMIN, json={"shipping_fee_minor": fee_minor}).status_code == 200
    assert answer["order"]["total_minor"] == 0
    assert answer["payment"] is None and "due" not in answer


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"payment_method": "card"}, "needs payment_token"),
        ({"payment_method": "direct_debit"}, "needs payment_token"),
        ({"payment_method": "gift_card"}, "needs gift_card_id"),
        ({"payment_method": "bank_transfer", "payment_token": "tok_card"}, "takes no payment_token"),
        ({"payment_method": "gift_card", "gift_card_id": str(uuid7()), "payment_token": "t"}, "takes no payment_token"),
        ({"gift_card_id": str(uuid7())}, "needs the payment_method gift_card"),
        ({"payment_method": "cheque"}, "payment_method"),
    ],
)
def test_what_does_not_fit_together_orders_nothing(asked: Asked, body: dict[str, Any], problem: str) -> None:
    before = ordered(asked)
    answer = checkout(asked, ("MUG", 1), **body)
    assert answer.status_code in (400, 422) and problem in answer.text
    assert ordered(asked) == before


def test_without_a_method_it_is_as_before(asked: Asked) -> None:
    """The answer has no new field, and the stored hash of a body from before still matches."""
    for body in ({}, {"payment_token": "tok_card"}):
        assert set(checkout(asked, ("PIN", 1), **body).json()) == {"order", "payment"}
    command = PlaceOrder(
        merchant_id="m1",
        order_number="W1",
        customer_id=None,
        location_id="main",
        lines=[OrderLineInput(sku="MUG", quantity=2)],
    )
    assert body_hash(command) == "044a97defab79a0143193e6d377992b529c95ac01cdb7bf7059e0fd4bbceb50f"
    assert "payment_method" not in field_hashes(command)


@pytest.mark.parametrize(("body", "status"), [(CARD, "authorized"), ({}, None)])
def test_a_checkout_from_before_its_token_was_compared_is_still_the_same(
    asked: Asked, body: dict[str, Any], status: str | None
) -> None:
    key = str(uuid7())
    first = checkout(asked, ("MUG", 1), key=key, **body)
    order_key = f"checkout/{key_of(key)}/order"
    command = order_of(key, ("MUG", 1))
    names = PlaceOrder.COMPARED_LATER
    hashes = {name: value for name, value in field_hashes(command).items() if name not in names}
    (pod,) = asked.settings.pods
    with psycopg.connect(pod.owner_dsn) as connection:
        stored = connection.execute(
            "update oltp.idempotency_keys set body_hash = %s, field_hashes = %s where idempotency_key = %s",
            (body_hash(command), Jsonb(hashes), order_key),
        )
        assert stored.rowcount == 1
    again = checkout(asked, ("MUG", 1), key=key, **body)
    assert (again.status_code, again.json()) == (201, first.json()) and again.headers["idempotency-replayed"] == "true"
    payment = again.json()["payment"]
    assert (payment and payment["status"]) == status
    other = checkout(asked, ("MUG", 2), key=key, **body)
    assert (other.status_code, other.json()["differing_fields"]) == (422, ["lines"])
