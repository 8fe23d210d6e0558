"""An order's way over HTTP: checkout, payment, shipping, refund, the customer's page; and what is repeated."""

from __future__ import annotations

import time
from typing import Any

import pytest

from api.declaring import Role
from contracts.ids import uuid7
from tests.integration.api.conftest import Asked
from tests.integration.shop import LOCATION, MERCHANT

ADMIN = Role.ADMIN


def checkout(asked: Asked, *lines: tuple[str, int], key: str | None = None, **more: Any) -> Any:
    body = {
        "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines],
        "location_id": LOCATION,
        "customer_id": "c1",
        "payment_token": "tok_card",
        **more,
    }
    return asked.ask("POST", "/v1/checkouts", key=key, json=body)


def test_an_order_goes_from_checkout_to_refund(asked: Asked) -> None:
    answer = checkout(asked, ("MUG", 2), ("GIFTWRAP", 1))
    assert answer.status_code == 201, answer.text
    order, payment = answer.json()["order"], answer.json()["payment"]
    assert payment["status"] == "authorized" and payment["authorized_minor"] == order["total_minor"]

    captured = asked.ask("POST", f"/v1/payments/{payment['payment_id']}/captures", ADMIN, json={})
    assert captured.json()["captured_minor"] == order["total_minor"]
    shipped = asked.ask("POST", f"/v1/orders/{order['order_id']}/fulfillments", ADMIN, json={"location_id": LOCATION})
    assert shipped.status_code == 201
    line = order["lines"][0]
    refund = asked.ask(
        "POST",
        f"/v1/payments/{payment['payment_id']}/refunds",
        ADMIN,
        json={"lines": [{"order_line_id": line["order_line_id"], "quantity": 1}], "reason": "broken"},
    ).json()
    done = asked.ask("POST", f"/v1/refunds/{refund['refund_id']}/completions", ADMIN, json={})
    assert done.json()["status"] == "completed"

    status = asked.ask("GET", f"/v1/orders/{order['order_id']}/status").json()
    assert status["order"]["status"] == "fulfilled"
    assert [one["status"] for one in status["refunds"]] == ["completed"]
    assert status["payments"][0]["refunded_minor"] == refund["amount_minor"]


def test_a_repeated_command_gets_its_stored_answer_and_says_so(asked: Asked) -> None:
    key = str(uuid7())
    first = checkout(asked, ("PIN", 3), key=key)
    again = checkout(asked, ("PIN", 3), key=key)
    assert again.json() == first.json() and again.status_code == 201
    assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers


def test_another_body_under_one_key_names_the_fields_that_differ(asked: Asked) -> None:
    key = str(uuid7())
    checkout(asked, ("PIN", 3), key=key)
    answer = checkout(asked, ("PIN", 4), key=key, customer_id="c2")
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/idempotency-conflict"
    assert answer.json()["differing_fields"] == ["customer_id", "lines"]


def test_a_command_without_a_key_is_refused(asked: Asked) -> None:
    answer = asked.ask("POST", "/v1/checkouts", headers={"Idempotency-Key": ""}, json={"lines": [], "location_id": "x"})
    assert answer.status_code == 400 and answer.json()["type"] == "/problems/key-missing"


def test_a_declined_card_leaves_the_order_for_another_card(asked: Asked) -> None:
    answer = checkout(asked, ("MUG", 1), payment_token="tok_declined").json()
    assert answer["payment"]["status"] == "declined"
    path = f"/v1/orders/{answer['order']['order_id']}/payments"
    assert asked.ask("POST", path, json={"payment_token": "tok_card"}).json()["status"] == "authorized"


def test_too_few_units_are_a_problem_of_their_own(asked: Asked) -> None:
    answer = checkout(asked, ("MUG", 100_000))
    assert answer.status_code == 409 and answer.json()["type"] == "/problems/insufficient-stock"
    assert not answer.json()["retryable"]


def test_a_version_that_is_gone_changes_nothing(asked: Asked) -> None:
    order_id = checkout(asked, ("PIN", 2)).json()["order"]["order_id"]
    path = f"/v1/orders/{order_id}"
    read = asked.ask("GET", path)
    assert asked.ask("GET", path, headers={"If-None-Match": read.headers["etag"]}).status_code == 304
    line = {"order_line_id": read.json()["lines"][0]["order_line_id"], "quantity": 1}
    cancel: dict[str, Any] = {"json": {"lines": [line]}, "headers": {"If-Match": read.headers["etag"]}}
    first = asked.ask("POST", f"{path}/cancellations", ADMIN, **cancel)
    assert first.status_code == 200 and first.headers["etag"] != read.headers["etag"]
    late = asked.ask("POST", f"{path}/cancellations", ADMIN, **cancel)
    assert late.status_code == 412 and late.json()["type"] == "/problems/precondition"
    assert asked.ask("GET", path).json()["cancelled_minor"] == first.json()["cancelled_minor"]


def test_what_is_not_there_has_no_version(asked: Asked) -> None:
    path, body = f"/v1/products/{uuid7()}", {"title": "New"}
    answer = asked.ask("PUT", path, ADMIN, json=body, headers={"If-Match": '"1"'})
    assert answer.status_code == 412
    made = asked.ask("PUT", path, ADMIN, json=body)
    assert made.status_code == 200 and made.headers["etag"] == '"1"'
    changed = asked.ask("PUT", path, ADMIN, json={"title": "Newer"}, headers={"If-Match": '"1"'})
    assert changed.json()["title"] == "Newer" and changed.headers["etag"] == '"2"'


def test_a_read_with_a_position_holds_the_write(asked: Asked) -> None:
    """No consumer runs here: the view is behind, so OLTP must answer, and say so."""
    customer = f"c-{uuid7()}"
    answer = checkout(asked, ("PEN", 10), customer_id=customer)
    path = f"/v1/customers/{customer}/account"
    stale = asked.ask("GET", path)
    assert stale.headers["tieout-source"] == "account_view" and stale.json()["orders"] == []
    fresh = asked.ask("GET", path, headers={"Tieout-Position": answer.headers["tieout-position"]})
    assert fresh.headers["tieout-source"] == "oltp"
    (order,) = fresh.json()["orders"]
    assert order["total_minor"] == answer.json()["order"]["total_minor"]
    assert [payment["status"] for payment in fresh.json()["payments"]] == ["authorized"]
    forged = asked.ask("GET", path, headers={"Tieout-Position": "AAAA"})
    assert forged.status_code == 400


@pytest.fixture
def spare(asked: Asked) -> str:
    made = asked.ask("POST", "/v1/keys", ADMIN, json={"role": "storefront", "label": "spare"}).json()
    asked.keys[Role.STOREFRONT, "spare"] = made["text"]
    key_id: str = made["key"]["key_id"]
    return key_id


def test_a_revoked_key_opens_nothing_within_a_second(asked: Asked, spare: str) -> None:
    assert asked.ask("GET", "/v1/merchant", merchant_id="spare").json()["merchant_id"] == MERCHANT
    assert asked.ask("POST", f"/v1/keys/{spare}/revocations", ADMIN, json={}).status_code == 200
    revoked_at = time.monotonic()
    while asked.ask("GET", "/v1/merchant", merchant_id="spare").status_code == 200:
        assert time.monotonic() - revoked_at < 1
    assert asked.ask("GET", "/v1/merchant", merchant_id="spare").json()["type"] == "/problems/unauthenticated"


def test_a_rotated_key_works_until_its_overlap_ends(asked: Asked, spare: str) -> None:
    key = str(uuid7())
    path = f"/v1/keys/{spare}/rotations"
    made = asked.ask("POST", path, ADMIN, key=key, json={"overlap_seconds": 3_600}).json()
    assert asked.ask("GET", "/v1/merchant", merchant_id="spare").status_code == 200
    asked.keys[Role.STOREFRONT, "rotated"] = made["text"]
    assert asked.ask("GET", "/v1/merchant", merchant_id="rotated").status_code == 200
    again = asked.ask("POST", path, ADMIN, key=key, json={"overlap_seconds": 3_600})
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == {"key": {**made["key"], "last_used_at": again.json()["key"]["last_used_at"]}, "text": None}
    asked.ask("POST", path, ADMIN, json={"overlap_seconds": 0})
    (old,) = [item for item in asked.ask("GET", "/v1/keys", ADMIN).json()["items"] if item["key_id"] == spare]
    assert old["expires_at"] is not None
